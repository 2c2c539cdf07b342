"""From the indices of an action to what they mean."""

import torch
from tensordict import TensorDictBase

from envs.config import BPS, EnvConfig
from envs.ledger import HEADS
from envs.simulator import Order


class ActionBuckets:
    """The value of every index of every head, float64.

    Args:
        cfg: the parameters that hold the buckets.
        device: where actions come from.
    """

    def __init__(self, cfg: EnvConfig, device: torch.device) -> None:
        values = {
            "direction": [-1.0, 0.0, 1.0],
            "size": cfg.risk_multiples,
            "stop_loss": [(i + 1) * cfg.stop_step_bps * BPS for i in range(cfg.stop_steps)],
            "take_profit": cfg.take_profit_r,
        }
        self.values = {
            head: torch.tensor(values[head], dtype=torch.float64, device=device) for head in HEADS
        }

    def read(self, action: TensorDictBase) -> Order:
        """What the indices, int64 [paths, accounts] by head, ask for.

        Raises:
            IndexError: for an index outside its range, naming the head (asynchronously on CUDA).
        """
        meanings = []
        for head, values in self.values.items():
            index = action[head]
            try:
                # index_select, unlike indexing, refuses negative numbers.
                meanings.append(values.index_select(0, index.reshape(-1)).view(index.shape))
            except (IndexError, RuntimeError) as error:
                low, high = int(index.min()), int(index.max())
                raise IndexError(
                    f"action.{head} holds indices from {low} to {high}; "
                    f"allowed are 0 to {len(values) - 1}"
                ) from error
        return Order(*meanings)
