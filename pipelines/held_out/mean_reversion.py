"""A rule that goes against the market: Bollinger bands."""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from envs.config import EnvConfig
from envs.table import BarTable
from pipelines.held_out.baselines import plain_order
from pipelines.held_out.technical_rule import act, held_side, last_closes

ENTRY_Z = 2.0


class MeanReversionPolicy:
    """Bets that a price far from its mean comes back to it.

    With ``m`` and ``s`` mean and standard deviation of the last `env.window` closes and
    ``z = (close - m) / s``: long where ``z < -2``, short where ``z > 2`` (Bollinger's two standard
    deviations); a long is held while ``z < 0``, a short while ``z > 0``. Orders are those of
    `pipelines.held_out.baselines.plain_order`.

    Args:
        table: the bars.
        cfg: the simulator's parameters.
    """

    def __init__(self, table: BarTable, cfg: EnvConfig) -> None:
        self.table, self.window, self.order = table, max(cfg.window, 2), plain_order(cfg)

    def __call__(self, state: TensorDictBase) -> TensorDictBase:
        """Write the action into `state`."""
        closes = last_closes(self.table, state, self.window)
        spread = closes.std(-1, correction=0)
        z = torch.where(spread > 0, (closes[..., -1] - closes.mean(-1)) / spread, 0.0)
        return act(state, self._side(z, held_side(state)), self.order)

    @staticmethod
    def _side(z: Tensor, held: Tensor) -> Tensor:
        waiting = torch.where(z * held < 0, held, 0.0)
        return torch.where(z > ENTRY_Z, -1.0, torch.where(z < -ENTRY_Z, 1.0, waiting))
