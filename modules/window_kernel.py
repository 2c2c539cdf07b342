"""Triton kernels for the attention of short windows; `modules.window_attention` starts them.

A program is one head of one window. It reads what it needs of it once, holds all of the logits in
registers, and writes its results once: nothing is summed in memory, and nothing is left unwritten.

Shapes: T tokens, H heads, d width of a head, a power of two. Tensor cores multiply a BLOCK of them,
a power of two too, of at least 16. A window is one of bars and a token more, and the usual 64 and
one would be tiled as 128: where `MORE` is set, the BLOCK leaves out one token, the last, and plain
sums see to its row and its column of the logits.
"""

import triton
import triton.language as tl


@triton.jit
def forward(
    qkv, out, sums, scale,
    T: tl.constexpr, H: tl.constexpr, d: tl.constexpr, BLOCK: tl.constexpr, MORE: tl.constexpr,
):  # fmt: skip
    """Attention of a head: [T, d] into `out`, the logarithms of its sums of powers into `sums`.

    The logarithm is that to base two, and `scale` that of logits of which two is the base.
    """
    head = tl.program_id(0).to(tl.int64)
    window, place = head // H, head % H * d
    qkv += window * T * (3 * H * d) + place
    out += window * T * (H * d) + place
    sums += head * T
    q = _load(qkv, 3 * H * d, T, d, BLOCK)
    k = _load(qkv + H * d, 3 * H * d, T, d, BLOCK)
    v = _load(qkv + 2 * H * d, 3 * H * d, T, d, BLOCK)
    s = tl.dot(q, tl.trans(k)) * scale
    if T < BLOCK:
        s = tl.where(tl.arange(0, BLOCK)[None, :] < T, s, float("-inf"))
    top = tl.max(s, 1)
    if MORE:
        at = qkv + BLOCK * (3 * H * d) + tl.arange(0, d)
        q1, k1, v1 = _load_one(at), _load_one(at + H * d), _load_one(at + 2 * H * d)
        column = _times(q, k1) * scale
        top = tl.maximum(top, column)
        of_column = tl.exp2(column - top)
        p = tl.exp2(s - top[:, None])
        total = tl.sum(p, 1) + of_column
        mixed = tl.dot(p.to(v.dtype), v, of_column[:, None] * v1[None, :])

        row, corner = _times(k, q1) * scale, tl.sum(q1 * k1, 0) * scale
        top1 = tl.maximum(tl.max(row, 0), corner)
        of_row, of_corner = tl.exp2(row - top1), tl.exp2(corner - top1)
        total1 = tl.sum(of_row, 0) + of_corner
        mixed1 = (_mix(of_row, v) + of_corner * v1) / total1
        _store_one(out + BLOCK * (H * d) + tl.arange(0, d), mixed1)
        tl.store(sums + BLOCK, top1 + tl.log2(total1))
    else:
        p = tl.exp2(s - top[:, None])
        total = tl.sum(p, 1)
        mixed = tl.dot(p.to(v.dtype), v)
    _store(out, mixed / total[:, None], H * d, T, d, BLOCK)
    rows = tl.arange(0, BLOCK)
    tl.store(sums + rows, top + tl.log2(total), mask=rows < T)


