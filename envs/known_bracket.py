r"""A market in which the stop and the target decide: price reverts, after going further first.

At every close the log price lies `displacement` d above or below an anchor, a coin's toss which.
The next bar opens there, first overshoots outward by one of `OVERSHOOTS`, then falls back through
the anchor to one of `REVERSALS` beyond it, and closes on the side of the next toss. The way to
trade it is against the displacement. A stop nearer than most overshoots is hit, one farther than
all of them makes the position small, for its size is risk over stop distance; a target too far is
seldom reached, one too near gives the reversal away. The simulator tests the stop first, as it
would if nobody knew the order.

All prices lie on a few levels, so that an account is in one of finitely many states, and everything
is exact but the rounding of prices and units to their grids: a state is the side of the anchor and
the position, if any: its side, stop, target, size and the side of the anchor where it was opened.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor

from envs.checks import require
from envs.config import BPS, EnvConfig
from envs.known_bars import OVERSHOOTS, REVERSALS
from envs.ledger import HEADS, LEDGER


@dataclass(frozen=True)
class _Position:
    """A bracket opened at `opened` (-1 or 1, the side of the anchor), in units of its cash then.

    `fill`, `stop` and `target` are prices over the anchor; a target of 0 is none.
    """

    action: tuple[int, int, int, int]
    opened: int
    side: int
    notional: float
    fill: float
    stop: float
    target: float

    def mark(self, price: float) -> float:
        """Equity at a price, over the cash before the entry, its own fee not yet taken."""
        return 1.0 + self.notional * self.side * (price / self.fill - 1.0)


class BracketSolution:
    """Value iteration over every state, and the policy it ends in.

    Args:
        displacement: log distance of a close from the anchor.
        cfg: the environment's parameters.
    """

    def __init__(self, displacement: float, cfg: EnvConfig) -> None:
        self.cfg = cfg
        self.taker, self.maker = cfg.taker_fee_bps * BPS, cfg.maker_fee_bps * BPS
        self.slip, self.stop_slip = cfg.slippage_bps * BPS, cfg.stop_slippage_bps * BPS
        self.displacement = displacement
        self.price = {s: float(np.exp(s * displacement)) for s in (-1, 1)}
        self.positions = [self._open(a, s) for s in (-1, 1) for a in self._orders()]
        # By position and side of the anchor: what a bar that begins so brings.
        self.bars = {s: [self._bar(p, s) for p in self.positions] for s in (-1, 1)}
        self._tabulate()
        self.growth_per_bar = self._solve()

    def _orders(self) -> list[tuple[int, int, int, int]]:
        cfg = self.cfg
        sizes, targets = len(cfg.risk_multiples), len(cfg.take_profit_r)
        return list(product((0, 2), range(sizes), range(cfg.stop_steps), range(targets)))

    def _open(self, action: tuple[int, int, int, int], opened: int) -> _Position:
        cfg, side = self.cfg, action[0] - 1
        fill = self.price[opened] * (1.0 + side * self.slip)
        distance = (action[2] + 1) * cfg.stop_step_bps * BPS
        asked = cfg.risk_pct / 100.0 * cfg.risk_multiples[action[1]] / distance
        notional = min(asked, cfg.max_leverage / (1.0 + cfg.max_leverage * self.taker))
        r = cfg.take_profit_r[action[3]]
        target = fill * (1.0 + side * r * distance) if r else 0.0
        stop = fill * (1.0 - side * distance)
        return _Position(action, opened, side, notional, fill, stop, target)

    def _held(self, p: _Position, price: float) -> float:
        return p.mark(price) - p.notional * self.taker

    def _left(self, p: _Position, price: float, fee: float) -> float:
        return self._held(p, price) - p.notional * price / p.fill * fee

    def _sold(self, p: _Position, s: int) -> float:
        """Cash after an order at the open or close on side `s` of the anchor."""
        return self._left(p, self.price[s] * (1.0 - p.side * self.slip), self.taker)

    def _bar(self, p: _Position, s: int) -> tuple[float, float]:
        """Chance that a position leaves in a bar that opens on side `s`, and its mean log cash."""
        gone, log_cash = 0.0, 0.0
        for (over, p1), (back, p2) in product(OVERSHOOTS.items(), REVERSALS.items()):
            ends = np.exp(self.displacement * np.array([s * (1.0 + over), -s * back]))
            worst, best = (ends.min(), ends.max())[:: p.side]
            if p.side * (worst - p.stop) <= 0.0:
                cash = self._left(p, p.stop * (1.0 - p.side * self.stop_slip), self.taker)
            elif p.target and p.side * (best - p.target) > 0.0:
                cash = self._left(p, p.target, self.maker)
            else:
                continue
            gone += p1 * p2
            log_cash += p1 * p2 * np.log(cash)
        return gone, log_cash

    def _tabulate(self) -> None:
        """Arrays [2 sides of the anchor, positions] of everything the recursion needs."""
        sides = (-1, 1)
        bars = np.array([self.bars[s] for s in sides])
        self.gone, self.gain = bars[..., 0], bars[..., 1]
        held = [[self._held(p, self.price[s]) for p in self.positions] for s in sides]
        sold = [[self._sold(p, s) for p in self.positions] for s in sides]
        self.log_held, self.log_sold = np.log(held), np.log(sold)
        self.may_open = np.array([[p.opened == s for p in self.positions] for s in sides])
        side = np.array([p.side for p in self.positions])
        self.opposite = side[:, None] != side[None, :]

    def _step(
        self, flat: np.ndarray, held: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One step back: values of being flat [2] and of holding [2, positions], and the choices.

        Values count log equity from the mark at a close. A choice is the position opened, -1 for
        none and -2 for holding on.
        """
        # A bar that begins with a position, counted from the cash before its entry.
        stay = (1.0 - self.gone) * (self.log_held + held).mean(0)
        through = self.gain + self.gone * flat.mean() + stay
        opening = np.where(self.may_open, through, -np.inf)
        wait = flat.mean()
        new_flat = np.maximum(wait, opening.max(1))
        choice_flat = np.where(wait >= opening.max(1), -1, opening.argmax(1))
        flips = np.where(self.opposite[None], opening[:, None, :], -np.inf)
        leave = self.log_sold - self.log_held
        options = np.stack([through - self.log_held, leave + wait, leave + flips.max(2)])
        best = options.argmax(0)
        choice_held = np.choose(best, [-2, -1, flips.argmax(2)])
        return new_flat, options.max(0), choice_flat, choice_held

    def _solve(self) -> float:
        flat, held = np.zeros(2), np.zeros_like(self.log_held)
        for _ in range(10_000):
            new_flat, new_held, *choices = self._step(flat, held)
            change = np.concatenate([new_flat - flat, (new_held - held).ravel()])
            flat, held = new_flat - new_flat[0], new_held - new_flat[0]
            if np.ptp(change) < 1e-13:
                break
        self.choice_flat, self.choice_held = choices
        return float(change.mean())

    def value_of(self, bars: int) -> float:
        """Best expected log growth of an episode that starts flat and closes what it holds."""
        flat, held = np.zeros(2), self.log_sold - self.log_held
        for _ in range(bars):
            flat, held, *_ = self._step(flat, held)
        return float(flat.mean())

    def policy(self, features: Tensor) -> Callable[[TensorDictBase], TensorDictBase]:
        """The best policy on a table of which `features` column 1 is the side of the anchor."""
        return _BracketPolicy(self, features[:, 1])


