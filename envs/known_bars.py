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


def _from_returns(returns: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Paths that start where the last bar closed and end at its return: a Brownian bridge each."""
    close = returns.cumsum(1)
    open_ = close - returns
    steps = rng.standard_normal((*returns.shape, SUBSTEPS)) * (sigma / SUBSTEPS**0.5)
    bridge = (steps - steps.mean(-1, keepdims=True)).cumsum(-1)[..., :-1]
    share = np.arange(1, SUBSTEPS) / SUBSTEPS
    inner = open_[..., None] + returns[..., None] * share + bridge
    return np.concatenate([open_[..., None], inner, close[..., None]], -1)


def _draw_martingale(cfg: SyntheticConfig, rng: np.random.Generator, shape: tuple) -> Drawn:
    sigma = cfg.sigma_bps * BPS
    returns = sigma * rng.standard_normal(shape) - sigma**2 / 2
    return Drawn(_from_returns(returns, sigma, rng), {})


def _draw_heavy_tails(cfg: SyntheticConfig, rng: np.random.Generator, shape: tuple) -> Drawn:
    """GARCH(1,1) (Bollerslev 1986) with Student-t shocks of variance 1."""
    alpha, beta, df = cfg["garch_alpha"], cfg["garch_beta"], cfg["tail_df"]
    variance = (cfg.sigma_bps * BPS) ** 2
    shocks = rng.standard_t(df, shape) * ((df - 2.0) / df) ** 0.5
    now = np.full(shape[0], variance)
    returns = np.empty(shape)
    for t in range(shape[1]):
        returns[:, t] = now**0.5 * shocks[:, t]
        now = (1.0 - alpha - beta) * variance + alpha * returns[:, t] ** 2 + beta * now
    return Drawn(_from_returns(returns - variance / 2, cfg.sigma_bps * BPS, rng), {})


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
