"""Matrix products of a CPU, by the library that is fast on it.

MKL, which torch multiplies float32 with, leaves the wide vectors (AVX-512) of an AMD processor
idle. oneDNN, which comes with torch too, does not, and is more than twice as fast (docs/speed.md).
It keeps what it has compiled for a shape: up to some 700 MiB if shapes never repeat.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from torch.utils.flop_counter import flop_registry, register_flop_formula

# Multiply-adds: for fewer, the longer calls, forward and back, take what the products gain.
_LEAST = 2**22


def prefers_onednn(x: Tensor, weight_MK: Tensor) -> bool:
    """Whether the product of rows [..., K] with a weight [M, K] is for oneDNN on this machine.

    Not under autocast or a compiler, which know torch's own products only. With
    `torch.backends.mkldnn.flags(enabled=False)` none is.
    """
    return (
        not torch.compiler.is_compiling()
        and (x.is_cpu and weight_MK.is_cpu)
        and x.dtype == weight_MK.dtype == torch.float32
        and x.numel() * len(weight_MK) >= _LEAST
        and x.shape[-1] == weight_MK.shape[1]  # else torch's own error, which names the sizes
        and _is_dense(weight_MK)
        and not torch.is_autocast_enabled("cpu")
        and bool(torch.backends.mkldnn.enabled)
        and _is_wide_amd()
    )


def _is_dense(weight_MK: Tensor) -> bool:
    """Whether it lies as a matrix or as its transpose: oneDNN takes seconds for a part of one."""
    return weight_MK.is_contiguous() or weight_MK.t().is_contiguous()


@functools.cache
def _is_wide_amd() -> bool:
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    has_library = wide and torch.backends.mkldnn.is_available()
    return has_library and "AMD" in torch.cpu.get_capabilities().get("cpu_name", "")


def product(x_NK: Tensor, weight_MK: Tensor, bias_M: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear` of rows, without a gradient: [N, M]."""
    if prefers_onednn(x_NK, weight_MK):
        return torch.ops.mkldnn._linear_pointwise(x_NK, weight_MK, bias_M, "none", [], "")
    return linear(x_NK, weight_MK, bias_M)


def weight_gradient(grad_NM: Tensor, x_NK: Tensor) -> Tensor:
    """The gradient of the weight, [M, K].

    If it has more rows than columns it is computed as its transpose: the same sums, in an order
    that MKL is a quarter faster in, and oneDNN has the narrow one to copy.
    """
    if grad_NM.shape[1] > x_NK.shape[1]:
        return product(x_NK.t(), grad_NM.t()).t()
    return product(grad_NM.t(), x_NK.t())


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`torch.nn.functional.linear` of any batch of rows, for those that `prefers_onednn`.

    There is neither a second derivative nor `torch.func.grad` or `vmap`.
    """
    # oneDNN copies what lies otherwise, in every product, or refuses it.
    rows = x.reshape(-1, x.shape[-1]).contiguous()
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
        grad_NM = grad_NM.contiguous()
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            product(grad_NM, weight.t()) if of_x else None,
            weight_gradient(grad_NM, x_NK) if of_weight else None,
            grad_NM.sum(0) if of_bias else None,
        )


def _operations(x_shape: torch.Size, weight_shape: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * x_shape.numel() * weight_shape[0]


# torch 2.13 counts none of oneDNN's; a torch without oneDNN has nothing to count.
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    _ONEDNN = torch.ops.mkldnn._linear_pointwise
    if _ONEDNN not in flop_registry:
        register_flop_formula(_ONEDNN)(_operations)
