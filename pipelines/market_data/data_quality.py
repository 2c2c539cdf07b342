"""What a file of bars holds, measured: coverage, holes, duplicates, outliers, silent stretches.

Bars come from the loader, splits from the table that a training would build; nothing is cut or
mended here a second time.
"""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from envs.bar_files import OHLCV, time_text
from envs.bar_table import BarTable
from envs.bars import Bars
from pipelines.market_data.data_outliers import Outliers, find_outliers

# Rows of a table on the page and in the JSON: the worst ones.
MAX_ROWS = 100
_DAY_NS = 86_400 * 10**9


@dataclass(frozen=True)
class Listing:
    """A table of findings, the worst first or in the order of time.

    Attributes:
        total: how many there are.
        rows: at most `MAX_ROWS` of them, each with the same keys and plain values.
    """

    total: int
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class DataQuality:
    """Everything that the page shows, as plain values for JSON.

    Attributes:
        source_name: the file, or the folder.
        source_sha256: its hash.
        asset: the market's name.
        window, episode_bars: of the environment that the splits are made for.
        report: the loader's counts.
        present_bars, expected_bars: without those that fill a hole; and if nothing were missing.
        days: UTC date, bars present, and bars that a whole market would have.
        holes: `after`, `before`, `missing_bars`, `filled`, and `move_frac` of the price across.
        duplicates: `time`, the `rows` of the file, and `kind`.
        forming_duplicates: those of which a row was written while its bar was still being formed.
        outliers: bars that reach far, by the rule of `pipelines.market_data.data_outliers`.
        silent: stretches of at least two bars without volume: `first`, `last`, `bars`.
        silent_bars: bars without volume, those that fill a hole left out.
        segments: `first`, `last`, `bars`, `tradable_bars`, in the order of time.
        splits: by name what a training would use; empty if it would refuse. `embargo_bars` lie
            before it, in no split.
        refusal: why a training would refuse; empty if it would not.
    """

    source_name: str
    source_sha256: str
    asset: str
    window: int
    episode_bars: int
    report: dict[str, Any]
    present_bars: int
    expected_bars: int
    days: list[dict[str, Any]]
    holes: Listing
    duplicates: Listing
    forming_duplicates: int
    outliers: Outliers
    silent: Listing
    silent_bars: int
    segments: Listing
    splits: list[dict[str, Any]]
    refusal: str

    @property
    def coverage(self) -> float:
        """Bars present over bars that a market without a hole would have."""
        return self.present_bars / self.expected_bars

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"coverage_frac": self.coverage, **asdict(self)}


def find_holes(bars: Bars) -> Listing:
    """Every run of missing bars, filled or not, the longest first."""
    interval_ns = round(bars.interval_s * 1e9)
    at = np.flatnonzero(~bars.filled)
    time, close, open_ = bars.time_ns[at], bars.ohlcv[at, 3], bars.ohlcv[at, 0]
    missing = np.diff(time) // interval_ns - 1
    where = np.flatnonzero(missing)
    same = bars.segment[at[1:]] == bars.segment[at[:-1]]
    worst = where[np.argsort(-missing[where], kind="stable")][:MAX_ROWS]
    rows = [
        {
            "after": time_text(time[i]),
            "before": time_text(time[i + 1]),
            "missing_bars": int(missing[i]),
            "filled": bool(same[i]),
            "move_frac": float(open_[i + 1] / close[i] - 1.0),
        }
        for i in worst
    ]
    return Listing(len(where), rows)


def find_duplicates(frame: pd.DataFrame) -> tuple[Listing, int]:
    """Times that several rows of a file bear, and how many of them have different prices.

    The loader has let those pass only where a row was written while its bar was still being formed.
    """
    time = frame["time_ns"]
    repeated = frame[time.duplicated(keep=False)].sort_values("time_ns", kind="stable")
    groups = repeated.groupby("time_ns", sort=True)
    differs = (groups[list(OHLCV)].nunique() > 1).to_numpy()
    forming = differs[:, :4].any(axis=1)
    kinds = np.where(forming, "still being formed",
                     np.where(differs[:, 4], "another volume", "identical"))  # fmt: skip
    rows = [
        {
            "time": time_text(int(time_ns)),  # type: ignore[arg-type]
            "rows": [int(row) for row in group.index[:10]],
            "kind": str(kind),
        }
        for (time_ns, group), kind in zip(itertools.islice(groups, MAX_ROWS), kinds, strict=False)
    ]
    return Listing(groups.ngroups, rows), int(forming.sum())


