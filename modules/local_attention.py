"""Attention of the tokens just before, on a GPU in half precision, without copies of them.

A band of logits is computed tile by tile where the keys lie: memory is read and written once, and
the learned bias gets its gradient in the same pass. :class:`modules.streaming.LocalAttention` says
the same with torch's own operations, for every device and precision.

Shapes: N sequences, C queries of each, L lookback, D width, H heads, P tiles.
"""

from typing import Any

import torch
from torch import Tensor

from modules.kernels import has_kernels

_LEAST = 16  # rows of a tile: those of one product of tensor cores
# Wider heads need more shared memory than every GPU has, and a longer lookback more registers.
_HEADS = (16, 32, 64)
_LONGEST = 64
# Numbers of a sequence's queries: offsets within its keys and values are of 32 bits.
_LARGEST = 2**29


def is_fused(q: Tensor, num_heads: int, lookback: int) -> bool:
    """Whether `local_attention` is made for such queries [..., D]; otherwise torch's own it is."""
    count, width = q.shape[-2:]
    fits = width // num_heads in _HEADS and lookback <= _LONGEST and count * width <= _LARGEST
    return has_kernels(q) and fits


def local_attention(q: Tensor, keys_values: Tensor, bias: Tensor, num_heads: int) -> Tensor:
    """Every query attends its own token and the L before it.

    Softmax, sums and the bias are float32. There is neither a second derivative nor
    `torch.func.grad` or `vmap`.

    Args:
        q: projected queries [N, C, D], half precision; see `is_fused`.
        keys_values: [N, L + C, 2 D] of the same dtype, keys before values. Query c sees rows c to
            c + L.
        bias: float32 [H, L + 1], added to the logits; column d is for the token d before the
            query's own.
        num_heads: H, a divisor of D.

    Returns:
        [N, C, D], like `q`.
    """
    return attend(q, keys_values, bias, num_heads)[0]


@torch.library.custom_op("pricetaker::local_attention", mutates_args=())
def attend(q: Tensor, keys_values: Tensor, bias: Tensor, num_heads: int) -> tuple[Tensor, Tensor]:
    """What `local_attention` returns, and the logsumexp of the logits, float32 [N, H, C]."""
    q, keys_values, bias = q.contiguous(), keys_values.contiguous(), bias.contiguous()
    (sequences, count, width), lookback = q.shape, bias.shape[1] - 1
    out, lse = torch.empty_like(q), q.new_empty(sequences, num_heads, count, dtype=torch.float32)
    rows, span = _tile(lookback)
    if q.numel():
        from modules import local_kernel

        with torch.cuda.device_of(q):
            local_kernel.attend[(sequences * -(-count // rows) * num_heads,)](
                q, keys_values, bias, out, lse, count,
                LOOKBACK=lookback, HEADS=num_heads, WIDTH=width // num_heads, TILE=rows, SPAN=span,
                num_warps=_warps(rows, width // num_heads),
            )  # fmt: skip
    return out, lse


@attend.register_fake
def _(q: Tensor, keys_values: Tensor, bias: Tensor, num_heads: int) -> tuple[Tensor, Tensor]:
    lse = q.new_empty(q.shape[0], num_heads, q.shape[1], dtype=torch.float32)
    return q.new_empty(q.shape), lse


@torch.library.custom_op("pricetaker::local_attention_backward", mutates_args=())
def attend_backward(
    grad: Tensor,
    q: Tensor,
    keys_values: Tensor,
    bias: Tensor,
    out: Tensor,
    lse: Tensor,
    num_heads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `q`, `keys_values` and `bias`; the same bits for the same arguments."""
    grad, q, keys_values = grad.contiguous(), q.contiguous(), keys_values.contiguous()
    bias, out, lse = bias.contiguous(), out.contiguous(), lse.contiguous()
    (sequences, count, width), lookback = q.shape, bias.shape[1] - 1
    of_q, of_keys_values = torch.empty_like(q), torch.empty_like(keys_values)
    if not q.numel():
        return of_q, of_keys_values.zero_(), torch.zeros_like(bias)
    from modules import local_kernel

    rows, span = _tile(lookback)
    items = sequences * -(-(count + lookback) // rows)
    of_bias_PHL = bias.new_empty(items, num_heads, lookback + 1)
    with torch.cuda.device_of(q):
        local_kernel.attend_backward[(2 * items * num_heads,)](
            grad, q, keys_values, bias, out, lse, of_q, of_keys_values, of_bias_PHL, count,
            LOOKBACK=lookback, HEADS=num_heads, WIDTH=width // num_heads, TILE=rows, SPAN=span,
            num_warps=_warps(rows, width // num_heads),
        )  # fmt: skip
    return of_q, of_keys_values, of_bias_PHL.sum(0)


@attend_backward.register_fake
def _(
    grad: Tensor,
    q: Tensor,
    keys_values: Tensor,
    bias: Tensor,
    out: Tensor,
    lse: Tensor,
    num_heads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        q.new_empty(q.shape),
        keys_values.new_empty(keys_values.shape),
        bias.new_empty(bias.shape),
    )


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.num_heads = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.set_materialize_grads(False)  # nobody asks for that of the logsumexp


def _backward(ctx: Any, grad: Tensor, _: None) -> tuple[Tensor | None, ...]:
    return (*attend_backward(grad, *ctx.saved_tensors, ctx.num_heads), None)


attend.register_autograd(_backward, setup_context=_save)


def _tile(lookback: int) -> tuple[int, int]:
    """Rows of a tile, and columns that hold all they see, both powers of two.

    As many rows as a row sees: more would be masked in a larger tile, and in a smaller one a key
    would be read by more tiles.
    """
    rows = max(_LEAST, _power_of_two(lookback))
    return rows, _power_of_two(rows + lookback)


def _power_of_two(least: int) -> int:
    return 1 << max(least - 1, 0).bit_length()


def _warps(rows: int, head: int) -> int:
    """As few as have the registers for it: where a warp has whole rows, sums stay in it."""
    return 8 if rows == _LONGEST else rows // 16 * (2 if head == _HEADS[-1] else 1)
