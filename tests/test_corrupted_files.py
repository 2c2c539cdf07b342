"""Files as they come out of the world: each kind of damage is refused with its row, or counted.

One table for CSV and parquet. A damage is done to the text of a clean file of sixty one-minute
bars; rows count from 1, the first row of data.
"""

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clean_frame import clean
from envs.bars import load_bars
from envs.data_config import DataConfig
from pipelines.market_data.data_outliers import find_outliers

ROWS = 60
NAMES = ["timestamp", "open", "high", "low", "close", "volume"]


def save(frame, path):
    """Write text cells to CSV; to parquet as times and numbers, wherever a column allows it."""
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
        return
    columns = {}
    for number, name in enumerate(frame.columns):
        column = frame.iloc[:, number].replace({"": None, "nan": None})
        for convert in (pd.to_numeric, to_times):
            try:
                column = convert(column)
                break
            except (ValueError, TypeError):
                continue
        columns[name] = column
    pd.DataFrame(columns).to_parquet(path)


def to_times(column):
    """Times with a zone; a column with others stays text."""
    if not column.dropna().str.contains(r"Z$|[+-]\d\d:\d\d$").all():
        raise ValueError("not every time has a zone")
    return pd.to_datetime(column, utc=True, format="ISO8601")


# Damages: functions of a frame. Rows count from 1, as in the messages.


def cell(row, column, value):
    """Overwrite a cell."""

    def damage(frame):
        frame.loc[row - 1, column] = value
        return frame

    return damage


def insert(at, like, **values):
    """Insert before row `at` a copy of row `like` with other values."""

    def damage(frame):
        copy = frame.iloc[[like - 1]].assign(**values)
        return pd.concat([frame[: at - 1], copy, frame[at - 1 :]], ignore_index=True)

    return damage


def cells(row, **values):
    def damage(frame):
        frame.loc[row - 1, list(values)] = list(values.values())
        return frame

    return damage


def column(name, change):
    def damage(frame):
        frame[name] = change(frame[name])
        return frame

    return damage


def epochs(unit_s):
    """Times as whole numbers since 1970."""
    first = int(pd.Timestamp("2024-03-01", tz="UTC").timestamp())
    return lambda times: [str((first + 60 * i) * unit_s) for i in range(len(times))]


def swapped(one, other):
    def damage(frame):
        frame[[one, other]] = frame[[other, one]].to_numpy()
        return frame

    return damage


