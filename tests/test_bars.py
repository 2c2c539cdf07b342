"""From a file to bars: the default file, files damaged in many ways, the report for a person."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from damaged_frame import cell, insert
from envs.bars import DataConfig, load_bars, report_lines

NAMES = ["timestamp", "open", "high", "low", "close", "volume"]


def bars_file(rows=60):
    """A clean market of one-minute bars, as text in every cell."""
    rng = np.random.default_rng(0)
    close = 1000.0 + np.cumsum(rng.integers(-5, 6, rows))
    open_ = np.append(close[0], close[:-1])
    frame = pd.DataFrame(
        {
            "timestamp": pd.date_range("2024-03-01", periods=rows, freq="min", tz="UTC"),
            "open": open_,
            "high": np.maximum(open_, close) + 1,
            "low": np.minimum(open_, close) - 1,
            "close": close,
            "volume": rng.integers(1, 9, rows).astype(float),
        }
    )
    return frame.map(str)


def load(frame, tmp_path, **config):
    path = tmp_path / "bars.csv"
    frame.to_csv(path, index=False)
    return load_bars(DataConfig(path=str(path), **config))


REFUSED = [
    (cell(7, "close", "n.a. today"), r"row 7 \(2024-03-01T00:06:00\+00:00\): close='n.a. today'"),
    (cell(7, "close", ""), r"row 7 \(2024-03-01T00:06:00\+00:00\): a value is missing"),
    (cell(7, "volume", "nan"), r"row 7 .*: a value is missing"),
    (cell(9, "high", "inf"), r"row 9 .*: a value is missing or infinite: .*high=inf"),
    (cell(9, "low", "-3"), r"row 9 .*: a price is not above 0"),
    (cell(9, "open", "0"), r"row 9 .*: a price is not above 0"),
    (cell(9, "volume", "-1"), r"row 9 .*: the volume is negative"),
    (cell(9, "high", "900"), r"row 9 .*: low is above high: .*high=900"),
    (cell(9, "low", "1050"), r"row 9 .*: low is above high: .*low=1050"),
    (cell(9, "close", "10020"), r"row 9 .*: high is under open or close: .*close=10020"),
    (cell(3, "timestamp", "yesterday"), r"row 3: timestamp='yesterday' is not a time"),
    (cell(3, "timestamp", ""), r"row 3: timestamp is missing"),
    (cell(3, "timestamp", "1950-01-01 00:00"), r"row 3: timestamp=1950.* lies outside 1970..2100"),
    (cell(3, "timestamp", "2024-03-01 00:02:07+00:00"), r"row 3 .*: the time is off the grid"),
    (insert(5, like=4, high="1100"), r"rows 4 and 5 .*: two bars of one time"),
    (insert(40, like=4, volume="0", low="1001"), r"rows 4 and 40 .*: two bars of one time"),
    (
        lambda frame: frame.drop(columns="low"),
        r"no column low; the file has: timestamp, open, high",
    ),
    (lambda frame: frame.drop(columns="timestamp"), r"no column timestamp or datetime"),
    (lambda frame: frame.assign(Low=frame["low"]), r"several columns are named 'low'"),
    (lambda frame: frame[:0], r"the file has no rows"),
    (lambda frame: frame[:1], r"the interval cannot be found"),
    (lambda frame: frame.iloc[[0, 1, 3, 7, 20, 50]], r"the interval cannot be found"),
]


@pytest.mark.parametrize(("damage", "message"), REFUSED)
def test_damage_without_a_rule_is_refused_with_file_and_row(tmp_path, damage, message):
    with pytest.raises(ValueError, match=rf"^bars.csv[,:] ({message})"):
        load(damage(bars_file()), tmp_path)


MENDED = [
    (insert(5, like=4), {"identical_duplicates": 1}),
    (insert(40, like=4), {"identical_duplicates": 1, "out_of_order_rows": 1}),
    (insert(5, like=4, volume="77"), {"revised_volumes": 1}),
    (lambda frame: frame[::-1], {"newest_first": True}),
    (lambda frame: pd.concat([frame[30:], frame[:30]]), {"out_of_order_rows": 30}),
    (lambda frame: frame.drop(index=[11, 12, 13]), {"filled_bars": 3, "filled_holes": 1}),
    (cell(7, "timestamp", "2024-03-01 01:06:00+01:00"), {}),
    (cell(7, "timestamp", "2024-03-01 00:06:00"), {"naive_times": 1}),
]


@pytest.mark.parametrize(("damage", "counts"), MENDED)
def test_damage_with_a_rule_is_mended_and_counted(tmp_path, damage, counts):
    clean = load(bars_file(), tmp_path)
    bars = load(damage(bars_file()), tmp_path)
    np.testing.assert_array_equal(bars.time_ns, clean.time_ns)
    untouched = np.ones(60, dtype=bool)
    untouched[11:14] = "filled_bars" not in counts
    np.testing.assert_array_equal(bars.ohlcv[untouched], clean.ohlcv[untouched])
    found = dataclasses.asdict(bars.report)
    expected = dataclasses.asdict(clean.report) | counts
    for key in ("rows", "largest_move_frac", "largest_move_at", "zero_volume_bars"):
        del found[key], expected[key]
    assert found == expected


def test_the_source_is_recorded_by_name_and_hash(tmp_path):
    bars = load(bars_file(), tmp_path)
    assert bars.source_name == "bars.csv"
    assert len(bars.source_sha256) == 64
    assert load(bars_file(59), tmp_path).source_sha256 != bars.source_sha256


def test_the_default_file_loads_and_everything_mended_in_it_is_counted():
    bars = load_bars(DataConfig())
    report = bars.report
    assert bars.source_name == "BTC-USD-15-MIN.csv"
    assert bars.interval_s == 900.0
    # 8,721 rows: 31 repeat an earlier row (10 of them with another volume), 3 are quotes of the
    # second at which a download ended, each after a bar that was still being formed.
    assert report.rows == 8721
    assert (report.identical_duplicates, report.revised_volumes) == (21, 10)
    assert (report.quotes, report.forming_bars, report.partial_last_bar) == (3, 3, 0)
    assert report.out_of_order_rows == 30
    assert (report.filled_bars, report.filled_holes) == (8, 6)
    assert (report.holes, report.segments) == (3, 4)
    assert [hole["missing_bars"] for hole in report.longest_holes] == [223, 9, 4]
    assert report.bars == len(bars.time_ns) == 8721 - 31 - 6 + 8
    assert (report.first, report.last) == ("2021-09-27T13:45:00+00:00", "2021-12-29T13:30:00+00:00")
    # The copy of 2021-10-27 13:45 that was written when the bar had closed.
    at = np.searchsorted(bars.time_ns, pd.Timestamp("2021-10-27T13:45", tz="UTC").value)
    assert bars.ohlcv[at, 1] == pytest.approx(59324.964844)


def test_the_report_is_plain_json_and_short_text():
    report = load_bars(DataConfig()).report
    plain = dataclasses.asdict(report)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    lines = report_lines(report)
    assert lines == report_lines(plain)
    assert lines[0].startswith("8,692 bars of 900 s from 2021-09-27T13:45:00+00:00 to 2021-12-29")
    assert "quotes off the grid, dropped: 3" in lines
    assert lines[-1].startswith("long holes, each ends a segment: 3, the longest of 223 bars")


def test_a_clean_file_has_a_report_of_one_line(tmp_path):
    report = load(bars_file(), tmp_path).report
    assert len(report_lines(report)) == 1


def test_the_largest_move_does_not_reach_over_a_hole(tmp_path):
    frame = bars_file().drop(index=range(20, 30))
    for name in NAMES[1:5]:
        frame.loc[30:, name] = [str(2 * float(value)) for value in frame.loc[30:, name]]
    report = load(frame, tmp_path).report
    assert report.segments == 2
    assert report.largest_move_frac < 0.01


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"asset": " "}, "data.asset=' '"),
        ({"fill_gap_bars": -1}, "data.fill_gap_bars=-1 .* 0 to 1000"),
        ({"train_frac": 0.0}, "data.train_frac=0.0"),
        ({"val_frac": float("nan")}, "data.val_frac=nan"),
        ({"train_frac": 0.8, "val_frac": 0.2}, r"data.train_frac \+ data.val_frac=1.0"),
        ({"embargo_bars": -1}, "data.embargo_bars=-1"),
        ({"interval": "15"}, "data.interval='15' .* \"15min\""),
        ({"interval": "soon"}, "data.interval='soon'"),
        ({"interval": "-1min"}, "data.interval='-1min'"),
        ({"interval": "nat"}, "data.interval='nat'"),
    ],
)
def test_a_value_out_of_range_is_refused_by_key(values, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**values)


def test_a_missing_file_is_refused_by_its_key(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data.path='.*none.parquet' does not exist"):
        load_bars(DataConfig(path=str(tmp_path / "none.parquet")))
