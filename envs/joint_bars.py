"""Bars of several markets side by side: whether they fit each other, and the dates they share."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from envs.bars import Bars
from envs.data_config import DataConfig
from envs.splits import split_by_time

# Prices are taken as whole multiples of this many decimals at most.
_DECIMALS = 8
_DIGITS = 15  # that a double holds


def common_splits(
    times: Sequence[np.ndarray], cfg: DataConfig, *, window: int, episode_bars: int
) -> list[dict[str, tuple[int, int]]]:
    """Cut several markets at the same dates, so that none is trained on another's held-out time.

    The clock that is cut, by fractions or times and with its embargo, has every opening time at
    which any of the markets has a bar: see `envs.splits.split_by_time`.

    Args:
        times: int64 [N] of every market, opening times, ns since 1970 UTC, ascending.
        cfg: the fractions or the times, and the embargo.
        window: rows that an observation looks at.
        episode_bars: steps of an episode.

    Returns:
        Of every market, half-open ranges of its own rows by split.

    Raises:
        ValueError: for an embargo under ``window + episode_bars``.
    """
    clock = np.unique(np.concatenate(times))
    cut = split_by_time(clock, cfg, window=window, episode_bars=episode_bars)
    after = np.append(clock, clock[-1] + 1)
    edges = {name: after[list(rows)] for name, rows in cut.items()}
    return [{name: _rows(time_ns, edge) for name, edge in edges.items()} for time_ns in times]


def _rows(time_ns: np.ndarray, edges: np.ndarray) -> tuple[int, int]:
    first, end = np.searchsorted(time_ns, edges)
    return int(first), int(end)


def require_joinable(markets: Mapping[str, Bars]) -> None:
    """Refuse markets that one set of rules would not be right for.

    One clock and one `env.tick_size` hold for all: bars of the same length that open at the same
    times, prices on the same grid. One market under two names would count twice.

    Args:
        markets: bars by the market's name.

    Raises:
        ValueError: naming the first market and the one that differs, and both values.
    """
    (first, bars), *others = markets.items()
    for (name, other), (twin, same) in combinations(markets.items(), 2):
        if np.array_equal(other.time_ns, same.time_ns) and np.array_equal(other.ohlcv, same.ohlcv):
            raise ValueError(f"data.assets: {name} and {twin} are the same bars: each market once")
    for name, other in others:
        if other.interval_s != bars.interval_s:
            raise ValueError(
                f"data.assets: the bars of {name} are {other.interval_s:g} s long and those of "
                f"{first} {bars.interval_s:g} s: all must have one length"
            )
        interval_ns = round(bars.interval_s * 1e9)
        if (other.time_ns[0] - bars.time_ns[0]) % interval_ns:
            raise ValueError(
                f"data.assets: the bars of {name} do not open at the times of those of {first}: "
                "all must lie on one grid"
            )
        one, another = price_grid(bars.ohlcv[:, :4]), price_grid(other.ohlcv[:, :4])
        if not math.isclose(one, another):
            raise ValueError(
                f"data.assets: the prices of {name} are multiples of {another:g} and those of "
                f"{first} of {one:g}: one env.tick_size cannot be right for both; train on each "
                "alone, or on markets of the same tick"
            )


def price_grid(prices: np.ndarray) -> float:
    """The largest number that all prices are whole multiples of, to 8 decimals or 15 digits."""
    whole = len(str(int(prices.max())))
    scale = 10.0 ** max(0, min(_DECIMALS, _DIGITS - whole))
    return float(np.gcd.reduce(np.rint(prices * scale).astype(np.int64).ravel())) / scale


def joint_sha256(hashes: Mapping[str, str]) -> str:
    """One hash of the names and the hashes of several markets, in their order."""
    lines = "".join(f"{name} {sha256}\n" for name, sha256 in hashes.items())
    return hashlib.sha256(lines.encode()).hexdigest()
