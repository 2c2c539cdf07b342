"""A rule that follows the market: time-series momentum."""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from envs.config import EnvConfig
from envs.table import BarTable
from pipelines.held_out.baselines import plain_order
from pipelines.held_out.technical_rule import act, held_side, last_closes

ENTRY_Z = 1.0


class MomentumPolicy:
    """Goes with a window's move, if the move is larger than its noise would make it.

    With ``r`` the ``L`` log returns between the last `env.window` closes,
    ``z = sum(r) / (std(r) sqrt(L))`` (after Moskowitz, Ooi and Pedersen 2012): long where
    ``z > 1``, short where ``z < -1``, else what is held is kept. Orders are those of
    `pipelines.held_out.baselines.plain_order`.

    Args:
        table: the bars.
        cfg: the simulator's parameters.
    """

    def __init__(self, table: BarTable, cfg: EnvConfig) -> None:
        self.table, self.window, self.order = table, max(cfg.window, 2), plain_order(cfg)

    def __call__(self, state: TensorDictBase) -> TensorDictBase:
        """Write the action into `state`."""
        moves = last_closes(self.table, state, self.window).log().diff(dim=-1)
        spread = moves.std(-1, correction=0) * moves.shape[-1] ** 0.5
        z = torch.where(spread > 0, moves.sum(-1) / spread, 0.0)
        return act(state, self._side(z, held_side(state)), self.order)

    @staticmethod
    def _side(z: Tensor, held: Tensor) -> Tensor:
        return torch.where(z > ENTRY_Z, 1.0, torch.where(z < -ENTRY_Z, -1.0, held))
