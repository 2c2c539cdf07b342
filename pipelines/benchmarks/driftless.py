"""Made-up returns of policies without an edge, or with one of known size: what the verdict is for.

Days are wild in clusters, with heavy tails; policies are alike, follow the market in part, and may
carry a return on into the next period. Without an edge the mean of every policy, but for what the
market gives it, is exactly 0.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.judging.period_returns import DAY_S, ENOUGH_PERIODS, PERIODS_S, YEAR_S, PeriodReturns

BASELINES = ("flat", "buy_and_hold", "random", "always_short")
_DAY_VOLATILITY = 0.02
_ALPHA, _BETA = 0.1, 0.85  # of the variance's GARCH(1, 1)
_BURN_IN = 200
_COST_A_DAY = 0.002  # of the random account; always-short pays a tenth
_BARS_A_DAY = 1_440


@dataclass(frozen=True)
class World:
    """What returns are drawn from.

    Attributes:
        days: played.
        policies: columns of returns.
        sharpe: true annual Sharpe ratio of every policy beyond the market; 0: no edge.
        alike: correlation of what the policies do beside the market, 0 to 1.
        tail_df: degrees of freedom of Student's t, above 2.
        persistence: autocorrelation of returns from one period to the next.
        skewed: many small gains and few large losses.
        idle: share of the periods in which a policy holds nothing.
        market_sharpe: of buy-and-hold.
        exposure: largest share of the market that a policy follows, at random; 0: none does.
        away: share of the periods, at random, in which a policy does not follow it.
    """

    days: float = 365.0
    policies: int = 1
    sharpe: float = 0.0
    alike: float = 0.0
    tail_df: float = 4.0
    persistence: float = 0.0
    skewed: bool = False
    idle: float = 0.0
    market_sharpe: float = 0.0
    exposure: float = 0.0
    away: float = 0.0


def draw_returns(world: World, seed: int) -> PeriodReturns:
    """Returns of ``policy_0``, ... and of the baselines, over the periods that the days give."""
    rng = np.random.Generator(np.random.PCG64(seed))
    period_s = _period(world.days)
    periods = round(world.days * DAY_S / period_s)
    scale = _DAY_VOLATILITY * math.sqrt(period_s / DAY_S)
    a_period = math.sqrt(period_s / YEAR_S)  # from a year's ratio to a period's
    wild = _clusters(periods, rng)[:, None]
    market = _shocks(world, rng, periods, 1) * wild + world.market_sharpe * a_period
    common, own = (_shocks(world, rng, periods, n) for n in (1, world.policies))
    mixed = math.sqrt(world.alike) * common + math.sqrt(1.0 - world.alike) * own
    mixed = mixed * (rng.random(mixed.shape) >= world.idle) / math.sqrt(1.0 - world.idle)
    follows = rng.uniform(-world.exposure, world.exposure, world.policies)
    if world.away:
        follows = follows * (rng.random(mixed.shape) >= world.away)
    policies = mixed * wild + world.sharpe * a_period + follows * market
    columns = {f"policy_{i}": scale * policies[:, i] for i in range(world.policies)}
    hold = scale * market[:, 0]
    day = period_s / DAY_S
    noise = scale * _shocks(world, rng, periods, 1)[:, 0]
    baselines = {
        "flat": np.zeros(periods),
        "buy_and_hold": hold,
        "random": noise - _COST_A_DAY * day,
        "always_short": -hold - _COST_A_DAY / 10.0 * day,
    }
    times = pd.date_range("2024-01-01", periods=periods, freq=f"{period_s:.0f}s", tz="UTC")
    frame = pd.DataFrame({**columns, **baselines}, index=times).clip(lower=-0.95)
    return PeriodReturns(frame, period_s, round(world.days * _BARS_A_DAY), DAY_S / _BARS_A_DAY)


def _period(days: float) -> float:
    """Length of the periods that so many days are cut into, seconds."""
    enough = (p for p in PERIODS_S if days * DAY_S / p >= ENOUGH_PERIODS)
    return next(enough, PERIODS_S[-1])


def _clusters(periods: int, rng: np.random.Generator) -> np.ndarray:
    """Volatility of each period around 1, float64 [periods]: the root of a GARCH(1, 1) variance."""
    variance, path = 1.0, np.empty(_BURN_IN + periods)
    for t, shock in enumerate(rng.standard_normal(_BURN_IN + periods)):
        path[t] = variance
        variance = (1.0 - _ALPHA - _BETA) + (_ALPHA * shock**2 + _BETA) * variance
    return np.sqrt(path[_BURN_IN:])


def _shocks(world: World, rng: np.random.Generator, periods: int, count: int) -> np.ndarray:
    """Variance 1, mean 0, float64 [periods, count]."""
    shape = (_BURN_IN + periods, count)
    if world.skewed:
        shocks = 1.0 - rng.exponential(1.0, shape)
    else:
        shocks = rng.standard_t(world.tail_df, shape) * math.sqrt(1.0 - 2.0 / world.tail_df)
    fresh = math.sqrt(1.0 - world.persistence**2)
    for t in range(1, len(shocks)):
        shocks[t] = world.persistence * shocks[t - 1] + fresh * shocks[t]
    return shocks[_BURN_IN:]
