"""Features: causal, of finite memory, anew in each segment, finite in every market, scale-free."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.features import (
    FEATURE_NAMES,
    LEFT_OUT_WEIGHT,
    WARMUP_ROWS,
    exponential_average,
    log_return,
    market_features,
    memory_rows,
    rolling,
    rsi,
    segment_features,
    volume_ratio,
    vwap_distance,
    zscore,
)

ROWS = WARMUP_ROWS + 600


def market(rows=ROWS, seed=0, move=1e-3):
    """Random bars with jumps, flat bars and bars without volume."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0.0, move, rows) * rng.choice([1.0, 1.0, 8.0, 0.0], rows)
    close = 30_000.0 * np.exp(np.cumsum(moves))
    open_ = np.append(close[:1], close[:-1])
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0.0, move / 2, rows)))
    low = np.minimum(open_, close) * (1 - np.abs(rng.normal(0.0, move / 2, rows)))
    volume = rng.lognormal(0.0, 2.0, rows) * (rng.random(rows) > 0.24)
    return np.stack([open_, high, low, close, volume], axis=1)


def one_segment(rows):
    return np.zeros(rows, dtype=np.int64)


BARS = market()
FEATURES = segment_features(BARS)


# Causality.


@settings(max_examples=30)
@given(
    t=st.integers(0, ROWS - 2),
    kind=st.sampled_from(["other bars", "nan", "zero", "infinite", "cut off"]),
)
def test_no_value_up_to_t_changes_when_the_bars_after_t_do(t, kind):
    changed = BARS.copy()
    changed[t + 1 :] = {
        "other bars": market(seed=9, move=0.05)[t + 1 :],
        "nan": np.nan,
        "zero": 0.0,
        "infinite": np.inf,
        "cut off": np.nan,
    }[kind]
    if kind == "cut off":
        changed = changed[: t + 1]
    for name, values in segment_features(changed).items():
        np.testing.assert_array_equal(values[: t + 1], FEATURES[name][: t + 1], err_msg=name)


def test_every_feature_sees_the_bar_that_has_just_closed():
    changed = BARS.copy()
    changed[-1] *= [1.01, 1.05, 0.94, 0.97, 3.0]
    changed[-1, 4] += 1.0
    for name, values in segment_features(changed).items():
        assert values[-1] != FEATURES[name][-1], name


