"""The free-lunch test: on a market without drift and without costs no policy may earn.

The market is a martingale lattice: every bar is a walk of fair coin flips of one tick, half of them
open with a fair jump. Whatever a policy does with sides, stops and targets, its expected profit is
0, or less where a rule is against it. A policy that earns has found a fault of the simulator.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from envs.bar_table import BarTable
from envs.config import BPS, EnvConfig
from envs.ledger import FILLS, HEADS, LEDGER
from envs.market import MarketEnv

MAX_Z = 4.5
EPISODE_BARS = 40
# Wild bars touch stops and targets alike, quiet ones let a stop live until the next open's jump.
FLIPS_A_BAR, FLIPS_QUIET = 400, 36
TICKS_A_STOP = 8  # of the tightest stop
QUIET_SHARE, JUMP_SHARE = 0.5, 0.5
_PATHS_AT_ONCE = 500  # bounds the memory
_ENTRY = FILLS.index("entry_units")

# The side wanted at step t, of 0 and more: -1, 0 or 1 on every path, whose last bar went up or down
# by `seen`, int64 [paths].
Side = Callable[[int, Tensor], Tensor]
_SIDES: dict[str, Side] = {
    "short": lambda t, seen: torch.full_like(seen, -1),
    "long": lambda t, seen: torch.full_like(seen, 1),
    "turning": lambda t, seen: torch.full_like(seen, 1 - 2 * (t % 2)),
    "following": lambda t, seen: seen,
    "fading": lambda t, seen: -seen,
}


@dataclass(frozen=True)
class Policy:
    """A script: sides by step, and one size and bracket for all its orders."""

    name: str
    side: Side
    size: int
    stop_loss: int
    take_profit: int

    def act(self, t: int, seen: Tensor) -> Tensor:
        """Indices of the heads at step `t`, int64 [paths, heads]."""
        others = torch.tensor([self.size, self.stop_loss, self.take_profit]).expand(len(seen), 3)
        return torch.cat([self.side(t, seen)[:, None] + 1, others], -1)


@dataclass(frozen=True)
class Earned:
    """What a policy earned an episode, as a fraction of the initial cash."""

    policy: str
    mean: float
    standard_error: float
    entries: float  # an episode

    @property
    def z(self) -> float:
        """Standard errors above 0."""
        return self.mean / self.standard_error if self.standard_error > 0 else 0.0


def list_policies(cfg: EnvConfig) -> list[Policy]:
    """Sides x stops x targets x churn, out of the configuration's own buckets.

    Stops and targets are the first, a middle and the last bucket; churn is to hold until something
    ends the position, or to leave every other bar.
    """
    policies = []
    stops, targets = _spread(cfg.stop_steps), _spread(len(cfg.take_profit_r))
    largest = int(np.argmax(cfg.risk_multiples))
    for (word, side), stop, target in product(_SIDES.items(), stops, targets):
        bps, multiple = (stop + 1) * cfg.stop_step_bps, cfg.take_profit_r[target]
        name = f"{word}, stop {bps:g} bps, target {f'{multiple:g} R' if multiple else 'none'}"
        policies.append(Policy(f"{name}, hold", side, largest, stop, target))
        policies.append(Policy(f"{name}, churn", _churning(side), largest, stop, target))
    return policies


def _churning(side: Side) -> Side:
    """In for a bar, out for a bar."""
    return lambda t, seen: torch.zeros_like(seen) if t % 2 else side(t // 2, seen)


def _spread(count: int) -> list[int]:
    return sorted({0, (count - 1) // 2, count - 1})


def make_lattice(cfg: EnvConfig, paths: int, rng: np.random.Generator) -> BarTable:
    """Independent fair walks on the tick grid, `EPISODE_BARS` + 1 bars each, one after another.

    The tightest stop is eight ticks, or more where the price would be under 2,000 ticks: no walk
    comes near 0.
    Jumps are up to three of these stops, but so small that none leads into a debt that the floor of
    R-MARGIN-3 forgives: that is a rule, not a fault.
    """
    start = max(2_000, round(TICKS_A_STOP / (cfg.stop_step_bps * BPS)))
    # What a jump may take: the margin that a liquidation leaves, or what a stop leaves.
    widest = cfg.stop_steps * cfg.stop_step_bps * BPS
    harmless = max(0.9 * cfg.maintenance_margin_rate, 0.9 / cfg.max_leverage - widest)
    largest = min(max(1, int(harmless * start)), 3 * TICKS_A_STOP)
    grid = (paths, EPISODE_BARS)
    jumps = rng.integers(1, largest + 1, grid) * rng.choice([-1, 1], grid)
    jumps *= rng.random(grid) < JUMP_SHARE
    steps = rng.integers(0, 2, (*grid, FLIPS_A_BAR), dtype=np.int8) * 2 - 1
    steps[rng.random(grid) < QUIET_SHARE, FLIPS_QUIET:] = 0
    walk = steps.cumsum(-1, dtype=np.int32)
    moved = jumps + walk[..., -1]
    opens = start + moved.cumsum(-1) - walk[..., -1]
    ticks = np.stack(
        [
            opens,
            opens + walk.max(-1).clip(min=0),
            opens + walk.min(-1).clip(max=0),
            opens + walk[..., -1],
        ],
        -1,
    )
    seen = np.full((paths, 1, 4), start)
    prices = _on_tick(np.concatenate([seen, ticks], 1).reshape(-1, 4), cfg.tick_size)
    volume = np.full((len(prices), 1), 1e12)
    return BarTable.from_arrays(np.concatenate([prices, volume], -1), asset="lattice")


def _on_tick(ticks: np.ndarray, tick_size: float) -> np.ndarray:
    """Prices of whole ticks, as R-FILL-6 writes them."""
    inverse = round(1.0 / tick_size)
    whole = inverse > 0 and math.isclose(inverse * tick_size, 1.0, rel_tol=1e-9)
    return ticks / inverse if whole else ticks * tick_size


def without_costs(cfg: EnvConfig) -> EnvConfig:
    """The configuration with every cost at 0, and nothing closed at an episode's end."""
    return dataclasses.replace(
        cfg,
        taker_fee_bps=0.0,
        maker_fee_bps=0.0,
        slippage_bps=0.0,
        stop_slippage_bps=0.0,
        funding_bps_per_day=0.0,
        allow_zero_costs=True,
        flatten_at_end=False,
        workers=0,
    )


