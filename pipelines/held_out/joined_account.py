"""One account that holds an equal share of several."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipelines.judging.period_returns import PeriodReturns


def join(curves: Mapping[str, pd.Series], returns: PeriodReturns) -> pd.Series:
    """Growth of an account whose shares in some others are made equal at every period's beginning.

    At the end of each period it is what the verdict judges: ``prod(1 + mean of the returns)``.

    Args:
        curves: growth of each account, by the bars' opening times.
        returns: the periods; the accounts may be among its columns or not.
    """
    growth = pd.concat(list(curves.values()), axis="columns", sort=True).ffill().fillna(1.0)
    times = pd.DatetimeIndex(growth.index)
    period = pd.DatetimeIndex(returns.values.index).searchsorted(times, side="right") - 1
    values = growth.to_numpy()
    begins = np.flatnonzero(np.diff(period, prepend=-1))
    base = np.concatenate([np.ones((1, values.shape[1])), values[begins[1:] - 1]])
    base = np.repeat(base, np.diff(np.append(begins, len(values))), axis=0)
    within = np.where(base > 0.0, values / np.where(base > 0.0, base, 1.0), 1.0).mean(axis=1)
    ends = within[np.append(begins[1:], len(values)) - 1]
    before = np.concatenate([[1.0], np.cumprod(ends)[:-1]])
    joint = within * np.repeat(before, np.diff(np.append(begins, len(values))))
    return pd.Series(joint, index=times)
