"""Columns of coarser bars: of the last one that had closed, and nothing of the one that is open.

A coarser bar of length T covers the base bars of ``k T`` to ``(k + 1) T``, counted from 1970 UTC on
the grid of the base bars, all of them in one segment. It is available at its close, ``(k + 1) T``:
the first row that shows it is the base bar that closes with it. The rows before a segment's first
coarser bars have closed are warm-up rows, as those of every column.

Shapes below: N base bars, M coarser bars of one segment, float64 unless said otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from envs.bars import Bars
from envs.checks import require
from envs.features import (
    bollinger,
    log_fraction,
    log_return,
    volume_ratio,
    vwap_distance,
)
from envs.timeframes import timeframe_name, timeframe_seconds

_LOOKBACK = 20
# Coarser bars of a segment before the first one that has all its columns.
WARMUP_BARS = _LOOKBACK - 1
COARSE_NAMES = (
    "log_return_1",
    "log_return_5",
    "log_return_15",
    "open_over_close",
    "high_over_close",
    "low_over_close",
    f"volume_ratio_{_LOOKBACK}",
    f"vwap_distance_{_LOOKBACK}",
    f"bollinger_position_{_LOOKBACK}",
    f"log_bollinger_width_{_LOOKBACK}",
    "log_move_since",
)
_NS = 1_000_000_000


@dataclass(frozen=True)
class CoarseBars:
    """Coarser bars of one segment that are whole.

    Attributes:
        available_ns: int64 [M], when each is known: its close, ns since 1970 UTC.
        ohlcv: [M, 5].
    """

    available_ns: np.ndarray
    ohlcv: np.ndarray


def coarse_names(timeframes: Sequence[str]) -> list[str]:
    """Names of the columns that `coarse_features` gives, in its order."""
    return [
        f"{timeframe_name(timeframe_seconds(text))}_{name}"
        for text in timeframes
        for name in COARSE_NAMES
    ]


def coarse_features(bars: Bars, timeframes: Sequence[str]) -> np.ndarray:
    """Columns of the last closed bar of every timeframe.

    Args:
        bars: N base bars, checked.
        timeframes: lengths of the coarser bars.

    Returns:
        float32 [N, F]; NaN in rows before the first coarser bars of a segment have closed.

    Raises:
        ValueError: for a timeframe that is no whole multiple, at least twice, of the base bars.
    """
    borders = np.flatnonzero(np.diff(bars.segment)) + 1
    edges = [0, *borders.tolist(), len(bars.ohlcv)]
    base_ns = round(bars.interval_s * _NS)
    columns = []
    for text in timeframes:
        length_ns = timeframe_seconds(text) * _NS
        fits = length_ns >= 2 * base_ns and length_ns % base_ns == 0
        allowed = f"whole multiples, at least twice, of the {bars.interval_s:g} s of a bar"
        require(fits, "data.timeframes", text, f"{allowed} of {bars.source_name}")
        parts = [
            _segment_columns(bars.time_ns[first:end], bars.ohlcv[first:end], base_ns, length_ns)
            for first, end in pairwise(edges)
        ]
        columns.append(np.concatenate(parts))
    return np.concatenate(columns, axis=1)


def coarse_bars(time_ns: np.ndarray, ohlcv: np.ndarray, base_ns: int, length_ns: int) -> CoarseBars:
    """The coarser bars of a segment of which every base bar is there.

    Args:
        time_ns: int64 [N], `base_ns` apart.
        ohlcv: [N, 5].
        base_ns: length of a base bar.
        length_ns: length of a coarser bar, a multiple of it.
    """
    per_bar = length_ns // base_ns
    phase = int(time_ns[0]) % base_ns
    first = int(-(time_ns[0] - phase) % length_ns) // base_ns
    count = max(0, (len(time_ns) - first) // per_bar)
    parts = ohlcv[first : first + count * per_bar].reshape(count, per_bar, 5)
    bars = np.stack(
        [
            parts[:, 0, 0],
            parts[:, :, 1].max(axis=1, initial=-np.inf),
            parts[:, :, 2].min(axis=1, initial=np.inf),
            parts[:, -1, 3],
            np.ascontiguousarray(parts[:, :, 4]).sum(axis=1),
        ],
        axis=1,
    )
    opened = time_ns[first : first + count * per_bar : per_bar]
    return CoarseBars(opened + length_ns, bars)


def _segment_columns(
    time_ns: np.ndarray, ohlcv: np.ndarray, base_ns: int, length_ns: int
) -> np.ndarray:
    """Of every base bar of a segment, what was known at its close: float32 [N, 11]."""
    out = np.full((len(time_ns), len(COARSE_NAMES)), np.nan, dtype=np.float32)
    coarse = coarse_bars(time_ns, ohlcv, base_ns, length_ns)
    # A coarser bar that becomes available at the very close of the base bar is known to it.
    newest = np.searchsorted(coarse.available_ns, time_ns + base_ns, side="right") - 1
    known = newest >= WARMUP_BARS
    if known.any():
        shown = newest[known]
        out[known, :-1] = _columns(coarse.ohlcv)[shown]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            out[known, -1] = np.log(ohlcv[known, 3] / coarse.ohlcv[shown, 3])
    return out


def _columns(ohlcv: np.ndarray) -> np.ndarray:
    """Every column but the last of M coarser bars: [M, 10]; the first rows mean nothing."""
    open_, high, low, close, volume = np.ascontiguousarray(ohlcv.T)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_close = np.log(close)
        position, width = bollinger(log_close, _LOOKBACK)
        return np.stack(
            [
                *(log_return(log_close, lag) for lag in (1, 5, 15)),
                np.log(open_ / close),
                np.log(high / close),
                np.log(low / close),
                volume_ratio(volume, _LOOKBACK),
                vwap_distance(high, low, close, volume, _LOOKBACK),
                position,
                log_fraction(width),
            ],
            axis=1,
        )