# Name of the damage: what is done, and the message after the file's name.
REFUSED = {
    "a price is text": (cell(7, "close", "n.a. today"), r"row 7 \(2024-03-01T00:06.*close='n.a. "),
    "a price is empty": (cell(7, "open", ""), r"row 7 .*missing or infinite: open=nan"),
    "a price is nan": (cell(7, "low", "nan"), r"row 7 .*missing or infinite: .*low=nan"),
    "a price is infinite": (cell(9, "high", "inf"), r"row 9 .*missing or infinite: .*high=inf"),
    "a price is negative": (cell(9, "low", "-3"), r"row 9 .*a price is not above 0: .*low=-3"),
    "a price is zero": (cell(60, "open", "0"), r"row 60 .*a price is not above 0: open=0"),
    "all prices of a bar are zero": (
        cells(9, open="0", high="0", low="0", close="0", volume="0"),
        r"row 9 .*a price is not above 0",
    ),
    "a price has a thousands separator": (cell(9, "close", "1,005.0"), r"row 9 .*close='1,005.0'"),
    "a price has a decimal comma": (cell(9, "close", "1005,5"), r"row 9 .*close='1005,5'"),
    "a price has a currency": (cell(9, "open", "$1005"), r"row 9 .*open='\$1005' is not a number"),
    "a decimal point has moved": (
        cell(9, "close", "10020"),
        r"row 9 .*high is under open or close",
    ),
    "the volume is missing": (cell(7, "volume", ""), r"row 7 .*missing or infinite: .*volume=nan"),
    "the volume is negative": (cell(9, "volume", "-1"), r"row 9 .*the volume is negative"),
    "high and low are exchanged": (swapped("high", "low"), r"row 1 .*low is above high"),
    "high and close are exchanged": (swapped("high", "close"), r"row 1 .*high is under open or"),
    "open and volume are exchanged": (swapped("open", "volume"), r"row 1 .*low is above open or"),
    "the high lies in the bar": (cell(9, "high", "900"), r"row 9 .*low is above high: .*high=900"),
    "the low lies above the bar": (
        cell(9, "low", "1050"),
        r"row 9 .*low is above high: .*low=1050",
    ),
    "a column holds true and false": (
        column("volume", lambda c: ["true"] * len(c)),
        r"column 'volume' holds|volume='[Tt]rue' is not",
    ),
    "a time is text": (cell(3, "timestamp", "yesterday"), r"row 3: timestamp='yesterday' is not a"),
    "a time is missing": (cell(3, "timestamp", ""), r"row 3: timestamp is missing"),
    "a date can be read in two ways": (
        cell(3, "timestamp", "03/01/2024 00:02"),
        r"row 3: timestamp='03/01/2024 00:02' is not a time",
    ),
    "a time is that of a spreadsheet": (
        column("timestamp", lambda c: [str(45_352 + i / 1440) for i in range(len(c))]),
        r"row 1: timestamp='45352.0' is not a time",
    ),
    "a number since 1970 is broken": (
        lambda frame: cell(4, "timestamp", "17092512OO")(column("timestamp", epochs(1))(frame)),
        r"row 4: timestamp='17092512OO' is not a time",
    ),
    "a time lies before 1970": (
        cell(3, "timestamp", "1950-01-01T00:00:00Z"),
        r"row 3: timestamp=1950.* lies outside 1970..2100",
    ),
    "a time lies after 2100": (
        cell(60, "timestamp", "2124-03-01T00:59:00Z"),
        r"row 60: timestamp=2124.* lies outside 1970..2100",
    ),
    "a bar lies between two others": (
        cell(3, "timestamp", "2024-03-01T00:02:07Z"),
        r"row 3 .*the time is off the grid of 0 days 00:01:00",
    ),
    "two bars of one time, one after the other": (
        insert(5, like=4, high="1100"),
        r"rows 4 and 5 .*two bars of one time, their prices differ",
    ),
    "two bars of one time, far apart": (
        insert(40, like=4, low="900"),
        r"rows 4 and 40 .*two bars of one time, their prices differ",
    ),
    "the header comes again": (
        lambda frame: pd.concat([frame[:30], pd.DataFrame([NAMES], columns=NAMES), frame[30:]]),
        r"row 31: timestamp='timestamp' is not a time",
    ),
    "the file ends with a sum": (
        lambda frame: pd.concat([frame, pd.DataFrame([["sum", *"12345"]], columns=NAMES)]),
        r"row 61: timestamp='sum' is not a time",
    ),
    "a column is missing": (lambda f: f.drop(columns="low"), r"no column low; the file has: time"),
    "the time is missing": (lambda f: f.drop(columns="timestamp"), r"no column timestamp or date"),
    "two columns have one name": (
        lambda frame: frame.assign(Low=frame["low"]),
        r"several columns are named 'low'",
    ),
    "there is nothing but a header": (lambda frame: frame[:0], r"the file has no rows"),
    "there is one bar": (lambda frame: frame[:1], r"the interval cannot be found"),
    "no two steps are equal": (
        lambda frame: frame.iloc[[0, 1, 3, 7, 20, 50]],
        r"the interval cannot be found",
    ),
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", REFUSED)
def test_damage_is_refused_with_file_and_row(tmp_path, name, suffix):
    damage, message = REFUSED[name]
    path = tmp_path / f"bars{suffix}"
    save(damage(clean()), path)
    with pytest.raises(ValueError, match=rf"(?s)^bars{suffix}[,:] .*?(?:{message})"):
        load_bars(DataConfig(path=str(path)))


# Files of which the bytes are damaged, or that are of another kind.


def csv_bytes():
    return clean().to_csv(index=False).encode()


def parquet_bytes():
    file = io.BytesIO()
    frame = clean().astype({name: float for name in NAMES[1:]})
    frame.assign(timestamp=pd.to_datetime(frame["timestamp"])).to_parquet(file)
    return file.getvalue()


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("bars.csv", csv_bytes())
    return file.getvalue()


def without_end_of_row(text):
    """The text up to the middle of its row 40."""
    lines = text.split(b"\n")
    return b"\n".join([*lines[:40], lines[40][:30]])


BROKEN = {
    "the download stopped within a row": (
        "bars.csv",
        without_end_of_row(csv_bytes()),
        r"cannot be read: .*Row #41: Expected 6 columns, got 3",
    ),
    "a row has a cell too many": (
        "bars.csv",
        csv_bytes().replace(b"00:11:00Z,", b"00:11:00Z,7,"),
        r"cannot be read: .*Row #13: Expected 6 columns, got 7",
    ),
    "a quote is never closed": ("bars.csv", csv_bytes().replace(b"00:11:00Z", b'"00:11'), r""),
    "the separator is a semicolon": (
        "bars.csv",
        csv_bytes().replace(b",", b";"),
        r"no column timestamp or .*; the file has: timestamp;open",
    ),
    "the text has two bytes a letter": ("bars.csv", csv_bytes().decode().encode("utf-16"), r""),
    "the text has zeros in it": ("bars.csv", csv_bytes()[:500] + bytes(4096), r""),
    "a page of HTML was saved": ("bars.csv", b"<html>\n<p>log in, please</p>\n</html>", r""),
    "a page of HTML was saved as parquet": (
        "bars.parquet",
        b"<html>please log in</html>",
        r"cannot be read: ",
    ),
    "the CSV is empty": ("bars.csv", b"", r"cannot be read: Empty CSV file"),
    "the parquet file is empty": ("bars.parquet", b"", r"cannot be read: "),
    "the parquet file lacks its end": ("bars.parquet", parquet_bytes()[:-40], r"cannot be read: "),
    "the parquet file lacks its beginning": ("bars.parquet", parquet_bytes()[40:], r"cannot be re"),
    "the parquet file is a CSV": ("bars.parquet", csv_bytes(), r"cannot be read: "),
    "the CSV is a parquet file": ("bars.csv", parquet_bytes(), r""),
    "the gzip file lacks its end": (
        "bars.csv.gz",
        gzip.compress(csv_bytes())[:-20],
        r"cannot be read: ",
    ),
    "the gzip file is none": ("bars.csv.gz", csv_bytes(), r"cannot be read: "),
    "the file is an archive": ("bars.zip", zipped(), r"the name must end in .parquet, .csv"),
    "the file is an archive named CSV": ("bars.csv", zipped(), r""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_by_name(tmp_path, name):
    file, blob, message = BROKEN[name]
    (tmp_path / file).write_bytes(blob)
    with pytest.raises(ValueError, match=rf"(?s)^{file}[,:] .*{message}"):
        load_bars(DataConfig(path=str(tmp_path / file)))


# What has a rule is mended and counted; every other bar stays what it was.

FLAT = {"open": "1", "high": "1", "low": "1", "close": "1", "volume": "0"}
MENDED = {
    "a row is there twice": (insert(5, like=4), {"identical_duplicates": 1}),
    "a row comes again much later": (
        insert(40, like=4),
        {"identical_duplicates": 1, "out_of_order_rows": 1},
    ),
    "the file is there twice": (
        lambda frame: pd.concat([frame, frame]),
        {"identical_duplicates": 60, "out_of_order_rows": 59},
    ),
    "a volume was revised": (insert(5, like=4, volume="77"), {"revised_volumes": 1}),
    "the newest bar comes first": (lambda frame: frame[::-1], {"newest_first": True}),
    "two halves are exchanged": (
        lambda frame: pd.concat([frame[30:], frame[:30]]),
        {"out_of_order_rows": 30},
    ),
    "the rows are shuffled": (
        lambda frame: frame.iloc[[1, 0, *range(2, 58), 59, 58]],
        {"out_of_order_rows": 2},
    ),
    "a short hole": (lambda f: f.drop(index=[11, 12, 13]), {"filled_bars": 3, "filled_holes": 1}),
    "a long hole": (
        lambda frame: frame.drop(index=range(11, 15)),
        {"holes": 1, "missing_bars": 4, "segments": 2},
    ),
    "a time has another zone": (cell(7, "timestamp", "2024-03-01T01:06:00+01:00"), {}),
    "a time has no zone": (cell(7, "timestamp", "2024-03-01T00:06:00"), {"naive_times": 1}),
    "times are seconds": (column("timestamp", epochs(1)), {}),
    "times are milliseconds": (column("timestamp", epochs(1000)), {}),
    "times are microseconds": (column("timestamp", epochs(10**6)), {}),
    "times change from ms to us": (
        column("timestamp", lambda c: [*epochs(1000)(c)[:30], *epochs(10**6)(c)[30:]]),
        {},
    ),
    "the last price was stamped with its second": (
        insert(61, like=60, timestamp="2024-03-01T00:59:31Z", **FLAT),
        {"quotes": 1, "forming_bars": 1},
    ),
    "the last bar is off the grid": (
        insert(61, like=60, timestamp="2024-03-01T01:00:31Z"),
        {"partial_last_bar": 1},
    ),
    "columns are in another order and case": (
        lambda frame: frame[NAMES[::-1]].rename(columns=str.upper),
        {},
    ),
    "there are other columns": (lambda frame: frame.assign(trades="7", note="a;b"), {}),
    "a stretch has no volume": (
        lambda frame: cells(9, volume="0")(cells(10, volume="0")(frame)),
        {"zero_volume_bars": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", MENDED)
def test_damage_with_a_rule_is_mended_and_counted(tmp_path, name, suffix):
    damage, counts = MENDED[name]
    save(clean(), tmp_path / f"clean{suffix}")
    save(damage(clean()), tmp_path / f"bars{suffix}")
    before = load_bars(DataConfig(path=str(tmp_path / f"clean{suffix}")))
    after = load_bars(DataConfig(path=str(tmp_path / f"bars{suffix}")))
    counted = (
        *("naive_times", "newest_first", "out_of_order_rows", "identical_duplicates", "holes"),
        *("revised_volumes", "quotes", "forming_bars", "partial_last_bar", "filled_bars"),
        *("filled_holes", "missing_bars"),
    )
    found = {key: getattr(after.report, key) for key in counted if getattr(after.report, key)}
    assert {**found, **counts} == {key: getattr(after.report, key) for key in {**found, **counts}}
    assert set(found) <= set(counts)
    kept = np.isin(before.time_ns, after.time_ns[~after.filled])
    there = np.isin(after.time_ns, before.time_ns) & ~after.filled
    columns = slice(0, 4 if "volume" in name else 5)
    np.testing.assert_array_equal(after.ohlcv[there, columns], before.ohlcv[kept, columns])
    missing = counts.get("missing_bars", 0) + counts.get("filled_bars", 0)
    assert kept.sum() == ROWS - missing - counts.get("forming_bars", 0)


# A bad print may be a possible bar: nobody can refuse it, but the check of the data shows it.

SHOWN = {
    "a digit is missing": cell(30, "low", "9"),
    "the high of another market": cell(30, "high", "30000"),
    "a whole bar in other units": cells(
        30, open="9.9", high="10.1", low="9.8", close="10.0", volume="5"
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_bad_print_is_shown(tmp_path, name):
    save(SHOWN[name](clean()), tmp_path / "bars.csv")
    found = find_outliers(load_bars(DataConfig(path=str(tmp_path / "bars.csv"))))
    assert "2024-03-01T00:29:00+00:00" in [row["time"] for row in found.rows if row["came_back"]]


def test_the_page_tells_how_many_kinds_there_are():
    page = (Path(__file__).parents[1] / "docs" / "download.md").read_text(encoding="utf-8")
    told = f"{len(REFUSED)} kinds of damage in cells, {len(BROKEN)} of bytes and formats, "
    assert f"{told}{len(MENDED)} that are mended" in page
