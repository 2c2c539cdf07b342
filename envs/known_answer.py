r"""The best policy of every known-answer market, and what it earns.

All but the bracket market are solved alike: what the past says of the next bar's return is a state
of the market, found from the bars by the exact filter, and the side to hold in it follows by
dynamic programming over state and side (`envs.known_solver`).

| market | state | next bar's log return, given the state |
|---|---|---|
| martingale, heavy_tails | none | mean -s²/2, variance s²: a fair price; flat is best |
| drift | none | mean m, variance s² |
| planted | x, given as a feature | mean x, variance s²; x is an AR(1) |
| ar1 | Kalman's mean of x | mean m, variance S = p + s², see `_kalman` |
| regimes | Hamilton's belief b in the upper regime | mean (2 b - 1) m, variance s² + m² - mean² |
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor

from envs.bar_table import BarTable
from envs.checks import require
from envs.config import BPS, EnvConfig
from envs.known_bracket import solve_bracket
from envs.known_config import SyntheticConfig
from envs.known_solver import side_problem, solve_forever, value_of
from envs.ledger import HEADS

GRID = 121  # states of a continuous signal, or more where it moves in smaller steps
LONGEST = 2_000.0  # bars of a half-life that are solved for: minutes beyond
REACH = 4.5  # of the grid, in standard deviations
NODES = 64  # of a quadrature


@dataclass(frozen=True)
class KnownAnswer:
    """What can be earned on a market, and how.

    Attributes:
        growth_per_bar: expected log growth of equity a bar, net of costs, in the long run.
        episode_growth: the same of an episode of so many bars that starts and ends flat.
        policy_growth: what `policy`, which does not know when an episode ends, earns of it.
        policy: writes the best ``action`` into a TensorDict [paths, accounts] with the keys of the
            environment on `table`.
    """

    growth_per_bar: float
    episode_growth: Callable[[int], float]
    policy_growth: Callable[[int], float]
    policy: Callable[[TensorDictBase], TensorDictBase]


def known_answer(cfg: SyntheticConfig, env_cfg: EnvConfig, table: BarTable) -> KnownAnswer:
    """Solve a market under an environment's costs.

    Args:
        cfg: the market that the table was drawn from.
        env_cfg: the environment's parameters.
        table: the bars that the policy will be played on.

    Raises:
        ValueError: for parameters that the derivation does not cover, naming the key.
    """
    if cfg.market == "bracket":
        solved = solve_bracket(cfg["displacement_bps"] * BPS, env_cfg)
        return KnownAnswer(
            solved.growth_per_bar, solved.value_of, solved.value_of, solved.policy(table.features)
        )
    if cfg.market in ("ar1", "planted"):
        half_life = cfg["half_life"]
        allowed = f"at most {LONGEST:,.0f} here"
        require(half_life <= LONGEST, "data.synthetic.half_life", half_life, allowed)
    model = _STATES[cfg.market](cfg)
    problem = side_problem(model.mean, model.variance, model.transition, env_cfg)
    growth, sides = solve_forever(problem)
    nearest = np.abs(model.filtered(_returns(table), table)[:, None] - model.grid).argmin(-1)
    state = torch.from_numpy(nearest)
    return KnownAnswer(
        growth,
        lambda bars: value_of(problem, bars),
        lambda bars: value_of(problem, bars, sides),
        _SidePolicy(state, torch.from_numpy(sides)),
    )


class _SidePolicy:
    """Looks the side up by the market's state at the bar and the side held."""

    def __init__(self, state: Tensor, sides: Tensor) -> None:
        self.state, self.sides = state, sides

    def __call__(self, tensordict: TensorDictBase) -> TensorDictBase:
        bar, held = tensordict["bar"][..., 0], tensordict["account"][..., 0].round().long() + 1
        direction = self.sides[self.state[bar.cpu()], held.cpu()].to(bar.device)
        for head in HEADS:
            tensordict["action", head] = torch.zeros_like(direction)
        tensordict["action", "direction"] = direction
        return tensordict


@dataclass(frozen=True)
class _States:
    """A market's states: grid [N], moments of the next return, transitions, and the filter.

    `filtered` turns log returns [S, B] into the state's value at every row, [S * B].
    """

    grid: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    transition: np.ndarray
    filtered: Callable[[np.ndarray, BarTable], np.ndarray]


def _returns(table: BarTable) -> np.ndarray:
    """Log returns by segment, [S, B]; of a segment's first bar from its open."""
    ohlcv = table.ohlcv.numpy()
    segments = int(table.segment[-1]) + 1
    return np.log(ohlcv[:, 3] / ohlcv[:, 0]).reshape(segments, -1)


def _no_state(mean: float, variance: float) -> _States:
    one = np.ones(1)
    return _States(
        np.zeros(1),
        mean * one,
        variance * one,
        np.ones((1, 1)),
        lambda returns, _: np.zeros(returns.size),
    )


def _martingale(cfg: SyntheticConfig) -> _States:
    variance = (cfg.sigma_bps * BPS) ** 2
    return _no_state(-variance / 2.0, variance)


