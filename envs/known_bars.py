"""Bars of the known-answer markets, drawn from their definition.

A market is many independent histories, the segments: each starts at the same price, so that no
price wanders off, and none of them knows another. What a market is, is one small function from a
generator to log returns; the bars around them are made alike.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from envs.bar_files import OHLCV
from envs.config import BPS
from envs.known_config import SyntheticConfig

START_PRICE = 60_000.0
INTERVAL_NS = 60_000_000_000
GAP_BARS = 1_000  # between two segments, more than any hole that is filled
SUBSTEPS = 4  # of the path within a bar
VOLUME = 1e6  # base units: never a limit
# Of the market `envs.known_bracket`, in units of the displacement, with their chances.
OVERSHOOTS = {1 / 6: 0.25, 3 / 6: 0.25, 5 / 6: 0.25, 7 / 6: 0.2, 9 / 6: 0.05}
REVERSALS = {7 / 6: 0.25, 10 / 6: 0.25, 13 / 6: 0.25, 16 / 6: 0.25}


@dataclass(frozen=True)
class Drawn:
    """Log prices of S segments of B bars, and what a network may see beside them.

    Attributes:
        path: float64 [S, B, P], log price over the start within each bar, the open first and the
            close last.
        signals: float64 [S, B, F], features by name, known at the bar's close.
    """

    path: np.ndarray
    signals: dict[str, np.ndarray]


def draw_market(cfg: SyntheticConfig) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Bars as a file would hold them, with a gap after each segment, and their features.

    Returns:
        Rows as `envs.bar_files.read_bars` gives them; float32 [N, F], the close-to-close log return
        first; the names of the features.
    """
    rng = np.random.Generator(np.random.PCG64(cfg.seed))
    drawn = _DRAW[cfg.market](cfg, rng, (cfg.bars // cfg.segment_bars, cfg.segment_bars))
    segments, bars = drawn.path.shape[:2]
    price = START_PRICE * np.exp(drawn.path)
    ohlc = [price[..., 0], price.max(-1), price.min(-1), price[..., -1]]
    frame = pd.DataFrame({name: column.ravel() for name, column in zip(OHLCV, ohlc, strict=False)})
    frame[OHLCV[4]] = VOLUME
    row = np.arange(bars) + (np.arange(segments) * (bars + GAP_BARS))[:, None]
    begin = pd.Timestamp("2025-01-01", tz="UTC").as_unit("ns").value
    frame["time_ns"] = begin + row.ravel() * INTERVAL_NS
    frame["naive"] = False
    frame.index += 1
    returns = np.diff(drawn.path[..., -1], axis=1, prepend=0.0)
    columns = {"log_return_1": returns, **drawn.signals}
    features = np.stack([column.ravel() for column in columns.values()], -1)
    return frame, features.astype(np.float32), list(columns)


def _from_returns(
    returns: np.ndarray, sigma: float | np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Paths that start where the last bar closed and end at its return: a Brownian bridge each.

    Between two points of a path lie the highest and the lowest price on the way: of points alone
    the price would leap over a stop, which fills at its own price, and a fair market would pay
    for every stop.

    Args:
        returns: float64 [S, B], log returns.
        sigma: deviation of the price within a bar, one for all or float64 [S, B].
        rng: of what happens within the bars.
    """
    close = returns.cumsum(1)
    open_ = close - returns
    deviation = np.broadcast_to(sigma, returns.shape)[..., None] / SUBSTEPS**0.5
    steps = rng.standard_normal((*returns.shape, SUBSTEPS)) * deviation
    bridge = (steps - steps.mean(-1, keepdims=True)).cumsum(-1)[..., :-1]
    share = np.arange(1, SUBSTEPS) / SUBSTEPS
    inner = open_[..., None] + returns[..., None] * share + bridge
    points = np.concatenate([open_[..., None], inner, close[..., None]], -1)
    first, then = points[..., :-1], points[..., 1:]
    between = [_extremes(first, then, deviation, way, rng) for way in (1.0, -1.0)]
    path = np.stack([first, *between], -1).reshape(*returns.shape, -1)
    return np.concatenate([path, close[..., None]], -1)


def _extremes(
    first: np.ndarray, then: np.ndarray, deviation: np.ndarray, way: float, rng: np.random.Generator
) -> np.ndarray:
    """The highest (`way` 1) or lowest (-1) point of Brownian bridges between two points.

    ``P(maximum > m) = exp(-2 (m - a) (m - b) / s^2)`` for a bridge from ``a`` to ``b`` of variance
    ``s^2`` (Karatzas and Shreve 1991, section 4.3), solved for ``m``. Either is exact by itself;
    they are drawn independently, so that both lie far away a little too often.
    """
    square = (then - first) ** 2 + 2.0 * deviation**2 * rng.standard_exponential(first.shape)
    return (first + then + way * np.sqrt(square)) / 2.0


def _draw_martingale(cfg: SyntheticConfig, rng: np.random.Generator, shape: tuple) -> Drawn:
    sigma = cfg.sigma_bps * BPS
    returns = sigma * rng.standard_normal(shape) - sigma**2 / 2
    return Drawn(_from_returns(returns, sigma, rng), {})


def _draw_heavy_tails(cfg: SyntheticConfig, rng: np.random.Generator, shape: tuple) -> Drawn:
    """GARCH(1,1) (Bollerslev 1986) with Student-t shocks of variance 1.

    A shock is normal with a variance of its own, which is that of the path within the bar too:
    a Student-t variate ``t`` is a normal one over ``sqrt(w / df)``, and ``w`` given ``t`` is a
    gamma variate of shape ``(df + 1) / 2`` and scale ``2 / (1 + t^2 / df)``.
    """
    alpha, beta, df = cfg["garch_alpha"], cfg["garch_beta"], cfg["tail_df"]
    variance = (cfg.sigma_bps * BPS) ** 2
    student = rng.standard_t(df, shape)
    shocks = student * ((df - 2.0) / df) ** 0.5
    now = np.full(shape[0], variance)
    returns, wild = np.empty(shape), np.empty(shape)
    for t in range(shape[1]):
        wild[:, t] = now
        returns[:, t] = now**0.5 * shocks[:, t]
        now = (1.0 - alpha - beta) * variance + alpha * returns[:, t] ** 2 + beta * now
    weight = rng.gamma((df + 1.0) / 2.0, 2.0 / (1.0 + student**2 / df))
    sigma = (wild * (df - 2.0) / weight) ** 0.5
    return Drawn(_from_returns(returns - variance / 2, sigma, rng), {})


def _draw_drift(cfg: SyntheticConfig, rng: np.random.Generator, shape: tuple) -> Drawn:
    sigma = cfg.sigma_bps * BPS
    returns = cfg["drift_bps"] * BPS + sigma * rng.standard_normal(shape)
    return Drawn(_from_returns(returns, sigma, rng), {})


def _draw_ar1(cfg: SyntheticConfig, rng: np.random.Generator, shape: tuple) -> Drawn:
    return Drawn(_draw_predictable(cfg, rng, shape)[0], {})


def _draw_planted(cfg: SyntheticConfig, rng: np.random.Generator, shape: tuple) -> Drawn:
    path, mean = _draw_predictable(cfg, rng, shape)
    return Drawn(path, {"next_return_mean": mean})


def _draw_predictable(
    cfg: SyntheticConfig, rng: np.random.Generator, shape: tuple
) -> tuple[np.ndarray, np.ndarray]:
    """Paths, and the mean of the next bar's return: an AR(1) of the given half-life."""
    sigma = cfg.sigma_bps * BPS
    phi = 0.5 ** (1.0 / cfg["half_life"])
    spread = sigma * cfg["snr"] ** 0.5
    mean = np.empty(shape)
    mean[:, 0] = now = spread * rng.standard_normal(shape[0])
    for t, shock in enumerate(rng.standard_normal(shape).T[1:], start=1):
        mean[:, t] = now = phi * now + spread * (1.0 - phi**2) ** 0.5 * shock
    returns = sigma * rng.standard_normal(shape)
    returns[:, 1:] += mean[:, :-1]
    return _from_returns(returns, sigma, rng), mean


def _draw_regimes(cfg: SyntheticConfig, rng: np.random.Generator, shape: tuple) -> Drawn:
    sigma = cfg.sigma_bps * BPS
    flips = np.where(rng.random(shape) < 1.0 / cfg["regime_bars"], -1.0, 1.0)
    flips[:, 0] = np.where(rng.random(shape[0]) < 0.5, -1.0, 1.0)
    regime = flips.cumprod(1)
    returns = sigma * rng.standard_normal(shape)
    returns[:, 1:] += cfg["regime_bps"] * BPS * regime[:, :-1]
    return Drawn(_from_returns(returns, sigma, rng), {})


def draw_bracket(
    displacement: float, rng: np.random.Generator, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Log prices within each bar [S, B, 4], and the side of the anchor at each close [S, B]."""
    side = np.where(rng.random(shape) < 0.5, 1.0, -1.0)
    before = np.concatenate([np.ones((shape[0], 1)), side[:, :-1]], 1)
    over = rng.choice(list(OVERSHOOTS), shape, p=list(OVERSHOOTS.values()))
    back = rng.choice(list(REVERSALS), shape, p=list(REVERSALS.values()))
    path = np.stack([before, before * (1.0 + over), -before * back, side], -1)
    return displacement * path, side


def _draw_bracket(cfg: SyntheticConfig, rng: np.random.Generator, shape: tuple) -> Drawn:
    path, displacement = draw_bracket(cfg["displacement_bps"] * BPS, rng, shape)
    return Drawn(path, {"displacement": displacement})


_DRAW = {
    "martingale": _draw_martingale,
    "heavy_tails": _draw_heavy_tails,
    "drift": _draw_drift,
    "ar1": _draw_ar1,
    "planted": _draw_planted,
    "regimes": _draw_regimes,
    "bracket": _draw_bracket,
}
