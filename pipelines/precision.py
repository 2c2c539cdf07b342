"""Mixed precision, the same in the rollout and in the update.

A policy that acts in float32 and is trained in bfloat16 is two policies: their ratio is not 1
before the first step. Weights, logits, losses, values and accounts stay float32 or float64.
"""

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase


def mixed(precision: str, device: torch.device) -> torch.autocast:
    """Context in which matrix products run in bfloat16, if `precision` says so.

    Args:
        precision: ``auto`` (bfloat16 on CUDA), ``float32`` or ``bfloat16``.
        device: where the computation happens.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_half(precision, device))


def is_half(precision: str, device: torch.device) -> bool:
    """Whether matrix products run in bfloat16."""
    return precision == "bfloat16" or (precision == "auto" and device.type == "cuda")


class MixedPrecision(TensorDictModuleBase):
    """A module under `mixed`.

    Args:
        module: what to run.
        precision: see `mixed`.
        device: where `module` lives.
    """

    def __init__(self, module: TensorDictModuleBase, precision: str, device: torch.device) -> None:
        super().__init__()
        self.module = module
        self.precision = precision
        self.device_type = device.type
        self.in_keys = module.in_keys
        self.out_keys = module.out_keys

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Run the module on `tensordict`."""
        with mixed(self.precision, torch.device(self.device_type)):
            return self.module(tensordict)
