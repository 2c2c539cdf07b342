"""What is wrong with bars: refused with the row, or mended by a fixed rule and counted."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from envs.bar_files import OHLCV, time_text
from envs.timeframes import length_ns

_PRICES = list(OHLCV[:4])
_MIN_INTERVAL_NS = 1_000_000_000
_LONGEST_HOLES = 20


@dataclass
class DataReport:
    """Counts of what the loader found and mended. All values are plain, for JSON.

    `rows` of the file, less `identical_duplicates`, `revised_volumes`, `quotes`, `forming_bars` and
    `partial_last_bar`, plus `filled_bars`, are the `bars` of the table.
    """

    rows: int = 0
    bars: int = 0
    interval_s: float = 0.0
    first: str = ""
    last: str = ""
    naive_times: int = 0
    newest_first: bool = False
    out_of_order_rows: int = 0
    identical_duplicates: int = 0
    revised_volumes: int = 0
    quotes: int = 0
    forming_bars: int = 0
    partial_last_bar: int = 0
    filled_bars: int = 0
    filled_holes: int = 0
    holes: int = 0
    missing_bars: int = 0
    segments: int = 0
    zero_volume_bars: int = 0
    largest_move_frac: float = 0.0
    largest_move_at: str = ""
    longest_holes: list[dict[str, Any]] = field(default_factory=list)


def refuse_insane_prices(
    ohlcv: np.ndarray, time_ns: np.ndarray, rows: np.ndarray, source: str
) -> None:
    """Refuse bars that cannot have happened.

    Args:
        ohlcv: float64 [N, 5].
        time_ns: int64 [N], for the message.
        rows: int64 [N], row of each bar in its file, for the message.
        source: name of the file, for the message.

    Raises:
        ValueError: for the first bar with a missing, infinite or non-positive price, a negative or
            missing volume, a low above open or close, or a high under open or close.
    """
    open_, high, low, close, volume = ohlcv.T
    body_low, body_high = np.minimum(open_, close), np.maximum(open_, close)
    with np.errstate(invalid="ignore"):
        problems = [
            (~np.isfinite(ohlcv).all(axis=1), "a value is missing or infinite"),
            ((ohlcv[:, :4] <= 0).any(axis=1), "a price is not above 0"),
            (volume < 0, "the volume is negative"),
            (low > high, "low is above high"),
            (low > body_low, "low is above open or close"),
            (high < body_high, "high is under open or close"),
        ]
    wrong = np.logical_or.reduce([mask for mask, _ in problems])
    if wrong.any():
        at = int(wrong.argmax())
        reason = next(text for mask, text in problems if mask[at])
        values = ", ".join(f"{name}={ohlcv[at, i]:.12g}" for i, name in enumerate(OHLCV))
        where = f"{source}, row {rows[at]} ({time_text(time_ns[at])})"
        raise ValueError(f"{where}: {reason}: {values}")


def find_interval(time_ns: np.ndarray, wanted: str | None, source: str) -> int:
    """Length of a bar in ns: the most common step of the sorted times, or `wanted`.

    Raises:
        ValueError: for fewer than two different times; for times without a common step (under half
            of the steps are equal); for a wanted interval that no two bars are apart.
    """
    steps = np.diff(np.unique(time_ns))
    if not len(steps):
        raise ValueError(f"{source}: the interval cannot be found, the file has one time only")
    values, counts = np.unique(steps, return_counts=True)
    common = int(values[counts.argmax()])
    if wanted is not None:
        interval = length_ns(wanted)
        if interval not in values:
            raise ValueError(
                f"{source}: no two bars that follow each other are data.interval={wanted!r} apart; "
                f"the most common step is {pd.Timedelta(common, 'ns')}, and bars are not resampled"
            )
        return interval
    if 2 * counts.max() < len(steps) or common < _MIN_INTERVAL_NS:
        raise ValueError(
            f"{source}: the interval cannot be found: the most common step, "
            f"{pd.Timedelta(common, 'ns')}, is that of {counts.max()} of {len(steps)} bars; at "
            "least half of them and a second are needed. Set data.interval if the bars are sparse"
        )
    return common


def oldest_first(frame: pd.DataFrame, report: DataReport) -> pd.DataFrame:
    """Turn a file around that is written newest bar first, so that the order of writing is kept."""
    steps = np.diff(frame["time_ns"].to_numpy())
    report.newest_first = bool((steps < 0).sum() > (steps > 0).sum())
    return frame[::-1] if report.newest_first else frame


def drop_quotes(
    frame: pd.DataFrame, interval_ns: int, source: str, report: DataReport
) -> pd.DataFrame:
    """Drop rows off the grid of the interval that are no bars, in the file's order.

    Some sources end every download with the last price, stamped with the second of the download:
    open, high, low and close equal, volume 0. Such a quote is dropped wherever it is (files made
    of several downloads have them within), and so is the bar just before it in the file that
    contains its time: it was still being formed when it was written. The last bar of all may be
    off the grid whatever it holds: it is dropped as partial.

    Raises:
        ValueError: for any other row off the grid.
    """
    time = frame["time_ns"].to_numpy()
    phases, counts = np.unique(time % interval_ns, return_counts=True)
    off = time % interval_ns != phases[counts.argmax()]
    flat = (frame["high"] == frame["low"]).to_numpy() & (frame["volume"] == 0).to_numpy()
    last = off & ~flat & (time == time.max())
    wrong = off & ~flat & ~last
    if wrong.any():
        at = int(wrong.argmax())
        grid = pd.Timedelta(interval_ns, "ns")
        raise ValueError(
            f"{source}, row {frame.index[at]} ({time_text(time[at])}): the time is off the grid of "
            f"{grid} on which {counts.max()} of {len(time)} rows lie"
        )
    quotes = off & flat
    ahead = np.diff(time, append=time[-1])
    follows = np.append(quotes[1:], False)
    forming = follows & ~off & (ahead > 0) & (ahead < interval_ns)
    report.quotes += int(quotes.sum())
    report.forming_bars += int(forming.sum())
    report.partial_last_bar += int(last.sum())
    return frame[~(off | forming)]


def sort_and_merge(frame: pd.DataFrame, source: str, report: DataReport) -> pd.DataFrame:
    """Sort by time and merge rows of one time.

    Identical rows are merged. Rows with equal prices and another volume are a volume that the
    source revised later: the first in the file is kept, for it is what was known at the time.

    Raises:
        ValueError: for two rows of one time with different prices, naming both.
    """
    time = frame["time_ns"].to_numpy()
    report.out_of_order_rows += int((time < np.maximum.accumulate(time)).sum())
    frame = frame.sort_values("time_ns", kind="stable")
    time, rows = frame["time_ns"].to_numpy(), frame.index.to_numpy()
    # A stable sort keeps the file's order, so each row is compared with the first of its time.
    _, first, inverse = np.unique(time, return_index=True, return_inverse=True)
    kept = first[inverse]
    repeated = kept != np.arange(len(time))
    prices, volume = frame[_PRICES].to_numpy(), frame["volume"].to_numpy()
    conflict = (prices != prices[kept]).any(axis=1)
    if conflict.any():
        at = int(conflict.argmax())
        raise ValueError(
            f"{source}, rows {rows[kept[at]]} and {rows[at]} ({time_text(time[at])}): two bars of "
            f"one time, their prices differ: {prices[kept[at]].tolist()}, {prices[at].tolist()}"
        )
    revised = repeated & (volume != volume[kept])
    report.revised_volumes += int(revised.sum())
    report.identical_duplicates += int((repeated & ~revised).sum())
    return frame[~repeated]


def fill_and_segment(
    time_ns: np.ndarray, ohlcv: np.ndarray, interval_ns: int, fill_gap_bars: int, report: DataReport
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fill short holes with flat bars at the last close, and number the segments between long ones.

    Args:
        time_ns: int64 [N], strictly ascending, on the interval's grid.
        ohlcv: float64 [N, 5].
        interval_ns: length of a bar.
        fill_gap_bars: most missing bars of a hole that is filled.
        report: counts are added to it.

    Returns:
        `time_ns` int64 [M], `ohlcv` float64 [M, 5], `segment` int64 [M], and `filled` bool [M],
        whether the bar was made here; M >= N.
    """
    missing = np.diff(time_ns) // interval_ns - 1
    filled = np.where(missing <= fill_gap_bars, missing, 0)
    repeats = np.append(filled + 1, 1)
    source = np.repeat(np.arange(len(time_ns)), repeats)
    nth = np.arange(len(source)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    long_hole = np.append(False, missing > fill_gap_bars)
    segment = np.cumsum(long_hole, dtype=np.int64)[source]
    bars = ohlcv[source]
    bars[nth > 0, :4] = bars[nth > 0, 3:4]
    bars[nth > 0, 4] = 0.0
    report.filled_holes = int((filled > 0).sum())
    report.filled_bars = int(filled.sum())
    holes = np.flatnonzero(long_hole)
    report.holes = len(holes)
    report.missing_bars = int(missing[holes - 1].sum())
    report.segments = len(holes) + 1
    report.longest_holes = _longest_holes(time_ns, missing, holes)
    return time_ns[source] + nth * interval_ns, bars, segment, nth > 0


def _longest_holes(
    time_ns: np.ndarray, missing: np.ndarray, holes: np.ndarray
) -> list[dict[str, Any]]:
    """The longest holes first; `holes` are the rows after them."""
    longest = holes[np.argsort(-missing[holes - 1], kind="stable")][:_LONGEST_HOLES]
    return [
        {
            "after": time_text(time_ns[at - 1]),
            "before": time_text(time_ns[at]),
            "missing_bars": int(missing[at - 1]),
        }
        for at in longest
    ]
