"""What a policy did with its bars: its trades, and how often it chose what."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.judging.metrics import completed_trades
from pipelines.reporting.report_inputs import SeedTrace

_CONDITIONAL = ("risk_multiple", "stop_distance_bps", "take_profit_r")
HEADS = ("direction_value", *_CONDITIONAL)
_STEPS = 60  # of a histogram, at the most


@dataclass(frozen=True)
class SeedTrades:
    """The trades of one seed, and its choices.

    Attributes:
        name: of the seed.
        trades: from `pipelines.judging.metrics.completed_trades`, with `return_fraction`, the
            profit over the notional at entry.
        levels: columns `trade`, `time`, `stop_price` and `take_profit_price`: where the bracket of
            a trade began, and where it moved, as known at the close of the bar that opens at
            `time`; sorted by trade.
        choices: of each head, how often each of its values was chosen, by value. Of the direction
            all actions count, of the others those that opened a position.
        sides: bars at whose close the account was short and long; in all others it is flat.
    """

    name: str
    trades: pd.DataFrame
    levels: pd.DataFrame
    choices: dict[str, pd.Series]
    sides: tuple[int, int]

    @classmethod
    def of(cls, seed: SeedTrace) -> "SeedTrades":
        """From the rows of its traces."""
        rows = seed.rows
        trades = completed_trades(rows, seed.cfg)
        notional = trades["units"].abs() * trades["entry_price"]
        trades["return_fraction"] = trades["profit"] / notional
        opened = rows[rows["entry_units"].fillna(0.0) != 0.0]
        choices = {HEADS[0]: _counts(rows[HEADS[0]])}
        choices |= {head: _counts(opened[head]) for head in _CONDITIONAL}
        side = np.sign(rows["position"].to_numpy())
        short, long = (int((side == which).sum()) for which in (-1, 1))
        return cls(seed.name, trades, _levels(rows, trades), choices, (short, long))


def _counts(values: pd.Series) -> pd.Series:
    return values.value_counts().sort_index()


def _levels(rows: pd.DataFrame, trades: pd.DataFrame) -> pd.DataFrame:
    """Where each trade's bracket began, and where it moved; trades within one bar show none."""
    first, last = trades["entry_row"].to_numpy(), trades["exit_row"].to_numpy()
    lengths = np.maximum(last - first, 0)
    number = np.repeat(np.arange(len(trades)), lengths)
    start = np.cumsum(lengths) - lengths
    row = np.arange(lengths.sum()) - np.repeat(start - first, lengths)
    prices = rows[["stop_price", "take_profit_price"]].to_numpy()[row]
    moved = np.ones(len(row), bool)
    same = (prices[1:] == prices[:-1]) | (np.isnan(prices[1:]) & np.isnan(prices[:-1]))
    moved[1:] = ~same.all(axis=1) | (number[1:] != number[:-1])
    moved &= ~np.isnan(prices).all(axis=1)
    found = rows[["timestamp", "stop_price", "take_profit_price"]].iloc[row[moved]]
    return found.rename(columns={"timestamp": "time"}).assign(trade=number[moved])


def pooled(seeds: Sequence[SeedTrades]) -> pd.DataFrame:
    """The trades of all seeds, with a column `seed`, in the order of their entries."""
    frames = [seed.trades.assign(seed=seed.name) for seed in seeds]
    return pd.concat(frames).sort_values("entry_time", kind="stable", ignore_index=True)


def top_share(profits: pd.Series) -> float | None:
    """What the five best trades earned over what all that earned did; None if none earned."""
    gained = profits[profits > 0.0]
    return float(gained.nlargest(5).sum() / gained.sum()) if len(gained) else None


def by_group(trades: pd.DataFrame, group: np.ndarray, groups: int) -> pd.DataFrame:
    """Trades, mean return and the half-width of its 95 % interval, of every group.

    Args:
        trades: with `return_fraction`.
        group: int [trades], from 0.
        groups: how many there are; one without trades has no mean.

    Returns:
        Columns `trades`, `mean`, `half_width`, a row a group. The half-width is that of Student's t
        for so many trades, and not defined under two.
    """
    from scipy.special import stdtrit  # loads for a while

    returns = trades["return_fraction"].groupby(group)
    errors = stdtrit(returns.size() - 1.0, 0.975)
    found = pd.DataFrame(
        {"trades": returns.size(), "mean": returns.mean(), "half_width": errors * returns.sem()}
    ).reindex(range(groups))
    return found.assign(trades=found["trades"].fillna(0).astype(int))


def by_reason(trades: pd.DataFrame) -> pd.DataFrame:
    """Trades, mean return and profit by the reason of the exit, the most frequent first."""
    found = trades.groupby("exit_reason").agg(
        trades=("profit", "size"), mean=("return_fraction", "mean"), profit=("profit", "sum")
    )
    return found.sort_values("trades", ascending=False, kind="stable")


def holding_steps(bars_held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How long positions were held, in steps that double.

    Args:
        bars_held: of each trade, at least 1.

    Returns:
        The longest of each step, in bars, 1, 2, 4, ...; and the trades in it.
    """
    step = np.ceil(np.log2(np.maximum(bars_held, 1))).astype(int)
    counts = np.bincount(step)
    return 2 ** np.arange(len(counts)), counts


def return_steps(returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A histogram of returns whose steps begin at zero, so that no bar holds gains and losses.

    Args:
        returns: fractions, at least one of them.

    Returns:
        Edges, float64 [steps + 1], and counts, int64 [steps]. The outermost take what lies beyond
        the 0.5 % and 99.5 % quantiles.
    """
    low, high = (float(q) for q in np.quantile(returns, [0.005, 0.995]))
    low, high = min(low, 0.0), max(high, 0.0)
    width = nice_step((high - low) / _STEPS) if high > low else 1e-4
    edges = width * np.arange(np.floor(low / width), np.ceil(high / width) + 1.0)
    if len(edges) < 2:
        edges = width * np.array([-1.0, 0.0, 1.0])
    inside = np.clip(returns, edges[0], np.nextafter(edges[-1], edges[0]))
    return edges, np.histogram(inside, edges)[0]


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `least`."""
    power = 10.0 ** np.floor(np.log10(least))
    return float(power * next(m for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= least * 0.999))
