"""Columns of coarser bars: of closed ones alone, each from its close on, anew in every segment."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.bars import check_bars
from envs.coarse_bars import COARSE_NAMES, WARMUP_BARS, coarse_bars, coarse_features, coarse_names
from envs.data_config import DataConfig
from envs.features import FEATURE_NAMES
from envs.table import build_table
from envs.timeframes import timeframe_name, timeframe_seconds

MINUTE = 60_000_000_000
OHLCV = ["open", "high", "low", "close", "volume"]
MOVE = COARSE_NAMES.index("log_move_since")


def at(text):
    return pd.Timestamp(text, tz="UTC").value


def market(rows, seed=0, move=1e-3):
    """OHLCV of a random walk with flat bars and bars without volume."""
    rng = np.random.default_rng(seed)
    close = 30_000.0 * np.exp(np.cumsum(rng.normal(0.0, move, rows) * (rng.random(rows) > 0.1)))
    open_ = np.append(close[:1], close[:-1])
    high = np.maximum(open_, close) * (1 + rng.exponential(move / 3, rows))
    low = np.minimum(open_, close) / (1 + rng.exponential(move / 3, rows))
    volume = rng.lognormal(0.0, 1.0, rows) * (rng.random(rows) > 0.2)
    return np.stack([open_, high, low, close, volume], -1)


def bars_of(ohlcv, start="2024-03-01T00:00", holes=(), phase="0s"):
    """Checked one-minute bars; the rows of `holes` are missing."""
    times = pd.date_range(start, periods=len(ohlcv), freq="min", tz="UTC") + pd.Timedelta(phase)
    frame = pd.DataFrame(ohlcv, columns=OHLCV)
    frame.insert(0, "time_ns", times.as_unit("ns").astype("int64"))
    frame["naive"] = False
    frame.index += 1
    frame = frame.drop(index=[row + 1 for row in holes])
    return check_bars(frame, DataConfig(interval="1min", fill_gap_bars=0), "FILE", "0")


def test_a_drawn_table_of_minutes_and_the_bars_of_three_minutes_in_it():
    # The first is of a bar that had begun before the table, the last two of one that is not whole.
    drawn = [
        # time    open   high    low  close volume
        ("09:59", 100.0, 101.0, 99.0, 100.0, 7.0),
        ("10:00", 100.0, 104.0, 99.5, 103.0, 1.0),
        ("10:01", 103.0, 103.5, 98.0, 99.0, 2.0),
        ("10:02", 99.0, 102.0, 98.5, 101.0, 4.0),
        ("10:03", 101.0, 101.0, 95.0, 96.0, 0.0),
        ("10:04", 96.0, 97.0, 94.0, 95.0, 0.5),
        ("10:05", 95.0, 99.0, 94.5, 98.0, 0.5),
        ("10:06", 98.0, 120.0, 97.0, 119.0, 9.0),
        ("10:07", 119.0, 130.0, 90.0, 91.0, 9.0),
    ]
    times = np.array([at(f"2024-03-01T{row[0]}") for row in drawn])
    found = coarse_bars(times, np.array([row[1:] for row in drawn]), MINUTE, 3 * MINUTE)
    assert found.ohlcv.tolist() == [
        [100.0, 104.0, 98.0, 101.0, 7.0],
        [101.0, 101.0, 94.0, 98.0, 1.0],
    ]
    assert found.available_ns.tolist() == [at("2024-03-01T10:03"), at("2024-03-01T10:06")]


def test_a_coarser_bar_is_known_to_the_bar_that_closes_with_it_and_to_none_before():
    bars = bars_of(market(200), start="2024-03-01T09:58")
    columns = coarse_features(bars, ["5min"])
    # 10:00 is row 2; the 20th whole bar closes at 11:40, with the row that opens at 11:39.
    first = 2 + 5 * (WARMUP_BARS + 1) - 1
    assert bars.time_ns[first] == at("2024-03-01T11:39")
    assert np.isnan(columns[:first]).all()
    assert np.isfinite(columns[first:]).all()
    # One bar is shown for five rows, then the next.
    shown = columns[first:, :MOVE]
    assert (shown[:4] == shown[4]).all()
    assert (shown[5] != shown[4]).any()
    # The last column moves with every close, and starts at 0 from the close of the coarser bar.
    close = bars.ohlcv[first:, 3]
    np.testing.assert_allclose(columns[first:, MOVE][:5], np.log(close[:5] / close[0]), atol=1e-7)
    assert columns[first + 5, MOVE] == 0.0


@pytest.mark.parametrize("inside", range(5))
def test_what_happens_inside_a_coarser_bar_is_seen_at_its_close_first(inside):
    ohlcv = market(200)
    ohlcv[:, 4] += 1.0
    changed = ohlcv.copy()
    row = 150 + inside
    changed[row, 1] *= 1.05
    changed[row, 4] *= 9.0
    before, after = (coarse_features(bars_of(x), ["5min"]) for x in (ohlcv, changed))
    differs = (before != after) & np.isfinite(before)
    assert np.flatnonzero(differs.any(1))[0] == 154
    volume = COARSE_NAMES.index("volume_ratio_20")
    assert differs[154, volume]


def test_a_segment_begins_with_rows_that_have_no_coarser_bars():
    bars = bars_of(market(700), holes=range(301, 304))
    columns = coarse_features(bars, ["5min"])
    again = int(np.flatnonzero(bars.segment == 1)[0])
    assert bars.time_ns[again] == at("2024-03-01T05:04")
    first = again + 1 + 5 * 20 - 1  # 05:05 is the first whole bar's opening
    assert np.isfinite(columns[again - 1]).all()
    assert np.isnan(columns[again:first]).all()
    assert np.isfinite(columns[first:]).all()


@settings(max_examples=40)
@given(
    t=st.integers(0, 798),
    start=st.integers(0, 59),
    timeframes=st.sampled_from([["2min"], ["5min", "15min"], ["3min", "1h"]]),
    hole=st.integers(300, 700),
    kind=st.sampled_from(["other bars", "cut off", "a hole"]),
)
def test_another_future_changes_no_column_up_to_t(t, start, timeframes, hole, kind):
    ohlcv, begin = market(800), f"2024-03-01T05:{start:02}"
    holes = [row for row in range(hole, hole + 3) if row <= t]
    changed, gone = ohlcv.copy(), list(holes)
    if kind == "other bars":
        changed[t + 1 :] = market(800, seed=5, move=0.03)[t + 1 :]
    elif kind == "cut off":
        changed = changed[: t + 1]
        if t + 1 - len(holes) < 3:
            return
    else:
        gone += list(range(t + 1, min(t + 8, 799)))
    before = coarse_features(bars_of(ohlcv, begin, holes), timeframes)
    after = coarse_features(bars_of(changed, begin, gone), timeframes)
    known = t + 1 - len(holes)
    np.testing.assert_array_equal(before[:known], after[:known])


def slow_columns(bars, minutes):
    """The same columns row by row, from what is known at the row's close, by their definitions."""
    length, rows = minutes * MINUTE, []
    for t in range(len(bars.time_ns)):
        mine = np.flatnonzero(bars.segment[: t + 1] == bars.segment[t])
        groups = {}
        for row in mine:
            groups.setdefault(int(bars.time_ns[row]) // length, []).append(row)
        now = int(bars.time_ns[t]) + MINUTE
        whole = [g for k, g in groups.items() if len(g) == minutes and (k + 1) * length <= now]
        if len(whole) < 20:
            rows.append([np.nan] * len(COARSE_NAMES))
            continue
        b = [bars.ohlcv[g] for g in whole[-20:]]
        close, volume = np.array([g[-1, 3] for g in b]), np.array([g[:, 4].sum() for g in b])
        high, low = np.array([g[:, 1].max() for g in b]), np.array([g[:, 2].min() for g in b])
        typical, log_close = (high + low + close) / 3, np.log(close)
        deviation = log_close.std()
        rows.append([
            *(log_close[-1] - log_close[-1 - lag] for lag in (1, 5, 15)),
            np.log(b[-1][0, 0] / close[-1]), np.log(high[-1] / close[-1]),
            np.log(low[-1] / close[-1]), np.log1p(volume[-1] / volume.mean()),
            np.log(close[-1] / np.average(typical, weights=volume)),
            (log_close[-1] - log_close.mean()) / deviation / 2, np.log(4 * deviation),
            np.log(bars.ohlcv[t, 3] / close[-1]),
        ])  # fmt: skip
    return np.array(rows)


@settings(max_examples=12)
@given(seed=st.integers(0, 99), start=st.integers(0, 59), hole=st.integers(20, 200))
def test_columns_are_those_of_their_definitions(seed, start, hole):
    ohlcv = market(240, seed=seed)
    bars = bars_of(ohlcv, f"2024-03-01T05:{start:02}", range(hole, hole + 2))
    found = coarse_features(bars, ["3min", "5min"])
    slow = np.concatenate([slow_columns(bars, 3), slow_columns(bars, 5)], axis=1)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(slow))
    np.testing.assert_allclose(found, slow, rtol=1e-5, atol=1e-6)


