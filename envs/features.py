"""What a policy sees of the market: causal, scale-free columns, computed once over a whole table.

No column looks at a later bar, none depends on the observation window, and each starts anew in
every segment. Prices enter as ratios to the close and volume as a ratio to its own mean, so that a
column means the same at any price level.

Every column has a finite memory: the value in row t is a function of the rows ``t - WARMUP_ROWS``
to t and of nothing before them. That is plain for the rolling columns. The recursive ones (Wilder's
RSI, ATR and ADX, and the MACD) weight the past by ``(1 - alpha) ** age``; here the weights are cut
where those left out sum to less than `LEFT_OUT_WEIGHT`. A recursion without the cut forgets slowly
where it matters: RSI and ADX are ratios, and in the calm after a crash the remnant of the crash
outweighs the last hours.

Shapes below: N rows of one segment, float64 in and out.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

LEFT_OUT_WEIGHT = 1e-6
_WILDER_PERIOD = 14
_CHUNK_ROWS = 16_384
# A window whose log prices deviate less than this is flat: a tenth of a micro-basis-point, far
# under any tick and far over the rounding of a logarithm.
_FLAT_DEVIATION = 1e-9
# Least fraction of a price that a logarithm is taken of: a hundredth of a basis point.
_LEAST_FRACTION = 1e-6
# Average moves under this fraction of the price count as none: the rounding left by a cut average.
_NO_MOVE = 1e-12

FEATURE_NAMES = (
    "log_return_1",
    "log_return_5",
    "log_return_15",
    "log_return_60",
    "open_over_close",
    "high_over_close",
    "low_over_close",
    "volume_ratio_60",
    "vwap_distance_60",
    "close_zscore_60",
    "log_atr_14",
    "rsi_14",
    "bollinger_position_20",
    "log_bollinger_width_20",
    "adx_14",
    "di_difference_14",
    "macd_12_26",
    "macd_histogram_9",
)


def memory_rows(alpha: float) -> int:
    """Rows that an exponential average keeps: those older weigh under `LEFT_OUT_WEIGHT`."""
    return math.ceil(math.log(LEFT_OUT_WEIGHT) / math.log1p(-alpha))


# ADX smooths twice and looks furthest back. Rows before this one of a segment have no features.
WARMUP_ROWS = 2 * memory_rows(1.0 / _WILDER_PERIOD)


def market_features(ohlcv: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """All features of a table.

    Args:
        ohlcv: float64 [N, 5], checked bars.
        segment: int64 [N], ascending segment numbers.

    Returns:
        float32 [N, len(FEATURE_NAMES)]; NaN in the first `WARMUP_ROWS` rows of each segment, and
        finite in all others.
    """
    features = np.full((len(ohlcv), len(FEATURE_NAMES)), np.nan, dtype=np.float32)
    borders = np.flatnonzero(np.diff(segment)) + 1
    for first, end in zip([0, *borders], [*borders, len(ohlcv)], strict=True):
        if end - first > WARMUP_ROWS:
            columns = segment_features(ohlcv[first:end])
            stacked = np.stack([columns[name] for name in FEATURE_NAMES], axis=1)
            features[first + WARMUP_ROWS : end] = stacked[WARMUP_ROWS:]
    return features


def segment_features(ohlcv: np.ndarray) -> dict[str, np.ndarray]:
    """The features of one segment, by name; rows before `WARMUP_ROWS` mean nothing.

    Values that no checked bar holds (0, NaN) yield NaN or infinity in the rows that look at them,
    without a warning, and change no earlier row.
    """
    open_, high, low, close, volume = np.ascontiguousarray(ohlcv.T)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_close = np.log(close)
        position, width = bollinger(log_close, 20)
        adx, di_difference = directional_movement(high, low, close, _WILDER_PERIOD)
        line, histogram = macd(close)
        return {
            **{f"log_return_{lag}": log_return(log_close, lag) for lag in (1, 5, 15, 60)},
            "open_over_close": np.log(open_ / close),
            "high_over_close": np.log(high / close),
            "low_over_close": np.log(low / close),
            "volume_ratio_60": volume_ratio(volume, 60),
            "vwap_distance_60": vwap_distance(high, low, close, volume, 60),
            "close_zscore_60": zscore(log_close, 60),
            "log_atr_14": log_fraction(atr(high, low, close, _WILDER_PERIOD) / close),
            "rsi_14": rsi(close, _WILDER_PERIOD),
            "bollinger_position_20": position,
            "log_bollinger_width_20": log_fraction(width),
            "adx_14": adx,
            "di_difference_14": di_difference,
            "macd_12_26": line / close,
            "macd_histogram_9": histogram / close,
        }


def log_return(log_close: np.ndarray, lag: int) -> np.ndarray:
    """``log(close[t] / close[t - lag])``; NaN in the first `lag` rows."""
    out = np.full_like(log_close, np.nan)
    out[lag:] = log_close[lag:] - log_close[:-lag]
    return out


def log_fraction(fraction: np.ndarray) -> np.ndarray:
    """Logarithm of a range that is a fraction of the price; a range may be 0, hence the floor.

    Ranges differ by factors, from a calm night to a crash: their logarithm is nearer to a normal
    distribution than they are.
    """
    return np.log(np.maximum(fraction, _LEAST_FRACTION))


def volume_ratio(volume: np.ndarray, window: int) -> np.ndarray:
    """``log(1 + volume / mean volume)`` over the window ending at t: 0 for a bar without volume.

    The mean contains the bar itself, so the value lies in ``[0, log(1 + window)]``, however
    seldom there is volume; a window without any is 0 too.
    """
    mean = rolling(volume, window, _mean)
    return np.log1p(volume / np.where(mean == 0.0, 1.0, mean))


def vwap_distance(
    high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray, window: int
) -> np.ndarray:
    """``log(close / VWAP)`` over the window ending at t, of prices (high + low + close) / 3.

    A window without volume weighs its bars equally.
    """
    typical = (high + low + close) / 3.0
    traded = rolling(volume, window, _mean)
    weighted = rolling(typical * volume, window, _mean) / np.where(traded == 0.0, 1.0, traded)
    return np.log(close / np.where(traded == 0.0, rolling(typical, window, _mean), weighted))


def zscore(log_close: np.ndarray, window: int) -> np.ndarray:
    """Log close less its mean, in standard deviations of the window ending at t; 0 when flat."""
    deviation = rolling(log_close, window, _std)
    distance = log_close - rolling(log_close, window, _mean)
    return distance / np.maximum(deviation, _FLAT_DEVIATION)


def bollinger(log_close: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Place within the bands of the log close, and their width.

    Returns:
        ``(log close - mean) / (2 std)``, -1 at the lower and 1 at the upper band, 0 when flat;
        and the distance between the bands, ``4 std``, a fraction of the price.
    """
    return zscore(log_close, window) / 2.0, 4.0 * rolling(log_close, window, _std)


