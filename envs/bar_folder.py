"""A folder of bars: a parquet file for each month, under a manifest with their hashes.

``pipelines/download.py`` writes such a folder. Nothing is mended here: whoever wrote the folder
has sorted the bars and left out what was no closed bar, so everything else is damage.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from envs.bar_files import OHLCV, file_sha256, read_bars, time_text
from envs.mending import refuse_insane_prices

MANIFEST = "manifest.json"
FORMAT = 1
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
MONTH_FILE = re.compile(r"\d{4}-\d\d\.[0-9a-f]{8}\.parquet")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class MonthFile:
    """One month of the manifest.

    Attributes:
        month: ``"2025-01"``, in UTC.
        file: name of its file; a changed month gets a file of another name.
        rows: bars in it.
        sha256: of the file.
        first, last: ISO 8601, opening times of the first and the last bar.
        start: ISO 8601; from here ..
        end: .. until before this time, the source has been asked and has answered.
        origin: what was read for it: addresses with their hashes, or the exchange.
        found: counts of what the source had wrong: duplicates and the like.
    """

    month: str
    file: str
    rows: int
    sha256: str
    first: str
    last: str
    start: str
    end: str
    origin: list[str] = field(default_factory=list)
    found: dict[str, int] = field(default_factory=dict)

    @property
    def span_ns(self) -> tuple[int, int]:
        """`start` and `end` as int ns since 1970 UTC."""
        return _time_ns(self.start), _time_ns(self.end)

    def check(self) -> None:
        """Refuse values that no writer of ours writes, a name that leaves the folder above all.

        Raises:
            ValueError: naming the value.
        """
        good = {
            "month": bool(_MONTH.fullmatch(self.month)),
            "file": bool(MONTH_FILE.fullmatch(self.file)) and self.file.startswith(self.month),
            "rows": self.rows >= 1,
            "sha256": bool(_SHA256.fullmatch(self.sha256)),
        }
        for name, fits in good.items():
            if not fits:
                raise ValueError(f"{name}={getattr(self, name)!r} of a month is not allowed")
        start, end = self.span_ns
        if not start < end:
            raise ValueError(f"{self.month}: start={self.start!r} is not before end={self.end!r}")
        _time_ns(self.first)
        _time_ns(self.last)


@dataclass(frozen=True)
class FolderManifest:
    """What a folder of bars holds, and where it came from.

    Attributes:
        source: ``binance_vision`` or ``ccxt``.
        exchange: whose bars they are.
        symbol: the market, as it was asked for.
        timeframe: length of a bar, as it was asked for.
        interval_s: the same in seconds.
        months: in the order of time.
    """

    source: str
    exchange: str
    symbol: str
    timeframe: str
    interval_s: int
    months: list[MonthFile] = field(default_factory=list)

    @property
    def identity(self) -> dict[str, Any]:
        """What all months of a folder have in common."""
        return {key: value for key, value in asdict(self).items() if key != "months"}

    @property
    def sha256(self) -> str:
        """A hash of the hashes of all months, in order: of the bars, however they were fetched."""
        lines = "".join(f"{month.month} {month.sha256}\n" for month in self.months)
        return hashlib.sha256(lines.encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """The manifest as the bytes of its file."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n").encode()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of a folder.

        Raises:
            FileNotFoundError: if the folder has none.
            ValueError: if it is none of ours, naming what is wrong.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(
                f"data.path={str(folder)!r} is a folder without a {MANIFEST}: a parquet or CSV "
                "file, or a folder made by pipelines/download.py, is needed"
            )
        try:
            return cls._from_plain(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not a manifest of bars: {error}") from error

    @classmethod
    def _from_plain(cls, values: Any) -> Self:
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ValueError(f"format {FORMAT} is needed")
        months = values.pop("months", None)
        if not isinstance(months, list):
            raise ValueError("a list of months is needed")
        manifest = cls(**_checked(cls, values), months=[_month(entry) for entry in months])
        names = [month.month for month in manifest.months]
        if names != sorted(set(names)):
            raise ValueError("the months are not in order, or one is there twice")
        if manifest.interval_s < 1:
            raise ValueError(f"interval_s={manifest.interval_s!r} is not allowed")
        return manifest


def read_folder(folder: Path) -> tuple[pd.DataFrame, FolderManifest]:
    """Read all bars of a folder, each file checked against the manifest.

    Returns:
        The bars in the order of time, as `envs.bar_files.read_bars` has them, and the manifest.

    Raises:
        FileNotFoundError: if the manifest, or a file that it names, is missing.
        ValueError: for a file that is not the one the manifest names, and for bars that the writer
            of such a folder never writes, with file and row.
    """
    manifest = FolderManifest.read(folder)
    if not manifest.months:
        raise ValueError(f"{folder.name}: the folder has no bars")
    frames = [read_month(folder, manifest, month) for month in manifest.months]
    return pd.concat(frames, ignore_index=True).set_axis(
        pd.RangeIndex(1, sum(map(len, frames)) + 1)
    ), manifest


def read_month(folder: Path, manifest: FolderManifest, month: MonthFile) -> pd.DataFrame:
    """Read and check the bars of one month; see `read_folder`."""
    path = folder / month.file
    if path.is_symlink() or not path.is_file():
        raise FileNotFoundError(f"{path}: missing, or a link, but {MANIFEST} names it")
    if file_sha256(path) != month.sha256:
        raise ValueError(
            f"{month.file}: damaged or changed, its sha256 is not that of {MANIFEST}; download "
            "the month again: the same command replaces what is damaged"
        )
    frame = read_bars(path)
    if len(frame) != month.rows:
        raise ValueError(f"{month.file}: {len(frame)} rows, but {MANIFEST} says {month.rows}")
    time = frame["time_ns"].to_numpy()
    start, end = month.span_ns
    problems = {
        "the time is not after that of the row before": np.diff(time, prepend=-1) <= 0,
        f"the time is outside {month.start} .. {month.end}": (time < start) | (time >= end),
        f"the time is off the grid of {manifest.interval_s} s": (
            time % (manifest.interval_s * 10**9) != 0
        ),
    }
    for reason, wrong in problems.items():
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(f"{month.file}, row {at + 1} ({time_text(time[at])}): {reason}")
    rows = frame.index.to_numpy()
    refuse_insane_prices(frame[list(OHLCV)].to_numpy(), time, rows, month.file)
    return frame


def _month(values: Any) -> MonthFile:
    month = MonthFile(**_checked(MonthFile, values))
    month.check()
    return month


def _checked(kind: type, values: Any) -> dict[str, Any]:
    """The values of a dataclass's fields out of a JSON object; others are refused."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{values!r} is no object")
    wanted = {entry.name: entry.type for entry in fields(kind) if entry.name != "months"}
    if set(values) != set(wanted):
        raise ValueError(f"the keys {sorted(wanted)} are needed, not {sorted(values)}")
    kinds: dict[Any, type] = {str: str, int: int, list[str]: list, dict[str, int]: dict}
    for name, of in wanted.items():
        if type(values[name]) is not kinds[of]:
            raise ValueError(f"{name}={values[name]!r} is of the wrong type")
    return dict(values)


def _time_ns(text: str) -> int:
    """Int ns since 1970 UTC of an ISO 8601 text with a zone."""
    time = pd.Timestamp(text)
    if time is pd.NaT or time.tz is None:
        raise ValueError(f"{text!r} is not a time with a zone")
    return int(time.as_unit("ns").value)
