"""Where the kernels of our own run: what `modules/*_kernel.py` hold, in Triton."""

from importlib.util import find_spec

import torch
from torch import Tensor

# Comes with torch's CUDA builds for Linux, and with none for a CPU.
_HAS_TRITON = find_spec("triton") is not None
_AMPERE = (8, 0)  # the first that multiplies bfloat16


def has_kernels(tensor: Tensor) -> bool:
    """Whether a tensor is of half precision, on a GPU that the kernels are made for."""
    is_half = tensor.dtype in (torch.bfloat16, torch.float16)
    return _HAS_TRITON and tensor.is_cuda and is_half and _multiplies(tensor.device.index)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _multiplies(device: int) -> bool:
    return torch.cuda.get_device_capability(device) >= _AMPERE
