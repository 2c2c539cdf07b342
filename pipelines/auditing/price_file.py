"""The bars of a price file, read once more for the audit, with nothing of the loader.

The rules are those of ``docs/data.md``: the first of two bars of one time, no quotes off the grid;
short holes are filled flat at the last close without volume, longer ones end a segment. A folder of
monthly files is read in the order of its ``manifest.json``.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import csv

COLUMNS = ("open", "high", "low", "close", "volume")
_TIMES = ("timestamp", "datetime", "open_time", "open time", "date", "time")


@dataclass(frozen=True)
class PriceFile:
    """Bars in the order of time, one interval apart within a segment.

    Attributes:
        time_ns: int64 [N], opening times, ns since 1970 UTC.
        ohlcv: float64 [N, 5].
        first, last: int64 [N], rows at which the bar's segment begins and ends.
        spans: of several markets end to end, the half-open range of rows of each, by name.
    """

    time_ns: np.ndarray
    ohlcv: np.ndarray
    first: np.ndarray
    last: np.ndarray
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def join(cls, markets: Mapping[str, "PriceFile"]) -> "PriceFile":
        """Several markets end to end."""
        ends = np.cumsum([len(market.time_ns) for market in markets.values()]).tolist()
        firsts = [0, *ends[:-1]]
        pairs = list(zip(markets.values(), firsts, strict=True))
        return cls(
            np.concatenate([market.time_ns for market, _ in pairs]),
            np.concatenate([market.ohlcv for market, _ in pairs]),
            np.concatenate([market.first + first for market, first in pairs]),
            np.concatenate([market.last + first for market, first in pairs]),
            dict(zip(markets, zip(firsts, ends, strict=True), strict=True)),
        )

    def find(self, time_ns: np.ndarray, assets: Sequence[str | None] = ()) -> np.ndarray:
        """Rows of the bars that open at `time_ns`; -1 where there is none.

        Args:
            time_ns: int64 [n].
            assets: of several markets, the name of the one that each bar is sought in.
        """
        if not self.spans:
            return self._within(time_ns, 0, len(self.time_ns))
        at, names = np.full(len(time_ns), -1), np.array(assets, dtype=object)
        for name, (first, end) in self.spans.items():
            at[names == name] = self._within(time_ns[names == name], first, end)
        return at

    def _within(self, time_ns: np.ndarray, first: int, end: int) -> np.ndarray:
        known = self.time_ns[first:end]
        at = np.searchsorted(known, time_ns).clip(max=len(known) - 1)
        return np.where(known[at] == time_ns, first + at, -1)


def read_prices(path: str | Path, interval_ns: int, fill_gap_bars: int) -> PriceFile:
    """Read a parquet or CSV file of bars, or a folder of parquet files.

    Args:
        path: the file or folder.
        interval_ns: length of a bar.
        fill_gap_bars: most missing bars of a hole that is filled.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it lacks a column, a time or a price.
    """
    parts = [_rows(file) for file in _files(Path(path))]
    time_ns, ohlcv = (np.concatenate(column) for column in zip(*parts, strict=True))
    if (np.diff(time_ns) < 0).sum() > (np.diff(time_ns) > 0).sum():
        time_ns, ohlcv = time_ns[::-1], ohlcv[::-1]
    keep = _on_grid(time_ns, ohlcv, interval_ns)
    time_ns, ohlcv = time_ns[keep], ohlcv[keep]
    time_ns, first_of_time = np.unique(time_ns, return_index=True)
    return _filled(time_ns, ohlcv[first_of_time], interval_ns, fill_gap_bars)


def prices_sha256(path: str | Path) -> str:
    """SHA-256 of a file; of a folder, that of the lines ``MONTH SHA256`` of its files in order."""
    files = _files(Path(path))
    if files == [Path(path)]:
        return hashlib.sha256(files[0].read_bytes()).hexdigest()
    lines = [f"{f.name[:7]} {hashlib.sha256(f.read_bytes()).hexdigest()}\n" for f in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def files_of(
    trace: Path, about: dict[str, Any], prices: str | Path | Mapping[str, str]
) -> dict[str, Path]:
    """The price file of every market of a trace.

    Args:
        trace: the file, for messages.
        about: the JSON beside it.
        prices: the only market's file, or those of several by name.

    Raises:
        ValueError: if they are not of the markets of the trace.
    """
    names = list(about.get("assets", [str(about.get("asset"))]))
    if not isinstance(prices, Mapping) and len(names) == 1:
        return {names[0]: Path(prices)}
    if not isinstance(prices, Mapping) or set(prices) != set(names):
        given = " and ".join(prices) if isinstance(prices, Mapping) else "one market"
        files = ",".join(f"{name}=FILE" for name in names)
        raise ValueError(
            f"{trace}: a trace of {' and '.join(names)}, and bars were given of {given}: "
            f"data.assets=[{files}]"
        )
    return {name: Path(prices[name]) for name in names}


def _files(path: Path) -> list[Path]:
    """The file itself, or the files of a folder in the order of its manifest."""
    if not path.is_dir():
        return [path]
    try:
        months = json.loads((path / "manifest.json").read_text("utf-8"))["months"]
        files = [path / Path(month["file"]).name for month in months]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: manifest.json is damaged: {error!r}") from error
    if not files:
        raise ValueError(f"{path}: the folder has no bars")
    return files


def _rows(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Times in ns, and prices and volume, in the file's order."""
    if path.name.endswith(".parquet"):
        frame = pd.read_parquet(path)
        frame = frame.reset_index(drop=frame.index.name in frame.columns)
    else:
        frame = csv.read_csv(path).to_pandas()
    names = {str(name).strip().lower(): name for name in frame.columns}
    # An index without a name becomes a column named index.
    time = next((names[name] for name in (*_TIMES, "index") if name in names), None)
    missing = [name for name in COLUMNS if name not in names]
    if time is None or missing:
        raise ValueError(f"{path.name}: no column {missing[0] if missing else 'timestamp'}")
    ohlcv = frame[[names[name] for name in COLUMNS]].to_numpy(np.float64)
    if not len(ohlcv) or not np.isfinite(ohlcv).all():
        raise ValueError(f"{path.name}: prices or volumes are missing")
    return _to_ns(frame[time]), ohlcv