def atr(high: np.ndarray, low: np.ndarray, close: np.ndarray, period: int) -> np.ndarray:
    """Wilder's average true range, in price.

    The true range is ``max(high, close[t-1]) - min(low, close[t-1])``.
    """
    before = np.append(close[:1], close[:-1])
    true_range = np.maximum(high, before) - np.minimum(low, before)
    return exponential_average(true_range, 1.0 / period)


def rsi(close: np.ndarray, period: int) -> np.ndarray:
    """Wilder's relative strength index, centred: ``(up - down) / (up + down)``, 0 when flat.

    Up and down are the averages of rises and falls of the close. The usual index of 0 to 100 is
    ``50 + 50 *`` this.
    """
    change = np.diff(close, prepend=close[:1])
    up = exponential_average(np.maximum(change, 0.0), 1.0 / period)
    down = exponential_average(np.maximum(-change, 0.0), 1.0 / period)
    return (up - down) / (up + down + _NO_MOVE * close)


def directional_movement(
    high: np.ndarray, low: np.ndarray, close: np.ndarray, period: int
) -> tuple[np.ndarray, np.ndarray]:
    """Wilder's ADX, and the difference of his directional indicators, both as fractions.

    Returns:
        ADX / 100 in [0, 1], and (+DI - -DI) / 100 in [-1, 1]; 0 when flat.
    """
    rise, fall = np.diff(high, prepend=high[:1]), -np.diff(low, prepend=low[:1])
    plus = exponential_average(np.where((rise > fall) & (rise > 0), rise, 0.0), 1.0 / period)
    minus = exponential_average(np.where((fall > rise) & (fall > 0), fall, 0.0), 1.0 / period)
    floor = _NO_MOVE * close
    index = np.abs(plus - minus) / (plus + minus + floor)
    difference = (plus - minus) / (atr(high, low, close, period) + floor)
    return exponential_average(index, 1.0 / period), difference


def macd(close: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The MACD line (12, 26) and its distance from its own average (9), in price."""
    line = exponential_average(close, 2.0 / 13.0) - exponential_average(close, 2.0 / 27.0)
    return line, line - exponential_average(line, 2.0 / 10.0)


def exponential_average(values: np.ndarray, alpha: float) -> np.ndarray:
    """Exponential average over the last ``W = memory_rows(alpha)`` rows.

    ``sum(alpha q**j x[t-j] for j < W) / (1 - q**W)`` with ``q = 1 - alpha``. With the endless
    average ``e`` the sum is ``e[t] - q**W e[t-W]``, whatever ``e`` started from. Rows before W are
    those of the endless average started from the first value.
    """
    endless = pd.Series(values).ewm(alpha=alpha, adjust=False).mean().to_numpy(copy=True)
    memory = memory_rows(alpha)
    left_out = (1.0 - alpha) ** memory
    out = endless.copy()
    out[memory:] = (endless[memory:] - left_out * endless[:-memory]) / (1.0 - left_out)
    return out


def rolling(
    values: np.ndarray, window: int, reduce: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Reduce the `window` values that end at t; NaN in the first ``window - 1`` rows.

    Each window is reduced from its own values. Running sums would be faster and would carry
    rounding from everything before: after a large value has left, its remnant is no 0.
    """
    out = np.full_like(values, np.nan)
    if len(values) < window:
        return out
    windows = sliding_window_view(values, window)
    for first in range(0, len(windows), _CHUNK_ROWS):
        chunk = windows[first : first + _CHUNK_ROWS]
        out[first + window - 1 : first + window - 1 + len(chunk)] = reduce(chunk)
    return out


def _mean(windows: np.ndarray) -> np.ndarray:
    return windows.mean(axis=1)


def _std(windows: np.ndarray) -> np.ndarray:
    return windows.std(axis=1)