@triton.jit
def backward(
    qkv, out, sums, grad_out, grad_qkv, scale, scale_logits,
    T: tl.constexpr, H: tl.constexpr, d: tl.constexpr, BLOCK: tl.constexpr, MORE: tl.constexpr,
):  # fmt: skip
    """Gradients of a head's queries, keys and values, where these lie in `grad_qkv`.

    Keys lie along the rows of what the tensor cores compute here: the weights are then in registers
    where two of the three products that follow want them.
    """
    head = tl.program_id(0).to(tl.int64)
    window, place = head // H, head % H * d
    qkv += window * T * (3 * H * d) + place
    grad_qkv += window * T * (3 * H * d) + place
    out += window * T * (H * d) + place
    grad_out += window * T * (H * d) + place
    sums += head * T
    rows = tl.arange(0, BLOCK)
    q = _load(qkv, 3 * H * d, T, d, BLOCK)
    k = _load(qkv + H * d, 3 * H * d, T, d, BLOCK)
    v = _load(qkv + 2 * H * d, 3 * H * d, T, d, BLOCK)
    do = _load(grad_out, H * d, T, d, BLOCK)
    o = _load(out, H * d, T, d, BLOCK)
    sum_ = tl.load(sums + rows, mask=rows < T, other=0.0)
    # What normalising the weights takes from their gradients.
    delta = tl.sum(do.to(tl.float32) * o.to(tl.float32), 1)
    dq = tl.zeros([BLOCK, d], tl.float32)
    dk = tl.zeros([BLOCK, d], tl.float32)
    dv = tl.zeros([BLOCK, d], tl.float32)
    if MORE:
        at = qkv + BLOCK * (3 * H * d) + tl.arange(0, d)
        to = grad_qkv + BLOCK * (3 * H * d) + tl.arange(0, d)
        beside = BLOCK * (H * d) + tl.arange(0, d)
        q1, k1, v1 = _load_one(at), _load_one(at + H * d), _load_one(at + 2 * H * d)
        do1 = _load_one(grad_out + beside)
        delta1 = tl.sum(do1 * _load_one(out + beside), 0)
        sum1 = tl.load(sums + BLOCK)

        of_column = tl.exp2(_times(q, k1) * scale_logits - sum_)
        d_column = of_column * (_times(do, v1) - delta) * scale
        of_row = tl.exp2(_times(k, q1) * scale_logits - sum1)
        d_row = of_row * (_times(v, do1) - delta1) * scale
        of_corner = tl.exp2(tl.sum(q1 * k1, 0) * scale_logits - sum1)
        d_corner = of_corner * (tl.sum(do1 * v1, 0) - delta1) * scale

        _store_one(to, _mix(d_row, k) + d_corner * k1)
        _store_one(to + H * d, _mix(d_column, q) + d_corner * q1)
        _store_one(to + 2 * H * d, _mix(of_column, do) + of_corner * do1)
        dq = d_column[:, None] * k1[None, :]
        dk = d_row[:, None] * q1[None, :]
        dv = of_row[:, None] * do1[None, :]
    p = tl.exp2(tl.dot(k, tl.trans(q)) * scale_logits - sum_[None, :])
    if T < BLOCK:
        p = tl.where(rows[:, None] < T, p, 0.0)
    ds = p * (tl.dot(v, tl.trans(do)) - delta[None, :]) * scale
    ds = ds.to(q.dtype)
    _store(grad_qkv + 2 * H * d, tl.dot(p.to(do.dtype), do, dv), 3 * H * d, T, d, BLOCK)
    _store(grad_qkv + H * d, tl.dot(ds, q, dk), 3 * H * d, T, d, BLOCK)
    _store(grad_qkv, tl.dot(tl.trans(ds), k, dq), 3 * H * d, T, d, BLOCK)


@triton.jit
def _load(at, stride, T: tl.constexpr, d: tl.constexpr, BLOCK: tl.constexpr):
    """The BLOCK of tokens, zeros beyond T; rows lie `stride` apart."""
    rows = tl.arange(0, BLOCK)[:, None]
    at += rows * stride + tl.arange(0, d)[None, :]
    if T < BLOCK:
        return tl.load(at, mask=rows < T, other=0.0)
    else:
        return tl.load(at)


@triton.jit
def _store(at, values, stride, T: tl.constexpr, d: tl.constexpr, BLOCK: tl.constexpr):
    rows = tl.arange(0, BLOCK)[:, None]
    values = values.to(at.dtype.element_ty)
    tl.store(at + rows * stride + tl.arange(0, d)[None, :], values, mask=rows < T)


@triton.jit
def _load_one(at):
    return tl.load(at).to(tl.float32)


@triton.jit
def _store_one(at, values):
    tl.store(at, values.to(at.dtype.element_ty))


@triton.jit
def _times(tokens, one):
    """The product of each token of a block with one more."""
    return tl.sum(tokens.to(tl.float32) * one[None, :], 1)


@triton.jit
def _mix(weights, tokens):
    """The weighted sum of a block's tokens."""
    return tl.sum(weights[:, None] * tokens.to(tl.float32), 0)
