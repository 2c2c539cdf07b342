"""Everything that a training is at the boundary of two iterations, on the CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Snapshot:
    """A training that stands still, and that a checkpoint can hold.

    Attributes:
        iteration: whole iterations behind it.
        tensors: copies on the CPU, by group (``model``, ``optimizer``, ``hindsight``, ``env``,
            ``carrier``, ``random``) and name.
        values: the rest, as plain values.
    """

    iteration: int
    tensors: dict[str, dict[str, Tensor]]
    values: dict[str, Any]


def copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of their own memory on the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in state.items()}


def split_optimizer(
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The tensors of an optimiser's state, named ``<parameter>.<name>``, and its plain groups."""
    state = optimizer.state_dict()
    flat = {
        f"{i}.{name}": value for i, part in state["state"].items() for name, value in part.items()
    }
    return copies(flat), state["param_groups"]


def join_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Restore what `split_optimizer` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value.clone()  # the optimiser would write into it
    optimizer.load_state_dict({"state": state, "param_groups": groups})
