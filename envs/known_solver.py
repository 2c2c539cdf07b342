"""The best policy of a market whose returns are predictable as far as a finite state tells.

Shapes: N states of the market, 3 sides: short, flat, long.
"""

from dataclasses import dataclass

import numpy as np

from envs.checks import require
from envs.config import BPS, EnvConfig

SIDES = np.array([-1.0, 0.0, 1.0])
FLAT = 1
_SETTLED = 1e-12  # of the growth: by less no state differs from the others any more


@dataclass(frozen=True)
class SideProblem:
    """A Markov decision process of which only the side is chosen.

    Attributes:
        growth: float64 [N, 3], expected log growth of equity over the next bar, by side held.
        cost: float64 [3, 3], log cost of going from one side to another at a bar's open.
        transition: float64 [N, N], rows sum to 1.
    """

    growth: np.ndarray
    cost: np.ndarray
    transition: np.ndarray

    def stationary(self) -> np.ndarray:
        """The long-run share of every state, float64 [N]."""
        share = np.full(len(self.transition), 1.0 / len(self.transition))
        step = self.transition
        for _ in range(40):  # powers of two: 2**40 steps
            step = step @ step
            step /= step.sum(1, keepdims=True)
        return share @ step


def leverage_of(cfg: EnvConfig) -> float:
    """Notional over equity of a new position, under a single size and a bracket out of reach.

    Raises:
        ValueError: for parameters under which more than the side is chosen.
    """
    for key in ("risk_multiples", "take_profit_r"):
        require(len(getattr(cfg, key)) == 1, f"env.{key}", getattr(cfg, key), "a single value here")
    require(cfg.stop_steps == 1, "env.stop_steps", cfg.stop_steps, "1 here")
    require(cfg.stop_step_bps >= 1000, "env.stop_step_bps", cfg.stop_step_bps, "1000 or more here")
    require(cfg.take_profit_r[0] == 0.0, "env.take_profit_r", cfg.take_profit_r, "[0.0] here")
    for key in ("max_units", "max_participation"):
        require(getattr(cfg, key) is None, f"env.{key}", getattr(cfg, key), "null here")
    for key in ("funding_bps_per_day", "drawdown_penalty", "turnover_penalty"):
        require(getattr(cfg, key) == 0.0, f"env.{key}", getattr(cfg, key), "0 here")
    asked = cfg.risk_pct / 100.0 * cfg.risk_multiples[0] / (cfg.stop_step_bps * BPS)
    return min(asked, cfg.max_leverage / (1.0 + cfg.max_leverage * cfg.taker_fee_bps * BPS))


def side_problem(
    mean: np.ndarray, variance: np.ndarray, transition: np.ndarray, cfg: EnvConfig
) -> SideProblem:
    r"""Costs and growth under the environment's own parameters.

    A position of notional L over equity changes log equity over a bar of log return r by
    ``log(1 + s L (exp(r) - 1)) = s L r + (s L - L^2) r^2 / 2 + O(r^3)``. That is exact for a long
    of L = 1. Otherwise L moves while a position is held; it is taken as constant, an error of the
    order of the move since entry times the growth of a bar.

    Args:
        mean: float64 [N], of the next bar's log return.
        variance: float64 [N], of the next bar's log return.
        transition: float64 [N, N].
        cfg: the environment's parameters.
    """
    leverage = leverage_of(cfg)
    square = (variance + mean**2)[:, None]
    size = SIDES * leverage
    growth = size * mean[:, None] + (size - size**2) * square / 2.0
    slip, taker = cfg.slippage_bps * BPS, cfg.taker_fee_bps * BPS
    # Of a long; a short's differ in the square of the slippage.
    enter = -np.log(1.0 - leverage * (slip / (1.0 + slip) + taker))
    leave = -np.log(1.0 - leverage * (slip + taker * (1.0 - slip)))
    held = np.abs(SIDES)
    cost = leave * held[:, None] + enter * held[None, :]
    np.fill_diagonal(cost, 0.0)
    return SideProblem(growth, cost, transition)


def solve_forever(problem: SideProblem) -> tuple[float, np.ndarray]:
    """Relative value iteration (Puterman 1994, ch. 8): the best average growth of a bar.

    Returns:
        Growth a bar, and the best side, int64 [N, 3], by state and side held.
    """
    ahead = np.zeros_like(problem.growth)
    for _ in range(200_000):
        after = problem.growth + problem.transition @ ahead
        options = after[:, None, :] - problem.cost
        best = options.max(-1)
        change = best - ahead
        ahead = best - best[0, FLAT]
        if np.ptp(change) < _SETTLED:
            break
    return float(change.mean()), options.argmax(-1)


def value_of(problem: SideProblem, bars: int, policy: np.ndarray | None = None) -> float:
    """Expected log growth of an episode that starts flat and closes what it holds at its end.

    Args:
        problem: the market.
        bars: steps of the episode.
        policy: int64 [N, 3], the side chosen by state and side held; None: the best choice of
            every step, which knows how many are left.
    """
    ahead = np.tile(-problem.cost[:, FLAT], (len(problem.growth), 1))
    for _ in range(bars):
        after = problem.growth + problem.transition @ ahead
        options = after[:, None, :] - problem.cost
        if policy is None:
            ahead = options.max(-1)
        else:
            ahead = np.take_along_axis(options, policy[..., None], -1)[..., 0]
    return float(problem.stationary() @ ahead[:, FLAT])
