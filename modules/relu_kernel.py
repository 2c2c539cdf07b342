"""The gradient of a feed-forward network's hidden tokens, on a GPU in one kernel.

A library's product writes a gradient that is then read, cut off and written again, and read once
more for that of the bias: four times the hidden tokens through memory, where this passes once over
them. Imported only where there is Triton, which comes with torch's CUDA builds.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# One tile's gradient is 128 x 128 numbers in the registers of 8 warps; two tiles fit a
# multiprocessor, so that one multiplies while the other waits for memory.
_ROWS, _COLUMNS, _DEPTH = 128, 128, 64


def launch(grad_ND: Tensor, narrow_DH: Tensor, hidden_NH: Tensor) -> tuple[Tensor, Tensor]:
    """What `modules.feed_forward.relu_gradient` says, of contiguous tensors of one half dtype."""
    (rows, wide), columns = grad_ND.shape, narrow_DH.shape[1]
    grad_NH = torch.empty_like(hidden_NH)
    tiles = -(-rows // _ROWS), -(-columns // _COLUMNS)
    sums = grad_ND.new_empty(tiles[0], columns, dtype=torch.float32)
    if rows:
        with torch.cuda.device_of(grad_ND):
            # A grid's first dimension may be long, its second not; neighbours share their rows.
            _kernel[(tiles[0] * tiles[1],)](
                *(grad_ND, narrow_DH, hidden_NH, grad_NH, sums),
                *(rows, columns),
                WIDE=wide,
                ROWS=_ROWS,
                COLUMNS=_COLUMNS,
                DEPTH=_DEPTH,
                num_warps=8,
                num_stages=3,
            )
    return grad_NH, sums.sum(0).to(grad_ND.dtype)


@triton.jit
def _kernel(
    grad_ptr,
    narrow_ptr,
    hidden_ptr,
    out_ptr,
    sums_ptr,
    rows,
    columns,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    across = tl.cdiv(columns, COLUMNS)
    tile = tl.program_id(0) // across
    row = tile * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % across * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    is_row, is_column = row[:, None] < rows, column[None, :] < columns
    at = row[:, None].to(tl.int64)
    product = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, WIDE, DEPTH):
        k = start + depth
        left = tl.load(grad_ptr + at * WIDE + k[None, :], is_row & (k[None, :] < WIDE), 0.0)
        right = tl.load(
            narrow_ptr + k[:, None] * columns + column[None, :],
            (k[:, None] < WIDE) & is_column,
            0.0,
        )
        product = tl.dot(left, right, product)
    place = at * columns + column[None, :]
    is_there = is_row & is_column
    hidden = tl.load(hidden_ptr + place, is_there, 0.0)
    cut = tl.where(hidden <= 0, 0.0, product).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + place, cut, is_there)
    total = tl.sum(cut.to(tl.float32), 0)
    tl.store(sums_ptr + tile.to(tl.int64) * columns + column, total, column < columns)
