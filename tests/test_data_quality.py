"""Measures of a file of bars, each on bars drawn so that the answer is known."""

import json

import numpy as np
import pandas as pd
import pytest

from envs.bars import check_bars
from envs.data_config import DataConfig
from pipelines.market_data.data_outliers import BACK_BARS, LEAST_USUAL, TIMES_USUAL, find_outliers
from pipelines.market_data.data_quality import (
    MAX_ROWS,
    count_days,
    find_duplicates,
    find_holes,
    find_silent,
    list_segments,
)

MINUTE_NS = 60 * 10**9
START = pd.Timestamp("2024-03-01", tz="UTC")


def rows(minutes, **columns):
    """Rows as they are read: quiet bars at 100 at these minutes, but for given columns."""
    count = len(minutes)
    frame = pd.DataFrame({"time_ns": START.as_unit("ns").value + np.array(minutes) * MINUTE_NS})
    frame["naive"] = False
    for name, value in {"open": 100.0, "high": 100.05, "low": 99.95, "close": 100.0}.items():
        frame[name] = value
    frame["volume"] = 1.0
    for name, values in columns.items():
        frame[name] = values
    frame.index = pd.RangeIndex(1, count + 1)
    return frame


def checked(frame, **config):
    return check_bars(frame, DataConfig(interval="1min", **config), "FILE", "00")


def at(minute):
    return (START + pd.Timedelta(minutes=minute)).isoformat()


# Holes.


def test_holes_are_listed_longest_first_with_what_became_of_them():
    frame = rows([0, 1, 3, 4, 10, 11, 14])
    frame.loc[5, ["open", "high"]] = 110.0, 111.0
    found = find_holes(checked(frame))
    assert found.total == 3
    assert [(hole["after"], hole["missing_bars"], hole["filled"]) for hole in found.rows] == [
        (at(4), 5, False),
        (at(11), 2, True),
        (at(1), 1, True),
    ]
    assert found.rows[0]["before"] == at(10)
    assert found.rows[0]["move_frac"] == pytest.approx(0.10)


def test_a_file_without_holes_has_none():
    assert find_holes(checked(rows(range(9)))).total == 0


def test_of_many_holes_the_longest_are_listed_and_all_are_counted():
    steps = [1, 1, *([2] * (MAX_ROWS + 50)), 9]
    found = find_holes(checked(rows(np.cumsum([0, *steps]))))
    assert (found.total, len(found.rows)) == (MAX_ROWS + 51, MAX_ROWS)
    assert found.rows[0]["missing_bars"] == 8


# Coverage.


def test_a_day_is_measured_by_the_bars_it_could_have():
    minutes = [*range(1380, 1440), *range(1440, 2880, 2), *range(2880, 2890)]
    days = count_days(checked(rows(minutes), fill_gap_bars=3))
    assert days == [
        {"day": "2024-03-01", "present": 60, "expected": 60},
        {"day": "2024-03-02", "present": 720, "expected": 1440},
        {"day": "2024-03-03", "present": 10, "expected": 10},
    ]


def test_days_without_a_bar_are_days_too():
    days = count_days(checked(rows([0, 1, 2 * 1440, 2 * 1440 + 1])))
    assert [(day["present"], day["expected"]) for day in days] == [(2, 1440), (0, 1440), (2, 2)]


def test_bars_longer_than_a_day_are_expected_on_their_days_only():
    frame = rows(np.arange(3) * 1440 * 2)
    bars = check_bars(frame, DataConfig(interval="2D"), "FILE", "00")
    assert [day["expected"] for day in count_days(bars)] == [1, 0, 1, 0, 1]


# Duplicates.


def test_duplicates_are_listed_by_time_with_their_rows():
    frame = rows([0, 1, 2, 1, 3, 2, 2])
    frame.loc[6, "volume"] = 7.0
    found, forming = find_duplicates(frame)
    assert forming == 0
    assert found.rows == [
        {"time": at(1), "rows": [2, 4], "kind": "identical"},
        {"time": at(2), "rows": [3, 6, 7], "kind": "another volume"},
    ]
    assert found.total == 2


def test_a_row_that_was_written_before_its_bar_had_closed_is_told_apart():
    frame = rows([0, 1, 1, 2, 2])
    frame.loc[[2, 4], "high"] = 101.0
    frame.loc[4, "volume"] = 7.0
    found, forming = find_duplicates(frame)
    assert [row["kind"] for row in found.rows] == ["still being formed"] * forming
    assert forming == 2


def test_a_file_that_is_there_twice_is_counted_and_its_first_rows_listed():
    found, _ = find_duplicates(rows([*range(500), *range(500)]))
    assert (found.total, len(found.rows)) == (500, MAX_ROWS)


# Silence.