def _to_ns(times: pd.Series) -> np.ndarray:
    """Times, ISO texts or numbers since 1970, those as text too; s, ms, us, ns by magnitude.

    Returns:
        Int64 ns since 1970 UTC.
    """
    if pd.api.types.is_numeric_dtype(times):
        numbers = times.to_numpy(np.float64)
        size = np.abs(numbers)
        to_us = np.select([size < 1e11, size < 1e14, size < 1e17], [1e6, 1e3, 1.0], 1e-3)
        return np.round(numbers * to_us).astype(np.int64) * 1000
    if not pd.api.types.is_datetime64_any_dtype(times):
        texts = times.astype("string").str.strip().str.replace(r"\s*UTC$", "Z", regex=True)
        if texts.str.fullmatch(r"\d{9,}\.?\d*").all():  # a day as 20240131 has eight
            return _to_ns(texts.astype("float64"))
        times = pd.to_datetime(texts, utc=True, format="ISO8601")
    return pd.to_datetime(times, utc=True).dt.as_unit("ns").astype("int64").to_numpy()


def _on_grid(time_ns: np.ndarray, ohlcv: np.ndarray, interval_ns: int) -> np.ndarray:
    """Rows that are bars: on the grid, and not cut short by a quote that follows within the bar."""
    phases, counts = np.unique(time_ns % interval_ns, return_counts=True)
    off = time_ns % interval_ns != phases[counts.argmax()]
    quote = off & (ohlcv[:, 1] == ohlcv[:, 2]) & (ohlcv[:, 4] == 0)
    ahead = np.diff(time_ns, append=time_ns[-1:])
    forming = np.append(quote[1:], False) & (ahead > 0) & (ahead < interval_ns)
    return ~off & ~forming


def _filled(
    time_ns: np.ndarray, ohlcv: np.ndarray, interval_ns: int, fill_gap_bars: int
) -> PriceFile:
    """Fill the short holes, and find where segments begin and end."""
    missing = np.diff(time_ns) // interval_ns - 1
    extra = np.append(np.where(missing <= fill_gap_bars, missing, 0), 0)
    source = np.repeat(np.arange(len(time_ns)), extra + 1)
    nth = np.arange(len(source)) - np.searchsorted(source, source)
    bars = ohlcv[source]
    flat = nth > 0
    bars[flat, :4] = bars[flat, 3:4]
    bars[flat, 4] = 0.0
    times = time_ns[source] + nth * interval_ns
    ends = np.flatnonzero(np.append(np.diff(times) != interval_ns, True))
    segment = np.searchsorted(ends, np.arange(len(times)))
    begins = np.append(0, ends[:-1] + 1)
    return PriceFile(times, bars, begins[segment], ends[segment])
