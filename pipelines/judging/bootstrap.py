"""Intervals of what an account earned, from its own returns drawn again in blocks.

The stationary bootstrap of Politis and Romano 1994 (Journal of the American Statistical Association
89) with the block length of Politis and White 2004, as corrected by Patton, Politis and White 2009,
from the package arch.
"""

import math
from dataclasses import dataclass

import numpy as np

from pipelines.judging.sharpe import ROUNDING

DRAWS = 2_000
_CELLS = 1_000_000  # of redrawn returns at a time, a bound on the memory


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it, one-sided `level` at either end."""

    estimate: float
    low: float
    high: float
    level: float


def block_length(returns: np.ndarray) -> float:
    """Mean length of the blocks that suits the autocorrelation of returns, at least 1.

    Args:
        returns: float64 [T]; 1 if they are all the same or under ten.
    """
    if len(returns) < 10 or np.ptp(returns) <= ROUNDING:
        return 1.0
    from arch.bootstrap import optimal_block_length  # loads for seconds

    found = float(optimal_block_length(returns)["stationary"].iloc[0])
    return max(1.0, found) if math.isfinite(found) else 1.0


def draw_periods(periods: int, length: float, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Numbers of periods in the order of each redrawn history, int64 [draws, periods].

    Args:
        periods: of the history.
        length: mean length of a block.
        draws: histories.
        seed: the same seed gives the same histories.
    """
    from arch.bootstrap import StationaryBootstrap  # loads for seconds

    generator = np.random.Generator(np.random.PCG64(seed))
    bootstrap = StationaryBootstrap(length, np.arange(periods), seed=generator)
    return np.stack([drawn[0] for drawn, _ in bootstrap.bootstrap(draws)])


def redrawn_sharpes(returns: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The Sharpe ratio of a period in each redrawn history, float64 [draws].

    A history in which nothing moves has a ratio of 0.

    Args:
        returns: float64 [T].
        drawn: from `draw_periods`.
    """
    size = max(1, _CELLS // len(returns))
    parts = [_sharpes(returns[rows]) for rows in np.split(drawn, range(size, len(drawn), size))]
    return np.concatenate(parts)


def _sharpes(histories: np.ndarray) -> np.ndarray:
    """Of each row."""
    spread = histories.std(axis=1, ddof=1)
    moves = np.ptp(histories, axis=1) > ROUNDING
    return np.where(moves, histories.mean(axis=1) / np.where(moves, spread, 1.0), 0.0)


def sharpe_interval(
    returns: np.ndarray, sharpes: np.ndarray, per_year: float, level: float
) -> Interval:
    """Basic interval of the annual Sharpe ratio.

    ``[2 SR - q(level), 2 SR - q(1 - level)]`` with ``q`` the quantiles of the redrawn ratios. The
    ratio is a t statistic, so turning its distribution around is the bootstrap-t of the mean: where
    losses are rarer and larger than gains, its lower end is the lower one.

    Args:
        returns: float64 [T].
        sharpes: from `redrawn_sharpes` of the same returns.
        per_year: periods in a year.
        level: one-sided, such as 0.975 for what is called a 95 % interval.
    """
    year = math.sqrt(per_year)
    estimate = float(_sharpes(returns[None])[0])
    low, high = np.quantile(sharpes, [1.0 - level, level])
    return Interval(
        year * estimate,
        year * float(2.0 * estimate - high),
        year * float(2.0 * estimate - low),
        level,
    )
