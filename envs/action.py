"""From the indices of an action to what they mean."""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from envs.config import BPS, EnvConfig
from envs.ledger import HEADS
from envs.simulator import Order


class ActionBuckets:
    """The value of every index of every head.

    Args:
        cfg: the parameters that hold the buckets.
        device: where actions come from.

    Attributes:
        values: float64 [values], those of all heads, one head after the other.
        starts: int64 [heads, 1, 1], where each head's begin.
        counts: int64 [heads, 1, 1], how many each head has.
    """

    def __init__(self, cfg: EnvConfig, device: torch.device) -> None:
        by_head = {
            "direction": [-1.0, 0.0, 1.0],
            "size": cfg.risk_multiples,
            "stop_loss": [(i + 1) * cfg.stop_step_bps * BPS for i in range(cfg.stop_steps)],
            "take_profit": cfg.take_profit_r,
        }
        values = torch.tensor([v for head in HEADS for v in by_head[head]], dtype=torch.float64)
        counts = torch.tensor([len(by_head[head]) for head in HEADS])[:, None, None]
        starts = counts.cumsum(0) - counts
        self.values, self.starts, self.counts = (x.to(device) for x in (values, starts, counts))

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Values, starts and counts."""
        return self.values, self.starts, self.counts

    def require_within(self, indices: list[Tensor], outside: Tensor) -> None:
        """Refuse an index outside its range; without waiting for a GPU.

        Args:
            indices: int64 [paths, accounts], of each head.
            outside: bool [], whether any of them is.

        Raises:
            IndexError: naming the head and what is allowed (on CUDA a RuntimeError, later).
        """
        if outside.device.type == "cuda":
            torch._assert_async(~outside, "an index of an action is outside its range")
        elif outside:
            heads = find_outside(torch.stack(indices), self.counts).flatten(1).any(-1)
            number = int(heads.nonzero()[0])
            low, high = (int(bound) for bound in indices[number].aminmax())
            raise IndexError(
                f"action.{HEADS[number]} holds indices from {low} to {high}; "
                f"allowed are 0 to {int(self.counts[number]) - 1}"
            )


def read_indices(action: TensorDictBase, lanes: torch.Size) -> list[Tensor]:
    """The indices of each head, contiguous.

    Args:
        action: of every head.
        lanes: paths and accounts.

    Raises:
        IndexError: if `action` is a tensor, or one of them is not int64, or not of every lane.
    """
    if isinstance(action, Tensor):  # which a head's name would index
        told = f"{action.dtype} {list(action.shape)}"
        raise IndexError(f"action: {told} is not allowed: a TensorDict of {', '.join(HEADS)}")
    indices = [action[head].contiguous() for head in HEADS]
    for head, index in zip(HEADS, indices, strict=True):
        if index.dtype != torch.int64 or index.shape != lanes:
            told = f"{index.dtype} {list(index.shape)}"
            raise IndexError(f"action.{head}: {told} is not allowed: torch.int64 {list(lanes)}")
    return indices


def read_order(indices: Tensor, values: Tensor, starts: Tensor, counts: Tensor) -> Order:
    """What indices ask for; those outside ask for the nearest.

    Args:
        indices: int64 [heads, paths, accounts].
        values: of the `ActionBuckets`.
        starts: of the `ActionBuckets`.
        counts: of the `ActionBuckets`.
    """
    return Order(*values[starts + torch.minimum(indices.clamp_min(0), counts - 1)].unbind())


def find_outside(indices: Tensor, counts: Tensor) -> Tensor:
    """Which indices are outside the range of their head; arguments as of `read_order`."""
    return (indices < 0) | (indices >= counts)