def _drift(cfg: SyntheticConfig) -> _States:
    return _no_state(cfg["drift_bps"] * BPS, (cfg.sigma_bps * BPS) ** 2)


def _autoregression(phi: float, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Grid and transitions of an AR(1) of stationary deviation `spread` (Tauchen 1986).

    Rounding to the grid is noise as well, which adds up over the signal's memory (here to 0.5 % of
    its deviation for a half-life of 32 bars): the shock is less by so much.
    """
    shock = (1.0 - phi**2) ** 0.5
    grid = np.linspace(-REACH, REACH, max(GRID, 2 * math.ceil(REACH / shock) + 1)) * spread
    edges = np.concatenate([[-np.inf], (grid[1:] + grid[:-1]) / 2.0, [np.inf]])
    shock = ((shock * spread) ** 2 - (grid[1] - grid[0]) ** 2 / 12.0) ** 0.5
    below = torch.special.ndtr(torch.from_numpy((edges[None] - phi * grid[:, None]) / shock))
    return grid, np.diff(below.numpy(), axis=1)


def _planted(cfg: SyntheticConfig) -> _States:
    sigma, phi = cfg.sigma_bps * BPS, 0.5 ** (1.0 / cfg["half_life"])
    grid, transition = _autoregression(phi, sigma * cfg["snr"] ** 0.5)
    return _States(
        grid,
        grid,
        np.full(len(grid), sigma**2),
        transition,
        lambda _, table: table.features[:, 1].double().numpy(),
    )


def _kalman(phi: float, shock: float, sigma: float) -> tuple[float, float]:
    """Steady state of the filter of x from r(t+1) = x(t) + noise: variance p of x, and the gain.

    Before r is seen, x has variance p; seeing it leaves p - p² / (p + s²); a bar later x has
    phi² (p - p² / (p + s²)) + q again.
    """
    p = shock**2 / (1.0 - phi**2)
    for _ in range(10_000):
        p = phi**2 * (p - p**2 / (p + sigma**2)) + shock**2
    return p, p / (p + sigma**2)


def _ar1(cfg: SyntheticConfig) -> _States:
    """The filtered mean is itself an AR(1): an innovation, of variance S, moves it phi * gain."""
    sigma, phi = cfg.sigma_bps * BPS, 0.5 ** (1.0 / cfg["half_life"])
    shock = sigma * cfg["snr"] ** 0.5 * (1.0 - phi**2) ** 0.5
    p, gain = _kalman(phi, shock, sigma)
    innovation = p + sigma**2
    spread = phi * gain * (innovation / (1.0 - phi**2)) ** 0.5
    grid, transition = _autoregression(phi, spread)

    def filtered(returns: np.ndarray, _: BarTable) -> np.ndarray:
        mean = np.zeros_like(returns)
        now = np.zeros(len(returns))
        for t in range(returns.shape[1]):
            mean[:, t] = now = phi * (now + gain * (returns[:, t] - now))
        return mean.ravel()

    return _States(grid, grid, np.full(len(grid), innovation), transition, filtered)


def _regimes(cfg: SyntheticConfig) -> _States:
    """Hamilton's filter (1989): Bayes on the bar's return, then the chance of a change."""
    sigma, size, turn = cfg.sigma_bps * BPS, cfg["regime_bps"] * BPS, 1.0 / cfg["regime_bars"]

    def update(belief: np.ndarray, returns: np.ndarray) -> np.ndarray:
        log_odds = np.log(belief / (1.0 - belief)) + 2.0 * size * returns / sigma**2
        after = (1.0 + np.tanh(log_odds / 2.0)) / 2.0  # odds themselves may overflow
        return after * (1.0 - turn) + (1.0 - after) * turn

    grid = np.linspace(turn, 1.0 - turn, GRID)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    transition = np.zeros((GRID, GRID))
    for sign, chance in ((1.0, grid), (-1.0, 1.0 - grid)):
        returns = sign * size + sigma * nodes
        where = (update(grid[:, None], returns) - grid[0]) / (grid[1] - grid[0])
        low = np.clip(where.astype(int), 0, GRID - 2)
        share = chance[:, None] * weights / weights.sum()
        rows = np.broadcast_to(np.arange(GRID)[:, None], low.shape)
        np.add.at(transition, (rows, low), share * (1.0 - (where - low)))
        np.add.at(transition, (rows, low + 1), share * (where - low))
    mean = (2.0 * grid - 1.0) * size

    def filtered(returns: np.ndarray, _: BarTable) -> np.ndarray:
        belief = np.full_like(returns, 0.5)
        now = np.full(len(returns), 0.5)
        for t in range(1, returns.shape[1]):
            belief[:, t] = now = update(now, returns[:, t])
        return belief.ravel()

    return _States(grid, mean, sigma**2 + size**2 - mean**2, transition, filtered)


_STATES: dict[str, Callable[[SyntheticConfig], _States]] = {
    "martingale": _martingale,
    "heavy_tails": _martingale,
    "drift": _drift,
    "ar1": _ar1,
    "planted": _planted,
    "regimes": _regimes,
}
