"""The same actions under other costs: what is left of a result if costs were lower, or higher."""

import copy
from collections.abc import Sequence

import numpy as np
import pandas as pd

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS
from pipelines.held_out.recorded import Recording, play_recording
from pipelines.judging.metrics import in_order, join_parts
from pipelines.judging.period_returns import growth_curve

_COSTS = ("taker_fee_bps", "maker_fee_bps", "slippage_bps", "stop_slippage_bps")
_EQUITY = FILLS.index("equity")


def scaled_costs(cfg: EnvConfig, multiple: float) -> EnvConfig:
    """The same simulator with all fees and all slippage times `multiple`; funding is no cost of it.

    The limits of a configuration are not asked: they keep a training off costs at which its stops
    make no sense, and four times the costs is a question, not a market to train on.

    Args:
        cfg: the simulator's parameters.
        multiple: 0 for no costs.
    """
    scaled = copy.copy(cfg)
    for key in _COSTS:
        setattr(scaled, key, getattr(cfg, key) * multiple)
    return scaled


def order_cost_bps(cfg: EnvConfig) -> float:
    """What a market order costs, fee and slippage of one side, in bps of the notional."""
    return cfg.taker_fee_bps + cfg.slippage_bps


def growth_at_costs(
    recordings: Sequence[Recording], tables: Sequence[BarTable], multiple: float
) -> pd.Series:
    """Growth of an account whose actions are played again at `multiple` times the costs.

    Costs change the size of orders, and which stops are hit, as they would have. An account that
    was ruined has no actions after that; one that is ruined now stays so.

    Args:
        recordings: traces of the account, in the order of time.
        tables: the bars of each.
        multiple: of fees and slippage.

    Returns:
        As from `pipelines.judging.period_returns.growth_curve`.
    """
    parts = [_rows(*pair, multiple) for pair in zip(recordings, tables, strict=True)]
    return growth_curve(in_order(join_parts(parts)), recordings[0].cfg.initial_cash)


def _rows(recording: Recording, table: BarTable, multiple: float) -> pd.DataFrame:
    """The rows of a trace with the equity that they would have had."""
    cfg = scaled_costs(recording.cfg, multiple)
    equity = play_recording(recording, table, cfg)[:, _EQUITY]
    episode = np.repeat(np.arange(len(recording.length)), recording.length)
    return recording.rows.assign(
        equity=_ruined_stay_so(equity, episode, cfg.ruin_equity_frac * cfg.initial_cash)
    )


def _ruined_stay_so(equity: np.ndarray, episode: np.ndarray, ruin: float) -> np.ndarray:
    """From the first bar of an episode at or under `ruin` on, the equity of that bar."""
    ruined = pd.Series(equity <= ruin)
    after = ruined.groupby(episode).cumsum().groupby(episode).shift(fill_value=0) > 0
    return pd.Series(equity).mask(after).ffill().to_numpy()
