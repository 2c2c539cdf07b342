"""Matrix products of a CPU, by the library that is fast on it.

MKL, which torch multiplies float32 with, leaves the wide vectors (AVX-512) of an AMD processor
idle. oneDNN, which comes with torch too, does not, and is more than twice as fast (docs/speed.md).
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

# Multiply-adds: for fewer, the longer call of oneDNN takes what its product gains.
_LEAST = 2**22


def prefers_onednn(x_NK: Tensor, outputs: int) -> bool:
    """Whether a product of [N, K] with [K, outputs] is for oneDNN on this machine.

    Not under autocast or a compiler, which know torch's own products only. With
    `torch.backends.mkldnn.flags(enabled=False)` none is.
    """
    return (
        not torch.compiler.is_compiling()
        and x_NK.is_cpu
        and x_NK.dtype == torch.float32
        and x_NK.numel() * outputs >= _LEAST
        and not torch.is_autocast_enabled("cpu")
        and bool(torch.backends.mkldnn.enabled)
        and _is_wide_amd()
    )


@functools.cache
def _is_wide_amd() -> bool:
    told = torch.cpu.get_capabilities()
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return wide and "AMD" in told.get("cpu_name", "") and torch.backends.mkldnn.is_available()


def product(x_NK: Tensor, weight_MK: Tensor, bias_M: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear` of rows, without a gradient: [N, M]."""
    if prefers_onednn(x_NK, len(weight_MK)):
        return torch.ops.mkldnn._linear_pointwise(x_NK, weight_MK, bias_M, "none", [], "")
    return F.linear(x_NK, weight_MK, bias_M)


def weight_gradient(grad_NM: Tensor, x_NK: Tensor) -> Tensor:
    """The gradient of the weight, [M, K].

    If it has more rows than columns it is computed as its transpose: the same sums, in an order
    that MKL is a quarter faster in, and oneDNN has the narrow one to copy.
    """
    if grad_NM.shape[1] > x_NK.shape[1]:
        return product(x_NK.t(), grad_NM.t()).t()
    return product(grad_NM.t(), x_NK.t())


def bias_gradient(grad_NM: Tensor) -> Tensor:
    """The gradient of the bias, [M]: a product sums faster than a sum."""
    return grad_NM.new_ones(len(grad_NM)) @ grad_NM


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`torch.nn.functional.linear` of any batch of rows, for those that `prefers_onednn`.

    There is neither a second derivative nor `torch.func.grad` or `vmap`.
    """
    rows = x.reshape(-1, x.shape[-1])
    return _Linear.apply(rows, weight, bias).view(*x.shape[:-1], len(weight))


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, x_NK: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_NK, weight)
        return product(x_NK, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NM: Tensor) -> tuple[Tensor | None, ...]:
        x_NK, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            product(grad_NM, weight.t()) if of_x else None,
            weight_gradient(grad_NM, x_NK) if of_weight else None,
            bias_gradient(grad_NM) if of_bias else None,
        )


@register_flop_formula(torch.ops.mkldnn._linear_pointwise)
def _operations(
    x_shape: torch.Size, weight_shape: torch.Size, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    rows, inputs = x_shape
    return 2 * rows * inputs * weight_shape[0]