def test_stretches_without_volume_end_at_holes_and_are_longest_first():
    volume = [1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1]
    minutes = [0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22, 23]
    found = find_silent(checked(rows(minutes, volume=np.array(volume, float))))
    assert [(r["first"], r["last"], r["bars"]) for r in found.rows] == [
        (at(20), at(22), 3),
        (at(1), at(2), 2),
        (at(6), at(7), 2),
    ]


def test_bars_that_fill_a_hole_are_silent():
    found = find_silent(checked(rows([0, 1, 4, 5])))
    assert [(r["first"], r["bars"]) for r in found.rows] == [(at(2), 2)]


@pytest.mark.parametrize("volume", [0.0, 1.0])
def test_a_file_may_be_silent_throughout_or_not_at_all(volume):
    found = find_silent(checked(rows(range(9), volume=volume)))
    assert [r["bars"] for r in found.rows] == [9] * (volume == 0)


# Segments.


def test_segments_are_listed_in_order_with_what_can_be_traded():
    bars = checked(rows([0, 1, 2, 30, 31, 60, 61, 62, 63]))
    tradable = np.array([0, 1, 1, 0, 0, 0, 1, 1, 1], dtype=bool)
    found = list_segments(bars, tradable)
    assert [(r["segment"], r["bars"], r["tradable_bars"]) for r in found.rows] == [
        (1, 3, 2),
        (2, 2, 0),
        (3, 4, 3),
    ]
    assert (found.rows[1]["first"], found.rows[1]["last"]) == (at(30), at(31))


# Outliers.


def spiked(minute, *, high=None, low=None, close=None, count=400, after=None):
    """Quiet bars, but one reaches further; `after`: the closes from there on."""
    frame = rows(range(count))
    row = minute + 1
    for name, value in (("high", high), ("low", low), ("close", close)):
        if value is not None:
            frame.loc[row, name] = value
    if after is not None:
        for name, more in (("open", 0), ("close", 0), ("high", 0.05), ("low", -0.05)):
            frame.loc[row + 1 :, name] = after + more
    return checked(frame)


USUAL = 0.0005  # of the quiet bars


@pytest.mark.parametrize(("times", "found"), [(TIMES_USUAL + 0.1, 1), (TIMES_USUAL - 0.1, 0)])
@pytest.mark.parametrize("side", [1, -1])
def test_a_bar_is_an_outlier_from_so_many_times_the_usual_reach(times, found, side):
    price = 100.0 * (1.0 + side * times * USUAL)
    bars = spiked(200, high=price) if side > 0 else spiked(200, low=price)
    outliers = find_outliers(bars)
    assert outliers.total == len(outliers.rows) == found
    if found:
        (row,) = outliers.rows
        assert row["time"] == at(200)
        assert row["price"] == pytest.approx(price)
        assert row["reach_frac"] == pytest.approx(side * times * USUAL)
        assert row["times_usual"] == pytest.approx(times)


def test_a_wick_came_back_and_a_move_did_not():
    assert find_outliers(spiked(200, high=105.0)).rows[0]["came_back"]
    stayed = find_outliers(spiked(200, high=105.0, close=105.0, after=105.0))
    assert (stayed.total, stayed.came_back) == (1, 0)


def test_a_move_that_is_gone_two_bars_later_came_back():
    frame = rows(range(400))
    frame.loc[201, ["high", "close"]] = 105.0
    frame.loc[202 : 200 + BACK_BARS, ["open", "high", "low", "close"]] = 105.0
    found = find_outliers(checked(frame))
    assert [row["came_back"] for row in found.rows if row["time"] == at(200)] == [True]


def test_a_price_across_a_hole_is_no_outlier():
    frame = rows([*range(200), *range(300, 500)])
    frame.loc[201:, ["open", "high", "low", "close"]] = 150.0, 150.05, 149.95, 150.0
    assert find_outliers(checked(frame)).total == 0


def test_in_a_still_market_a_small_trade_is_no_outlier():
    frame = rows(range(400), high=100.0, low=100.0)
    frame.loc[200, "high"] = 100.0 * (1 + 0.9 * TIMES_USUAL * LEAST_USUAL)
    assert find_outliers(checked(frame)).total == 0
    frame.loc[200, "high"] = 100.0 * (1 + 1.1 * TIMES_USUAL * LEAST_USUAL)
    assert find_outliers(checked(frame)).total == 1


def test_the_usual_reach_is_that_of_the_bars_around():
    wild = rows(range(3000))
    wild.loc[1501:, ["high", "low"]] = 102.0, 98.0
    assert find_outliers(checked(wild)).total == 0
    wild.loc[501, "high"] = 102.0
    assert [row["time"] for row in find_outliers(checked(wild)).rows] == [at(500)]


def test_the_rule_is_told_and_the_rows_are_plain():
    found = find_outliers(spiked(200, high=105.0))
    assert "20 times the usual" in found.rule
    assert json.loads(json.dumps(found.rows)) == found.rows
