"""Rules on past closes: one that follows the market, momentum, and one that goes against it."""

from collections.abc import Callable

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import LEDGER
from pipelines.held_out.baselines import plain_order

# From the closes of a window, [paths, 1, n], the newest last, and the side that is held, -1, 0 or
# 1 [paths, accounts], to the side to be held, which broadcasts to that.
Rule = Callable[[Tensor, Tensor], Tensor]

MOMENTUM_Z, REVERSION_Z = 1.0, 2.0
_POSITION = LEDGER.index("position")


def momentum(closes: Tensor, held: Tensor) -> Tensor:
    """Goes with a window's move, if the move is larger than its noise would make it.

    With ``r`` the ``L`` log returns between the closes, ``z = sum(r) / (std(r) sqrt(L))`` (after
    Moskowitz, Ooi and Pedersen 2012): long where ``z > 1``, short where ``z < -1``, else what is
    held is kept.
    """
    moves = closes.log().diff(dim=-1)
    spread = moves.std(-1, correction=0) * moves.shape[-1] ** 0.5
    z = torch.where(spread > 0, moves.sum(-1) / spread, 0.0)
    return torch.where(z > MOMENTUM_Z, 1.0, torch.where(z < -MOMENTUM_Z, -1.0, held))


def mean_reversion(closes: Tensor, held: Tensor) -> Tensor:
    """Bets that a price far from its mean comes back to it: Bollinger bands.

    With ``m`` and ``s`` mean and standard deviation of the closes and ``z = (close - m) / s``: long
    where ``z < -2``, short where ``z > 2`` (Bollinger's two standard deviations); a long is held
    while ``z < 0``, a short while ``z > 0``.
    """
    spread = closes.std(-1, correction=0)
    z = torch.where(spread > 0, (closes[..., -1] - closes.mean(-1)) / spread, 0.0)
    waiting = torch.where(z * held < 0, held, 0.0)
    return torch.where(z > REVERSION_Z, -1.0, torch.where(z < -REVERSION_Z, 1.0, waiting))


class RulePolicy:
    """Aims at the side that a rule says; orders are those of `baselines.plain_order`.

    Args:
        rule: looks at the last `env.window` closes.
        table: the bars.
        cfg: the simulator's parameters.
    """

    def __init__(self, rule: Rule, table: BarTable, cfg: EnvConfig) -> None:
        self.rule, self.table = rule, table
        self.window, self.order = max(cfg.window, 2), plain_order(cfg)

    def __call__(self, state: TensorDictBase) -> TensorDictBase:
        """Write the action into `state`, of batch [paths, accounts]."""
        shape, device = state.batch_size, state.device
        side = self.rule(last_closes(self.table, state, self.window), held_side(state))
        heads = {"direction": (side.expand(shape) + 1).long()}
        for head, index in self.order.items():
            heads[head] = torch.full(shape, index, dtype=torch.int64, device=device)
        return state.set("action", TensorDict(heads, shape, device=device))


def last_closes(table: BarTable, state: TensorDictBase, count: int) -> Tensor:
    """The closes that are known when an action is chosen, the newest last.

    Args:
        table: the bars.
        state: with ``bar`` [paths, accounts, 1], the last closed bar.
        count: how many; before the first bar of the table there is the first bar.

    Returns:
        float64 [paths, 1, count], the same for all accounts of a path.
    """
    back = torch.arange(count - 1, -1, -1, device=state["bar"].device)
    return table.ohlcv[:, 3].to(back.device)[(state["bar"][:, :1] - back).clamp_min(0)]


def held_side(state: TensorDictBase) -> Tensor:
    """The side that is held, -1, 0 or 1: float64 [paths, accounts]."""
    return state["ledger"][..., _POSITION].sign()