def test_bars_off_the_full_minute_have_coarser_bars_off_it_too():
    ohlcv = market(200)
    on, off = (coarse_features(bars_of(ohlcv, phase=p), ["5min"]) for p in ("0s", "20s"))
    np.testing.assert_array_equal(on, off)


def test_columns_do_not_know_the_price_level_or_the_unit_of_the_volume():
    ohlcv = market(300)
    one = coarse_features(bars_of(ohlcv), ["5min"])
    other = coarse_features(bars_of(ohlcv * [0.01, 0.01, 0.01, 0.01, 1000.0]), ["5min"])
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


# The table.


def build(tmp_path, **config):
    frame = pd.DataFrame(market(3_000), columns=OHLCV)
    frame.insert(0, "timestamp", pd.date_range("2024-03-01", periods=3_000, freq="min", tz="UTC"))
    frame = frame.drop(index=range(900, 920))
    frame.to_parquet(tmp_path / "bars.parquet")
    data = DataConfig(path=str(tmp_path / "bars.parquet"), **config)
    return build_table(data, window=16, episode_bars=32)


def test_coarser_columns_stand_after_the_others_and_bound_what_is_tradable(tmp_path):
    plain, more = build(tmp_path), build(tmp_path, timeframes=["5min", "30min"])
    names = [*FEATURE_NAMES, *coarse_names(["5min", "30min"])]
    assert more.meta.feature_names == names
    assert "30min_log_return_5" in names
    width = len(FEATURE_NAMES)
    np.testing.assert_array_equal(more.features[:, :width], plain.features)
    assert more.features[more.tradable].isfinite().all()
    # 20 bars of half an hour are longer than the 374 minutes of the others.
    age = np.concatenate([np.arange(900), np.arange(len(more) - 900)])
    whole = np.where(np.arange(len(more)) < 900, 600 - 1, 10 + 600 - 1)  # 15:20 begins at 15:30
    np.testing.assert_array_equal(more.tradable.numpy(), age >= whole)
    assert more.meta.report["tradable_bars"] < plain.meta.report["tradable_bars"]


