"""What rules on past closes share: the closes that they look at, and the action that they take."""

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from envs.ledger import LEDGER
from envs.table import BarTable

_POSITION = LEDGER.index("position")


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


def act(state: TensorDictBase, side: Tensor, order: dict[str, int]) -> TensorDictBase:
    """Write the action that aims at a side into `state`.

    Args:
        state: of batch [paths, accounts].
        side: -1, 0 or 1, broadcast to [paths, accounts].
        order: index of each head but the direction.
    """
    shape, device = state.batch_size, state.device
    heads = {"direction": (side.expand(shape) + 1).long()}
    for head, index in order.items():
        heads[head] = torch.full(shape, index, dtype=torch.int64, device=device)
    return state.set("action", TensorDict(heads, shape, device=device))
