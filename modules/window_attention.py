"""Attention of short windows on a GPU: one kernel forward, one backward.

torch's kernels are made for long sequences. The backward of a window is several of them, with
tiles of 128 tokens and sums in memory, and one more lays the gradients of q, k and v side by side.

Shapes: B windows, T tokens, H heads, d width of a head, D = H d.
"""

import math
from typing import Any

import torch
from torch import Tensor

from modules.kernels import has_kernels
from modules.linear import aligned

# Tokens and widths of a head of which a program holds everything in registers.
_TOKENS = 128
_WIDTHS = (16, 32, 64)
_LEAST = 16  # rows of a product of tensor cores, and of a warp
# Of a thread, for three programs on a multiprocessor: left alone, a compiler takes those of two.
_REGISTERS = 168


def filled_head(width: int) -> int:
    """The width up to which a GPU's heads are filled with zeros: aligned, or one that `fits`.

    The latter where it is at most a fifth more, which is little beside a slower kernel.

    >>> [filled_head(width) for width in (25, 50, 64, 35, 70)]
    [32, 64, 64, 40, 72]
    """
    least = aligned(width)
    return next((wide for wide in _WIDTHS if least <= wide <= 1.2 * least), least)


def fits(qkv: Tensor, num_heads: int) -> bool:
    """Whether `window_attention` takes these q, k and v: [..., T, 3 D] and H heads."""
    return (
        has_kernels(qkv)
        and qkv.shape[-2] <= _TOKENS
        and qkv.shape[-1] in [3 * num_heads * width for width in _WIDTHS]
    )


def window_attention(qkv: Tensor, num_heads: int, scale: float) -> Tensor:
    """Scaled dot-product attention of a window's tokens, each to all of them.

    Args:
        qkv: half precision [..., T, 3 D]: queries, keys and values side by side, each the heads one
            after another. `fits` says which.
        num_heads: H.
        scale: of the logits.

    Returns:
        [..., T, D], the heads one after another. There is no second derivative.
    """
    windows = qkv.reshape(-1, *qkv.shape[-2:])
    out, _ = mix_window(windows, num_heads, scale)
    return out.view(*qkv.shape[:-1], qkv.shape[-1] // 3)


@torch.library.custom_op("pricetaker::mix_window", mutates_args=())
def mix_window(qkv_BTX: Tensor, num_heads: int, scale: float) -> tuple[Tensor, Tensor]:
    """What `window_attention` returns, and what its backward needs.

    That is float32 [B, H, T], base-2 logarithms of the sums that each query's weights were divided
    by.
    """
    out_BTD, sums_BHT = _empty(qkv_BTX, num_heads)
    launch_forward(qkv_BTX.contiguous(), out_BTD, sums_BHT, scale)
    return out_BTD, sums_BHT


@mix_window.register_fake
def _(qkv_BTX: Tensor, num_heads: int, scale: float) -> tuple[Tensor, Tensor]:
    return _empty(qkv_BTX, num_heads)


@torch.library.custom_op("pricetaker::mix_window_backward", mutates_args=())
def mix_window_backward(
    grad_BTD: Tensor, qkv_BTX: Tensor, out_BTD: Tensor, sums_BHT: Tensor, scale: float
) -> Tensor:
    """The gradient of q, k and v, as they lie side by side; [B, T, 3 D]."""
    qkv_BTX = qkv_BTX.contiguous()
    grad_BTX = torch.empty_like(qkv_BTX)
    launch_backward(qkv_BTX, out_BTD, sums_BHT, grad_BTD.contiguous(), grad_BTX, scale)
    return grad_BTX


@mix_window_backward.register_fake
def _(grad_BTD: Tensor, qkv_BTX: Tensor, out_BTD: Tensor, sums_BHT: Tensor, scale: float) -> Tensor:
    return qkv_BTX.new_empty(qkv_BTX.shape)


def _save(ctx: Any, inputs: tuple[Tensor, int, float], output: tuple[Tensor, Tensor]) -> None:
    qkv_BTX, _, ctx.scale = inputs
    ctx.save_for_backward(qkv_BTX, *output)
    ctx.set_materialize_grads(False)  # the sums have none, and zeros would be written for them


def _backward(ctx: Any, grad_BTD: Tensor, _: Tensor | None) -> tuple[Tensor, None, None]:
    return mix_window_backward(grad_BTD, *ctx.saved_tensors, ctx.scale), None, None


mix_window.register_autograd(_backward, setup_context=_save)


def _empty(qkv_BTX: Tensor, num_heads: int) -> tuple[Tensor, Tensor]:
    batch, tokens, width = qkv_BTX.shape
    sums_BHT = qkv_BTX.new_empty((batch, num_heads, tokens), dtype=torch.float32)
    return qkv_BTX.new_empty((batch, tokens, width // 3)), sums_BHT


def launch_forward(qkv_BTX: Tensor, out_BTD: Tensor, sums_BHT: Tensor, scale: float) -> None:
    """Write the attention of contiguous windows, and the sums, where told."""
    _launch("forward", (qkv_BTX, out_BTD, sums_BHT, scale * math.log2(math.e)), sums_BHT, out_BTD)


def launch_backward(
    qkv_BTX: Tensor,
    out_BTD: Tensor,
    sums_BHT: Tensor,
    grad_BTD: Tensor,
    grad_BTX: Tensor,
    scale: float,
) -> None:
    """Write the gradient [B, T, 3 D] of contiguous windows into `grad_BTX`."""
    tensors = (qkv_BTX, out_BTD, sums_BHT, grad_BTD, grad_BTX)
    _launch("backward", (*tensors, scale, scale * math.log2(math.e)), sums_BHT, out_BTD)


def _launch(name: str, args: tuple[Any, ...], sums_BHT: Tensor, out_BTD: Tensor) -> None:
    from modules import window_kernel

    kernel = getattr(window_kernel, name)
    batch, heads, tokens = sums_BHT.shape
    width = out_BTD.shape[-1] // heads
    block, more = tile(tokens)
    crowded = name == "backward" and more and width == max(_WIDTHS)
    with torch.cuda.device_of(sums_BHT):
        kernel[(batch * heads,)](
            *args, T=tokens, H=heads, d=width, BLOCK=block, MORE=more,
            num_warps=block // _LEAST, maxnreg=_REGISTERS if crowded else None,
        )  # fmt: skip


def tile(tokens: int) -> tuple[int, bool]:
    """Rows of the tile of so many tokens, and whether the last token is left out of it.

    >>> tile(65), tile(64), tile(9), tile(66)
    ((64, True), (64, False), (16, False), (128, False))
    """
    more = tokens > _LEAST and (tokens - 1).bit_count() == 1
    return max(_LEAST, 1 << (tokens - more - 1).bit_length()), more