@pytest.mark.parametrize("start", [1, 50, 200, 599])
def test_history_before_the_warm_up_changes_no_value(start):
    later = segment_features(BARS[start:])
    for name, values in later.items():
        full = FEATURES[name][start:]
        np.testing.assert_allclose(
            values[WARMUP_ROWS:], full[WARMUP_ROWS:], rtol=0, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("calm_move", [1e-6, 0.0])
def test_a_crash_before_the_history_is_forgotten_in_the_calm_after_it(calm_move):
    bars = np.concatenate([market(100, seed=1), market(ROWS, seed=2, move=calm_move)])
    bars[100:, :4] *= 0.5 * bars[99, 3] / bars[100, 3]
    bars[100, 1] = bars[99, 3]
    full, later = segment_features(bars), segment_features(bars[101:])
    for name in FEATURE_NAMES:
        np.testing.assert_allclose(
            full[name][101 + WARMUP_ROWS :],
            later[name][WARMUP_ROWS:],
            rtol=0,
            atol=1e-6,
            err_msg=name,
        )


def test_a_large_volume_that_has_left_the_window_leaves_no_remnant():
    volume = np.zeros(200)
    volume[10], volume[150] = 1e18, 1e-3
    ratio = volume_ratio(volume, 60)
    assert ratio[100] == 0.0
    assert ratio[150] == pytest.approx(np.log(61.0))
    price = np.linspace(100.0, 101.0, 200)
    distance = vwap_distance(price, price, price, volume, 60)
    assert distance[150] == pytest.approx(0.0, abs=1e-12)
    assert distance[100] == pytest.approx(np.log(price[100] / price[41:101].mean()), abs=1e-12)


# Segments and warm-up.


def test_the_warm_up_rows_of_each_segment_are_nan_and_all_others_finite():
    segment = np.repeat([0, 1, 2], [WARMUP_ROWS + 5, WARMUP_ROWS, ROWS])
    bars = market(len(segment), seed=3)
    complete = np.isfinite(market_features(bars, segment))
    expected = np.zeros(len(segment), dtype=bool)
    expected[WARMUP_ROWS : WARMUP_ROWS + 5] = True
    expected[-(ROWS - WARMUP_ROWS) :] = True
    assert (complete == expected[:, None]).all()


def test_features_start_anew_in_each_segment():
    segment = np.repeat([0, 1], ROWS)
    second = market(ROWS, seed=4)
    features = market_features(np.concatenate([BARS, second]), segment)
    alone = market_features(second, one_segment(ROWS))
    np.testing.assert_array_equal(features[ROWS:], alone)


def test_the_memory_of_an_average_leaves_out_less_than_a_millionth():
    for alpha in (1 / 14, 2 / 13, 2 / 27, 2 / 10):
        rows = memory_rows(alpha)
        assert (1 - alpha) ** rows <= LEFT_OUT_WEIGHT < (1 - alpha) ** (rows - 1)
    assert 2 * memory_rows(1 / 14) == WARMUP_ROWS == 374


# Values.


def test_the_average_is_the_weighted_sum_it_claims_to_be():
    alpha, values = 1 / 14, BARS[:, 3]
    weights = alpha * (1 - alpha) ** np.arange(memory_rows(alpha))
    weights /= weights.sum()
    t = 500
    expected = weights @ values[t - len(weights) + 1 : t + 1][::-1]
    assert exponential_average(values, alpha)[t] == pytest.approx(expected, rel=1e-12)


def test_log_return_zscore_and_relative_strength_of_a_drawn_path():
    close = np.array([100.0, 101.0, 100.0, 102.0])
    assert log_return(np.log(close), 2)[2:].tolist() == [0.0, pytest.approx(np.log(102 / 101))]
    assert np.isnan(log_return(np.log(close), 2)[:2]).all()
    # Mean 2, deviation sqrt(2 / 3).
    assert zscore(np.array([1.0, 2.0, 3.0]), 3)[2] == pytest.approx(1.5**0.5)
    rising, falling = np.linspace(100, 200, 300), np.linspace(200, 100, 300)
    assert rsi(rising, 14)[-1] == pytest.approx(1.0)
    assert rsi(falling, 14)[-1] == pytest.approx(-1.0)


def test_a_feature_looks_back_as_far_as_its_name_says():
    _, high, low, close, volume = (pd.Series(column) for column in BARS.T)
    money = (high + low + close) / 3 * volume
    mean = volume.rolling(60).mean()
    want = {f"log_return_{lag}": np.log(close / close.shift(lag)) for lag in (1, 5, 15, 60)}
    want["volume_ratio_60"] = np.log(1 + volume / mean)
    want["vwap_distance_60"] = np.log(close * volume.rolling(60).sum() / money.rolling(60).sum())
    for name, values in want.items():
        np.testing.assert_allclose(FEATURES[name], values, rtol=0, atol=1e-9, err_msg=name)


def test_a_rolling_value_is_that_of_its_own_window_in_a_long_table_too():
    rows = 40_000
    values = np.random.default_rng(7).normal(size=rows)
    means = rolling(values, 60, lambda windows: windows.mean(axis=1))
    for t in [59, 16_383, 16_384, 16_442, 16_443, 16_444, 32_826, 32_827, 32_828, rows - 1]:
        assert means[t] == pytest.approx(values[t - 59 : t + 1].mean(), abs=1e-15)
    assert np.isnan(means[:59]).all()
    assert np.isfinite(means[59:]).all()


def test_features_do_not_depend_on_the_price_level_or_the_unit_of_volume():
    scaled = segment_features(BARS * [1e-4, 1e-4, 1e-4, 1e-4, 1e3])
    for name, values in scaled.items():
        np.testing.assert_allclose(
            values[WARMUP_ROWS:], FEATURES[name][WARMUP_ROWS:], atol=1e-8, err_msg=name
        )


@pytest.mark.parametrize(
    "tail", ["flat", "flat without volume", "one tick", "crash", "from a hole"]
)
def test_features_are_finite_and_bounded_in_degenerate_markets(tail):
    bars = market(2 * ROWS, seed=5)
    rest = bars[ROWS:]
    if tail == "crash":
        rest[50:, :4] *= 1e-3
        rest[50, :2] = bars[ROWS + 49, 3]
    elif tail == "from a hole":
        rest[:, :4] = rest[0, 3]
        rest[::7, 3] = rest[::7, 1] = rest[0, 3] * (1 + 1e-12)
    else:
        rest[:, :4] = rest[0, 3]
        rest[:, 4] = 0.0 if "without" in tail else 1.0
        rest[::2, 1] += 0.1 if tail == "one tick" else 0.0
    features = market_features(bars, one_segment(len(bars)))[WARMUP_ROWS:]
    assert np.isfinite(features).all()
    columns = dict(zip(FEATURE_NAMES, features.T, strict=True))
    for name in ("rsi_14", "adx_14", "di_difference_14"):
        assert np.abs(columns[name]).max() <= 1.0 + 1e-6, name
    assert 0.0 <= columns["volume_ratio_60"].min() <= columns["volume_ratio_60"].max() < np.log(62)
    assert np.abs(columns["close_zscore_60"]).max() <= 59**0.5 + 1e-6
    if tail.startswith("flat"):
        for name in ("rsi_14", "close_zscore_60", "bollinger_position_20", "log_return_60"):
            assert np.abs(columns[name][-1]) < 1e-5, name
        assert columns["adx_14"][-1] < 1e-5


def test_a_volume_of_zero_is_a_value_of_its_own_lower_end():
    volume = np.where(np.arange(200) % 4 == 0, 0.0, 10.0)
    ratio = volume_ratio(volume, 60)[60:]
    assert (ratio[::4] == 0.0).all()
    assert ratio[1] == pytest.approx(np.log1p(1 / 0.75))


# An outside library.


@pytest.fixture(scope="module")
def talib():
    return pytest.importorskip("talib")


@pytest.fixture(scope="module")
def long_market():
    """Bars, rows in which all seeds have died out, and the features of them."""
    bars = market(6000, seed=6)
    return bars, slice(2000, None), segment_features(bars)


@pytest.mark.oracle
def test_wilder_indicators_agree_with_ta_lib(talib, long_market):
    bars, settled, ours = long_market
    _, high, low, close, _ = np.ascontiguousarray(bars.T)
    true_range = np.exp(ours["log_atr_14"]) * close
    difference = talib.PLUS_DI(high, low, close, 14) - talib.MINUS_DI(high, low, close, 14)
    pairs = {
        "rsi": (50 + 50 * ours["rsi_14"], talib.RSI(close, 14)),
        "atr": (true_range, talib.ATR(high, low, close, 14)),
        "adx": (100 * ours["adx_14"], talib.ADX(high, low, close, 14)),
        "di": (100 * ours["di_difference_14"], difference),
    }
    for name, (mine, theirs) in pairs.items():
        # The cut leaves out a millionth of the weight; a jump may lie in it.
        np.testing.assert_allclose(
            mine[settled], theirs[settled], rtol=2e-5, atol=1e-3, err_msg=name
        )


@pytest.mark.oracle
def test_macd_bands_and_deviation_agree_with_ta_lib(talib, long_market):
    bars, settled, ours = long_market
    close = np.ascontiguousarray(bars[:, 3])
    line, _, histogram = talib.MACD(close, 12, 26, 9)
    upper, middle, _ = talib.BBANDS(np.log(close), 20, 2.0, 2.0)
    position = (np.log(close) - middle) / (upper - middle)
    score = (np.log(close) - talib.SMA(np.log(close), 60)) / talib.STDDEV(np.log(close), 60)
    # Fractions of the price, to a millionth of it: that is what the cut leaves out.
    np.testing.assert_allclose(ours["macd_12_26"][settled], (line / close)[settled], atol=1e-6)
    np.testing.assert_allclose(
        ours["macd_histogram_9"][settled], (histogram / close)[settled], atol=1e-6
    )
    # Rolling columns are cut nowhere; what is left is TA-Lib's own rounding.
    width = np.exp(ours["log_bollinger_width_20"])
    np.testing.assert_allclose(width[settled], 2 * (upper - middle)[settled], rtol=1e-5)
    np.testing.assert_allclose(ours["bollinger_position_20"][settled], position[settled], atol=1e-4)
    np.testing.assert_allclose(ours["close_zscore_60"][settled], score[settled], atol=1e-4)
