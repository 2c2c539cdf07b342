"""Mending: each rule on a handful of rows; what has no rule is refused with its row."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.bars import check_bars
from envs.data_config import DataConfig

MINUTE_NS = 60_000_000_000
BAR = (10.0, 12.0, 9.0, 11.0, 5.0)


def rows(*bars):
    """A frame as `read_bars` gives it, of (minute, open, high, low, close, volume)."""
    frame = pd.DataFrame(bars, columns=["minute", "open", "high", "low", "close", "volume"])
    frame.insert(0, "time_ns", (frame.pop("minute") * MINUTE_NS).astype("int64"))
    frame.insert(1, "naive", False)
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return frame.astype(dict.fromkeys(["open", "high", "low", "close", "volume"], float))


def check(*bars, **config):
    return check_bars(rows(*bars), DataConfig(**config), "FILE", "0")


def minutes(bars):
    return (bars.time_ns / MINUTE_NS).tolist()


# Impossible bars.


@pytest.mark.parametrize(
    ("bar", "reason"),
    [
        ((np.nan, 12, 9, 11, 5), "missing or infinite: open=nan"),
        ((10, 12, 9, 11, np.nan), "missing or infinite: .*volume=nan"),
        ((10, np.inf, 9, 11, 5), "missing or infinite: .*high=inf"),
        ((10, 12, 0, 11, 5), "a price is not above 0: .*low=0"),
        ((-10, 12, -11, 11, 5), "a price is not above 0"),
        ((10, 12, 9, 11, -1e-9), "the volume is negative: .*volume=-1e-09"),
        ((10, 9, 12, 11, 5), "low is above high"),
        ((10, 12, 10.5, 11, 5), "low is above open or close"),
        ((12, 13, 11.5, 11, 5), "low is above open or close"),
        ((10, 10.5, 9, 11, 5), "high is under open or close"),
        ((12, 11.5, 9, 11, 5), "high is under open or close"),
    ],
)
def test_a_bar_that_cannot_have_happened_is_refused_with_row_and_time(bar, reason):
    message = rf"^FILE, row 3 \(1970-01-01T00:02:00\+00:00\): .*{reason}"
    with pytest.raises(ValueError, match=message):
        check((0, *BAR), (1, *BAR), (2, *bar), (3, *BAR))


def test_a_row_that_would_be_dropped_is_checked_all_the_same():
    with pytest.raises(ValueError, match=r"row 2 .*not above 0"):
        check((0, *BAR), (0, 0, 12, 9, 11, 5), (1, *BAR))


# The interval and its grid.


def test_the_interval_is_the_most_common_step():
    bars = check(*((minute, *BAR) for minute in (0, 15, 30, 60, 75, 90)))
    assert bars.interval_s == 900.0
    assert minutes(bars) == [0, 15, 30, 45, 60, 75, 90]


def test_an_interval_may_be_set_for_sparse_bars():
    sparse = [(minute, *BAR) for minute in (0, 1, 3, 5, 7)]
    assert minutes(check(*sparse, interval="1min")) == list(range(8))


def test_an_interval_of_days_is_written_as_columns_name_it():
    """``1d``, which pandas is to forget: a warning is an error here."""
    days = [(1_440 * day, *BAR) for day in range(4)]
    assert check(*days, interval="1d").interval_s == 86_400.0


@pytest.mark.parametrize(
    ("times", "interval", "message"),
    [
        ([0], None, "the interval cannot be found, the file has one time only"),
        ([0, 0, 0], None, "the interval cannot be found, the file has one time only"),
        ([0, 1, 3, 7, 20], None, r".* the most common step, 0 days 00:01:00, is that of 1 of 4"),
        ([0, 15, 30], "1min", r"no two bars .*='1min' apart; .* 00:15:00, .* not resampled"),
        ([0, 0.001, 0.002], None, r"the interval cannot be found.*at least half .* and a second"),
    ],
)
def test_times_without_an_interval_are_refused(times, interval, message):
    with pytest.raises(ValueError, match=f"^FILE: {message}"):
        check(*((minute, *BAR) for minute in times), interval=interval)


def test_a_grid_may_be_shifted_against_the_clock():
    bars = check(*((minute + 0.75, *BAR) for minute in range(5)))
    assert minutes(bars) == [0.75, 1.75, 2.75, 3.75, 4.75]


def test_a_bar_off_the_grid_is_refused_with_its_row():
    off = (2.5, *BAR)
    with pytest.raises(ValueError, match=r"row 4 \(1970-01-01T00:02:30.*off the grid of .* 5 of 6"):
        check((0, *BAR), (1, *BAR), (2, *BAR), off, (3, *BAR), (4, *BAR))


def test_a_quote_is_dropped_with_the_bar_that_was_still_being_formed():
    quote = (2.5, 11, 11, 11, 11, 0)
    bars = check((0, *BAR), (1, *BAR), (2, *BAR), quote)
    assert minutes(bars) == [0, 1]
    assert (bars.report.quotes, bars.report.forming_bars) == (1, 1)


def test_the_complete_copy_of_a_forming_bar_is_kept():
    forming, complete = (2, 10, 10, 10, 10, 1), (2, *BAR)
    quote = (2.5, 11, 11, 11, 11, 0)
    second = [(1, *BAR), complete, (3, *BAR), (4, *BAR), (5, *BAR)]
    bars = check((0, *BAR), (1, *BAR), forming, quote, *second)
    assert minutes(bars) == [0, 1, 2, 3, 4, 5]
    assert bars.ohlcv[2].tolist() == list(BAR)
    assert bars.report.identical_duplicates == 1


def test_a_quote_after_a_closed_bar_drops_itself_alone():
    bars = check((0, *BAR), (1, *BAR), (2, *BAR), (3.5, 11, 11, 11, 11, 0))
    assert minutes(bars) == [0, 1, 2]
    assert (bars.report.quotes, bars.report.forming_bars) == (1, 0)


def test_a_last_bar_off_the_grid_is_dropped_as_partial():
    bars = check((0, *BAR), (1, *BAR), (2, *BAR), (2.5, *BAR))
    assert minutes(bars) == [0, 1, 2]
    assert bars.report.partial_last_bar == 1


# Order and duplicates.


def test_rows_out_of_order_are_sorted_and_counted():
    bars = check(*((minute, *BAR) for minute in (0, 1, 4, 2, 3, 5)))
    assert minutes(bars) == [0, 1, 2, 3, 4, 5]
    assert bars.report.out_of_order_rows == 2


def test_a_file_written_newest_first_is_turned_around():
    quote, forming = (4.5, 11, 11, 11, 11, 0), (4, 10, 10, 10, 10, 1)
    bars = check(quote, forming, *((minute, *BAR) for minute in (3, 2, 1, 0)))
    assert minutes(bars) == [0, 1, 2, 3]
    assert bars.report.newest_first
    assert bars.report.out_of_order_rows == 0
    assert bars.report.forming_bars == 1


def test_rows_of_a_file_written_newest_first_keep_their_numbers():
    with pytest.raises(ValueError, match=r"^FILE, rows 3 and 2 "):
        check((4, *BAR), (3, *BAR), (3, 10, 13, 9, 11, 5), (2, *BAR), (1, *BAR))


def test_identical_duplicates_are_merged_and_counted():
    bars = check((0, *BAR), (1, *BAR), (1, *BAR), (1, *BAR), (2, *BAR))
    assert minutes(bars) == [0, 1, 2]
    assert bars.report.identical_duplicates == 2


def test_of_two_volumes_the_one_written_first_is_kept():
    bars = check((0, *BAR), (1, *BAR), (2, *BAR), (1, *BAR[:4], 99), (0, *BAR[:4], 1))
    assert bars.ohlcv[:, 4].tolist() == [5.0, 5.0, 5.0]
    assert bars.report.revised_volumes == 2


@pytest.mark.parametrize("column", range(4))
def test_duplicates_with_different_prices_are_refused_naming_both(column):
    other = list(BAR)
    other[column] += 0.25 if column in (0, 1) else -0.25
    with pytest.raises(ValueError, match=r"^FILE, rows 2 and 4 \(1970-01-01T00:01:00"):
        check((0, *BAR), (1, *BAR), (2, *BAR), (1, *other), (3, *BAR))


# Holes.


def test_a_short_hole_is_filled_flat_at_the_last_close_without_volume():
    bars = check((0, *BAR), (1, *BAR), (5, 20, 21, 19, 20, 7), (6, *BAR))
    assert minutes(bars) == [0, 1, 2, 3, 4, 5, 6]
    assert bars.ohlcv[2:5].tolist() == [[11.0, 11.0, 11.0, 11.0, 0.0]] * 3
    assert bars.ohlcv[5].tolist() == [20.0, 21.0, 19.0, 20.0, 7.0]
    assert bars.segment.tolist() == [0] * 7
    assert (bars.report.filled_holes, bars.report.filled_bars, bars.report.holes) == (1, 3, 0)


def test_a_longer_hole_ends_the_segment():
    bars = check((0, *BAR), (1, *BAR), (6, *BAR), (7, *BAR), (9, *BAR))
    assert minutes(bars) == [0, 1, 6, 7, 8, 9]
    assert bars.segment.tolist() == [0, 0, 1, 1, 1, 1]
    report = bars.report
    assert (report.holes, report.missing_bars, report.segments) == (1, 4, 2)
    assert report.longest_holes == [
        {
            "after": "1970-01-01T00:01:00+00:00",
            "before": "1970-01-01T00:06:00+00:00",
            "missing_bars": 4,
        }
    ]


def test_no_hole_is_filled_when_none_may_be():
    bars = check((0, *BAR), (1, *BAR), (3, *BAR), (4, *BAR), fill_gap_bars=0)
    assert minutes(bars) == [0, 1, 3, 4]
    assert bars.segment.tolist() == [0, 0, 1, 1]


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from([1, 1, 1, 2, 4, 5, 30]), min_size=3, max_size=40),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_segments_are_one_interval_apart_within_and_further_between(steps, fill, random):
    times = np.concatenate([[0], np.cumsum([1, *steps])])
    bars = [(minute, 10 + i, 12 + i, 9 + i, 11 + i, i) for i, minute in enumerate(times)]
    shuffled = bars[2:]
    random.shuffle(shuffled)
    found = check(*bars[:2], *shuffled, interval="1min", fill_gap_bars=fill)
    gaps = np.diff(found.time_ns) // MINUTE_NS
    same = np.diff(found.segment) == 0
    assert (gaps[same] == 1).all()
    assert (gaps[~same] > fill + 1).all()
    kept = np.isin(found.time_ns // MINUTE_NS, times)
    np.testing.assert_array_equal(found.ohlcv[kept], np.array(bars)[:, 1:])
    assert (found.ohlcv[~kept, 4] == 0).all()
    report = found.report
    assert report.bars == report.rows + report.filled_bars == len(found.time_ns)