def test_the_normaliser_of_coarser_columns_is_that_of_the_tradable_train_rows(tmp_path):
    table = build(tmp_path, timeframes=["15min"])
    first, end = table.meta.splits["train"]
    rows = table.features[first:end][table.tradable[first:end]].double()
    np.testing.assert_allclose(table.loc, rows.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(table.scale, rows.std(0, correction=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("timeframes", "message"),
    [
        ([], "data.timeframes="),
        (["an hour"], "data.timeframes="),
        (["1h", "15min"], "the shortest first"),
        (["60min", "1h"], "each once"),
        (["7min"], "of which a day is a whole multiple"),
        (["2D"], "of which a day is a whole multiple"),
        (["0min"], "data.timeframes="),
        (["1min"], "at least twice, of the 60 s of a bar of bars.parquet"),
        (["90s"], "whole multiples"),
        (["12h"], r"the train split has .* bars, its longest run without a hole or warm-up rows"),
    ],
)
def test_other_timeframes_are_refused(tmp_path, timeframes, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, timeframes=timeframes)


def test_a_day_is_read_as_columns_name_it():
    for seconds in (30, 900, 14_400, 86_400):
        assert timeframe_seconds(timeframe_name(seconds)) == seconds


def test_names_of_lengths_of_time():
    assert [timeframe_name(s) for s in (30, 60, 900, 3600, 14_400, 86_400, 5_400)] == [
        "30s", "1min", "15min", "1h", "4h", "1d", "90min",
    ]  # fmt: skip
