"""From a file to bars: the default file, the report for a person, keys that are refused."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from clean_frame import clean
from envs.bars import load_bars, report_lines
from envs.data_config import DataConfig

NAMES = ["timestamp", "open", "high", "low", "close", "volume"]


def load(frame, tmp_path, **config):
    path = tmp_path / "bars.csv"
    frame.to_csv(path, index=False)
    return load_bars(DataConfig(path=str(path), **config))


def test_the_source_is_recorded_by_name_and_hash(tmp_path):
    bars = load(clean(), tmp_path)
    assert bars.source_name == "bars.csv"
    assert len(bars.source_sha256) == 64
    assert load(clean(59), tmp_path).source_sha256 != bars.source_sha256


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
    assert lines[0].startswith("8,692 bars of 900 s, 2021-09-27 13:45 to 2021-12-29")
    assert lines[1].endswith("; 2,086 bars without volume, 8 of them filled in")
    assert "quotes off the grid, dropped: 3" in lines
    assert lines[-1].startswith("long holes, each ends a segment: 3, the longest of 223 bars")


def test_a_clean_file_has_a_report_of_two_lines(tmp_path):
    report = load(clean(), tmp_path).report
    assert len(report_lines(report)) == 2


def test_the_largest_move_does_not_reach_over_a_hole(tmp_path):
    frame = clean().drop(index=range(20, 30))
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
