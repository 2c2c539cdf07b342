"""What a source has answered: bars of one month, sorted, unique, closed, and what was wrong."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from envs.bar_files import OHLCV, time_text
from envs.mending import DataReport, refuse_insane_prices, sort_and_merge

_MERGED = ("out_of_order_rows", "identical_duplicates", "revised_volumes")
# What may have been wrong with an answer, in words.
FOUND = {
    "out_of_order_rows": "rows out of order, sorted",
    "identical_duplicates": "identical duplicates, dropped",
    "revised_volumes": "duplicates with another volume, the first kept",
    "cut_bars": "bars cut short by the exchange, left out",
    "off_grid": "bars that open at odd seconds, left out",
}


@dataclass(frozen=True)
class Span:
    """Opening times of bars from `start` until before `end`, int ns since 1970 UTC."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not self.start < self.end:
            raise ValueError(f"{self.start} is not before {self.end}")

    def holds(self, other: "Span") -> bool:
        """Whether nothing of the other span lies outside."""
        return self.start <= other.start and other.end <= self.end

    def hull(self, other: "Span") -> "Span":
        """The shortest span that holds both."""
        return Span(min(self.start, other.start), max(self.end, other.end))

    @property
    def text(self) -> str:
        """For a person."""
        return f"{time_text(self.start)} .. {time_text(self.end)}"


@dataclass(frozen=True)
class FreshBars:
    """The answer of a source.

    Attributes:
        frame: `time_ns` (int64) and `OHLCV` (float64), sorted, of closed bars only.
        since: all that the source has from here ..
        until: .. to here is in `frame`; int ns since 1970 UTC.
        origin: what was read: addresses with their hashes, or the exchange.
        found: counts of what was mended.
    """

    frame: pd.DataFrame
    since: int
    until: int
    origin: list[str] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)


def check_fresh(
    frame: pd.DataFrame, interval_ns: int, source: str
) -> tuple[pd.DataFrame, Counter[str]]:
    """Sort the rows of one answer, drop repeated ones and those off the grid.

    Args:
        frame: as `envs.bar_files.read_bars` has it.
        interval_ns: length of a bar.
        source: name of the answer, for messages.

    Returns:
        `time_ns` and `OHLCV`; and counts of what was mended.

    Raises:
        ValueError: for a bar that cannot have happened, and for two bars of one time with
            different prices, naming the rows.
    """
    time, rows = frame["time_ns"].to_numpy(), frame.index.to_numpy()
    refuse_insane_prices(frame[list(OHLCV)].to_numpy(), time, rows, source)
    on_grid = time % interval_ns == 0
    report = DataReport()
    frame = sort_and_merge(frame[on_grid], source, report)
    counts = Counter({name: getattr(report, name) for name in _MERGED if getattr(report, name)})
    counts += Counter({"off_grid": int((~on_grid).sum())})
    return frame[["time_ns", *OHLCV]].reset_index(drop=True), counts


def within(frame: pd.DataFrame, span: Span) -> pd.DataFrame:
    """The bars that open within a span."""
    time = frame["time_ns"]
    return frame[(time >= span.start) & (time < span.end)].reset_index(drop=True)


def no_bars() -> pd.DataFrame:
    """A frame without a bar."""
    columns = {name: np.empty(0) for name in OHLCV}
    return pd.DataFrame({"time_ns": np.empty(0, dtype=np.int64), **columns})


def month_spans(span: Span) -> list[tuple[str, Span]]:
    """Cut a span at the borders of months, UTC: ``"2025-01"`` and its part of the span."""
    first = pd.Timestamp(span.start, tz="UTC").tz_localize(None).to_period("M")
    last = pd.Timestamp(span.end - 1, tz="UTC").tz_localize(None).to_period("M")
    parts = []
    for month in pd.period_range(first, last, freq="M"):
        begin, end = (
            int(p.start_time.tz_localize("UTC").as_unit("ns").value) for p in (month, month + 1)
        )
        parts.append((str(month), Span(max(begin, span.start), min(end, span.end))))
    return parts