class _BracketPolicy:
    """Finds an account's state from its ledger, and the action in a table."""

    def __init__(self, solution: BracketSolution, displaced: Tensor) -> None:
        self.solution = solution
        self.displaced = (displaced > 0).long()
        actions = torch.tensor([p.action for p in solution.positions])
        notes = torch.tensor([(p.fill, p.stop, p.target, p.notional) for p in solution.positions])
        self.actions, self.notes = actions, notes.double()
        self.flat = torch.from_numpy(solution.choice_flat)
        self.held = torch.from_numpy(solution.choice_held)

    def __call__(self, tensordict: TensorDictBase) -> TensorDictBase:
        ledger = dict(zip(LEDGER, tensordict["ledger"].unbind(-1), strict=True))
        displaced = self.displaced[tensordict["bar"][..., 0]]
        side = ledger["position"].sign()
        state = self._position(ledger)
        choice = torch.where(side == 0, self.flat[displaced], self.held[displaced, state])
        wanted = self.actions[choice.clamp_min(0)].clone()
        wanted[choice == -1] = torch.tensor([1, 0, 0, 0])
        wanted[..., 0] = torch.where(choice == -2, side.long() + 1, wanted[..., 0])
        for i, head in enumerate(HEADS):
            tensordict["action", head] = wanted[..., i].contiguous()
        return tensordict

    def _position(self, ledger: dict[str, Tensor]) -> Tensor:
        """Index of the position that an account holds; of a flat one anything."""
        anchor = 60_000.0
        value = ledger["position"].abs() * ledger["entry_price"]
        cash = ledger["cash"] + ledger["position"] * ledger["entry_price"]
        prices = ("entry_price", "stop_price", "take_profit_price")
        seen = torch.stack([*(ledger[key] / anchor for key in prices), value / cash], -1)
        return (seen[..., None, :] - self.notes).abs().sum(-1).argmin(-1)


def solve_bracket(displacement: float, cfg: EnvConfig) -> BracketSolution:
    """Solve the market under an environment's parameters.

    Args:
        displacement: log distance of a close from the anchor.
        cfg: the environment's parameters.

    Raises:
        ValueError: for parameters that the derivation does not cover, naming the key.
    """
    for key in ("max_units", "max_participation"):
        require(getattr(cfg, key) is None, f"env.{key}", getattr(cfg, key), "null here")
    for key in ("funding_bps_per_day", "drawdown_penalty", "turnover_penalty"):
        require(getattr(cfg, key) == 0.0, f"env.{key}", getattr(cfg, key), "0 here")
    require(not cfg.trailing, "env.trailing", cfg.trailing, "false here")
    return BracketSolution(displacement, cfg)
