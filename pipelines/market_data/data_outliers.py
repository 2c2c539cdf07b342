"""Bars that reach further than bars around them do: bad prints, or the market's worst minutes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from envs.bar_files import time_text
from envs.bars import Bars

# A bar is an outlier if its reach is so many times the usual one.
TIMES_USUAL = 20.0
# Bars around a bar, itself in the middle, whose median reach is the usual one there.
USUAL_BARS = 1001
# One basis point: the usual reach is taken for no less, or every trade of a still market would do.
LEAST_USUAL = 1e-4
# A bar whose price is back, but for this fraction of its reach, within so many bars, came back.
BACK_FRAC = 0.2
BACK_BARS = 2
MAX_OUTLIERS = 100


@dataclass(frozen=True)
class Outliers:
    """Bars that reach far.

    Attributes:
        total: how many there are.
        came_back: how many of them the price came back from at once: often a bad print.
        rows: at most `MAX_OUTLIERS`, the furthest first: `time`, `price` reached, `reach_frac`
            from the close before (signed), `times_usual`, and `came_back`.
        rule: how they were found, in words.
    """

    total: int
    came_back: int
    rows: list[dict[str, Any]]
    rule: str


def find_outliers(bars: Bars) -> Outliers:
    """Find them.

    The *reach* of bar t is the larger of ``high_t / close_{t-1} - 1`` and ``1 - low_t /
    close_{t-1}``; the first bar of a segment has none. The *usual* reach is the median over the
    `USUAL_BARS` bars around, at least `LEAST_USUAL`.
    """
    time, (_, high, low, close, _) = bars.time_ns, bars.ohlcv.T
    up, down = np.zeros_like(close), np.zeros_like(close)
    same = np.append(False, np.diff(bars.segment) == 0)
    up[1:] = high[1:] / close[:-1] - 1.0
    down[1:] = 1.0 - low[1:] / close[:-1]
    reach = np.where(same, np.maximum(up, down), 0.0)
    usual = pd.Series(reach).rolling(USUAL_BARS, center=True, min_periods=1).median()
    ratio = reach / usual.to_numpy().clip(min=LEAST_USUAL)
    at = np.flatnonzero(ratio > TIMES_USUAL)
    back = _came_back(close, bars.segment, reach, at)
    order = np.argsort(-ratio[at], kind="stable")[:MAX_OUTLIERS]
    rows = [
        {
            "time": time_text(time[i]),
            "price": float(high[i] if up[i] >= down[i] else low[i]),
            "reach_frac": float(up[i] if up[i] >= down[i] else -down[i]),
            "times_usual": float(ratio[i]),
            "came_back": bool(came),
        }
        for i, came in zip(at[order], back[order], strict=True)
    ]
    return Outliers(len(at), int(back.sum()), rows, _rule())


def _came_back(
    close: np.ndarray, segment: np.ndarray, reach: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """Whether the price was near the close before an outlier again, by the bar or soon after."""
    back = np.zeros(len(at), dtype=bool)
    for later in range(BACK_BARS + 1):
        then = (at + later).clip(max=len(close) - 1)
        away = np.abs(close[then] / close[at - 1] - 1.0)
        back |= (segment[then] == segment[at]) & (away <= BACK_FRAC * reach[at])
    return back


def _rule() -> str:
    return (
        "A bar's reach is the way from the close before it to its high or its low, the further "
        f"one. It is an outlier if that is more than {TIMES_USUAL:g} times the usual: the median "
        f"of the {USUAL_BARS:,} bars around it, at least {100 * LEAST_USUAL:g} %. It came back if "
        f"at most {BACK_FRAC:g} of the way was left at its own close, or at that of one of the "
        f"next {BACK_BARS}: more often a bad print, or an order that ate a thin book, than news. "
        "Nothing is done to outliers: a training sees them."
    )
