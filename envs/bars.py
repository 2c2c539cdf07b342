"""Bars of one market: from the file to checked, mended, segmented bars."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from envs.bar_files import OHLCV, default_bars_path, file_sha256, plain_time, read_bars, time_text
from envs.bar_folder import FolderManifest, read_folder
from envs.checks import require
from envs.data_config import DataConfig
from envs.mending import (
    DataReport,
    drop_quotes,
    fill_and_segment,
    find_interval,
    oldest_first,
    refuse_insane_prices,
    sort_and_merge,
)
from envs.timeframes import length_ns


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
    wanted = cfg.interval
    fits = wanted is None or length_ns(wanted) == manifest.interval_s * 10**9
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
    """A report for a person: what the file holds, then a line for each thing that was mended."""
    r = asdict(report) if isinstance(report, DataReport) else report
    flat = f", {r['filled_bars']:,} of them filled in" if r["filled_bars"] else ""
    lines = [
        f"{r['bars']:,} bars of {r['interval_s']:g} s, {plain_time(r['first'])} to "
        f"{plain_time(r['last'])} UTC, in {r['segments']} segment{'s' * (r['segments'] != 1)}",
        f"largest move {r['largest_move_frac']:.1%} at {plain_time(r['largest_move_at'])}; "
        f"{r['zero_volume_bars']:,} bars without volume{flat}",
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
            f"{hole['missing_bars']:,} bars after {plain_time(hole['after'])}"
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