def play_lattice(cfg: EnvConfig, *, episodes: int, seed: int) -> list[Earned]:
    """What every policy earns on `episodes` independent paths, through the real environment.

    Args:
        cfg: the simulator's parameters; its costs are left out.
        episodes: paths; every policy plays each of them once.
        seed: of the coins.
    """
    policies, cfg = list_policies(cfg), without_costs(cfg)
    rng = np.random.default_rng(seed)
    parts = []
    for first in range(0, episodes, _PATHS_AT_ONCE):
        paths = min(_PATHS_AT_ONCE, episodes - first)
        parts.append(_play(cfg, policies, make_lattice(cfg, paths, rng), paths))
    profit = np.concatenate([profit for profit, _ in parts])
    entries = np.concatenate([entries for _, entries in parts])
    error = profit.std(0, ddof=1) / math.sqrt(episodes)
    columns = zip(policies, profit.mean(0), error, entries.mean(0), strict=True)
    return [Earned(p.name, float(m), float(e), float(n)) for p, m, e, n in columns]


def _play(
    cfg: EnvConfig, policies: Sequence[Policy], table: BarTable, paths: int
) -> tuple[np.ndarray, np.ndarray]:
    """Profit as a fraction of the initial cash, and entries, both [paths, policies]."""
    cfg = dataclasses.replace(cfg, paths=paths, accounts=len(policies))
    first = torch.arange(paths) * (EPISODE_BARS + 1)
    env = MarketEnv(table, cfg, starts=torch.stack([first, first + EPISODE_BARS], -1))
    state = env.reset()
    grid = (paths, len(policies))
    profit, entries = torch.zeros(grid, dtype=torch.float64), torch.zeros(grid)
    alive = torch.ones(grid, dtype=torch.bool)
    cash, position = LEDGER.index("cash"), LEDGER.index("position")
    for t in range(EPISODE_BARS):
        bars = table.ohlcv[state["bar"][:, 0, 0]]
        seen = (bars[:, 3] - bars[:, 0]).sign().long()
        indices = torch.stack([policy.act(t, seen) for policy in policies], 1).unbind(-1)
        state["action"] = TensorDict(dict(zip(HEADS, indices, strict=True)), grid)
        state = env.step(state)["next"]
        close = table.ohlcv[state["bar"][..., 0], 3]
        equity = state["ledger"][..., cash] + state["ledger"][..., position] * close
        # A ruined account has played its episode; what comes after means nothing.
        profit = torch.where(alive, equity / cfg.initial_cash - 1.0, profit)
        entries += alive & ~state["fills"][..., _ENTRY].isnan()
        alive &= ~state["terminated"][..., 0]
    return profit.numpy(), entries.numpy()


def as_table(rows: Sequence[Earned]) -> str:
    """Mean, standard error and z of every policy, the largest z first."""
    width = max(len(row.policy) for row in rows)
    lines = [f"{'policy':<{width}}  {'mean %':>9}  {'s.e. %':>8}  {'z':>6}  {'entries':>7}"]
    lines += [
        f"{row.policy:<{width}}  {100 * row.mean:>9.4f}  {100 * row.standard_error:>8.4f}  "
        f"{row.z:>6.2f}  {row.entries:>7.1f}"
        for row in sorted(rows, key=lambda row: -row.z)
    ]
    return "\n".join(lines)