def find_silent(bars: Bars) -> Listing:
    """Stretches of bars without volume within a segment, the longest first."""
    silent = bars.ohlcv[:, 4] == 0
    same = np.append(False, np.diff(bars.segment) == 0)
    begins = np.flatnonzero(silent & ~(np.append(False, silent[:-1]) & same))
    follows = np.append(silent[1:] & same[1:], False)
    ends = np.flatnonzero(silent & ~follows)
    lengths = ends - begins + 1
    long = np.flatnonzero(lengths >= 2)
    worst = long[np.argsort(-lengths[long], kind="stable")][:MAX_ROWS]
    rows = [
        {
            "first": time_text(bars.time_ns[begins[i]]),
            "last": time_text(bars.time_ns[ends[i]]),
            "bars": int(lengths[i]),
        }
        for i in worst
    ]
    return Listing(len(long), rows)


def count_days(bars: Bars) -> list[dict[str, Any]]:
    """Bars present on every UTC day from the first bar to the last, and how many there could be."""
    interval_ns = round(bars.interval_s * 1e9)
    time = bars.time_ns[~bars.filled]
    first_day, last_day = time[0] // _DAY_NS, time[-1] // _DAY_NS
    present = np.bincount(time // _DAY_NS - first_day, minlength=last_day - first_day + 1)
    edges = (np.arange(first_day, last_day + 2) * _DAY_NS).clip(time[0], time[-1] + interval_ns)
    before = -(-(edges - time[0]) // interval_ns)  # bars that open before each midnight
    dates = pd.to_datetime(np.arange(first_day, last_day + 1) * _DAY_NS, unit="ns")
    return [
        {"day": date.strftime("%Y-%m-%d"), "present": int(n), "expected": int(of)}
        for date, n, of in zip(dates, present, np.diff(before), strict=True)
    ]


def list_segments(bars: Bars, tradable: np.ndarray) -> Listing:
    """The unbroken runs of bars, in the order of time; the longest, if they are many.

    Args:
        bars: N bars.
        tradable: bool [N], whether a row has all its features.
    """
    begins = np.flatnonzero(np.diff(bars.segment, prepend=-1))
    ends = np.append(begins[1:], len(bars.segment))
    longest = np.sort(np.argsort(begins - ends, kind="stable")[:MAX_ROWS])
    counts = np.append(0, np.cumsum(tradable))
    rows = [
        {
            "segment": int(i) + 1,
            "first": time_text(bars.time_ns[begins[i]]),
            "last": time_text(bars.time_ns[ends[i] - 1]),
            "bars": int(ends[i] - begins[i]),
            "tradable_bars": int(counts[ends[i]] - counts[begins[i]]),
        }
        for i in longest
    ]
    return Listing(len(begins), rows)


def list_splits(table: BarTable) -> list[dict[str, Any]]:
    """What a training would use: the splits of its own table."""
    rows: list[dict[str, Any]] = []
    before = 0
    for name, (first, end) in table.meta.splits.items():
        runs = table.runs(name)
        least = table.meta.window + table.meta.episode_bars
        lengths = (runs[:, 1] - runs[:, 0]).tolist()
        rows.append(
            {
                "split": name,
                "first": time_text(int(table.timestamp[first])),
                "last": time_text(int(table.timestamp[end - 1])),
                "bars": end - first,
                "embargo_bars": first - before if rows else 0,
                "tradable_bars": int(table.tradable[first:end].sum()),
                "runs": len(lengths),
                "longest_run": max(lengths),
                "starts": sum(max(0, length - least + 1) for length in lengths),
            }
        )
        before = end
    return rows


def measure_quality(
    frame: pd.DataFrame,
    bars: Bars,
    tradable: np.ndarray,
    table: BarTable | None,
    *,
    names: tuple[str, int, int],
    refusal: str = "",
) -> DataQuality:
    """Measure a file.

    Args:
        frame: its rows as they were read.
        bars: N bars, as the loader has checked and mended them.
        tradable: bool [N], whether a row has all its features.
        table: what a training would use; None: it would refuse.
        names: the asset, and window and episode of the environment.
        refusal: why a training would refuse.
    """
    asset, window, episode_bars = names
    days = count_days(bars)
    duplicates, forming = find_duplicates(frame)
    return DataQuality(
        source_name=bars.source_name,
        source_sha256=bars.source_sha256,
        asset=asset,
        window=window,
        episode_bars=episode_bars,
        report=asdict(bars.report),
        present_bars=_total(days, "present"),
        expected_bars=_total(days, "expected"),
        days=days,
        holes=find_holes(bars),
        duplicates=duplicates,
        forming_duplicates=forming,
        outliers=find_outliers(bars),
        silent=find_silent(bars),
        silent_bars=int(((bars.ohlcv[:, 4] == 0) & ~bars.filled).sum()),
        segments=list_segments(bars, tradable),
        splits=[] if table is None else list_splits(table),
        refusal=refusal,
    )


def _total(rows: Sequence[dict[str, Any]], key: str) -> int:
    return sum(row[key] for row in rows)
