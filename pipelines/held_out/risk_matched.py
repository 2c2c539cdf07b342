"""Buy-and-hold with as much risk as the policy took."""

import numpy as np
import pandas as pd

from pipelines.judging.performance import bar_returns
from pipelines.judging.sharpe import deviation


def risk_matched(hold: pd.Series, policy: pd.Series) -> tuple[pd.Series, float]:
    """A constant share of the equity in buy-and-hold, as volatile as the policy.

    With ``h_t`` and ``p_t`` the returns of buy-and-hold and of the policy from bar to bar, the
    share is ``w = std(p) / std(h)`` and the curve ``prod(1 + w h_t)``. The share is restored at
    every bar and borrowed beyond 1, both for nothing, so the account has it easier than a real one;
    the costs within ``h_t`` are those of buy-and-hold.

    Args:
        hold: growth at every bar's close, from `pipelines.judging.period_returns.growth_curve`.
        policy: likewise, over the same bars; bars that it lacks, being ruined, are its last value.

    Returns:
        Growth at the close of every bar of `hold`, and the share; 0 if buy-and-hold never moved.
    """
    moves = bar_returns(hold.to_numpy())
    spread = deviation(moves)
    own = deviation(bar_returns(policy.reindex(hold.index).ffill().fillna(1.0).to_numpy()))
    share = own / spread if spread > 0.0 else 0.0
    growth = np.cumprod(np.maximum(1.0 + share * moves, 0.0))
    return pd.Series(growth, index=hold.index), share
