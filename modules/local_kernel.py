"""The kernels of :mod:`modules.local_attention`, in Triton; whoever needs them imports this.

A program has a tile of Q rows and S columns, all that any of its rows sees or is seen by: its
softmax is that of one tile, and nothing is added up between programs but the gradient of the bias.
Query `i` of a tile of queries and key `j` of the span after its first key are
``LOOKBACK + i - j`` tokens apart; for a tile of keys and the span of queries that begins `LOOKBACK`
before it the roles change, and key `i` and query `j` are ``j - i`` apart.

Shapes: N sequences, C queries of each, L lookback, H heads of width W, D = H W. All tensors are
contiguous; lengths are not specialised on, so that another batch is no other kernel.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _rows(
    tensor: tl.tensor, rows: tl.tensor, known: tl.tensor, STEP: tl.constexpr, WIDTH: tl.constexpr
) -> tl.tensor:
    """[rows, W] of a tensor whose rows are `STEP` apart, zeros where they are not known."""
    at = rows[:, None] * STEP + tl.arange(0, WIDTH)[None, :]
    return tl.load(tensor + at, mask=known[:, None], other=0.0)


@triton.jit
def _put(
    tensor: tl.tensor, values: tl.tensor, rows: tl.tensor, known: tl.tensor, STEP: tl.constexpr
) -> None:
    """Write [rows, W], rounded as the tensor is."""
    at = rows[:, None] * STEP + tl.arange(0, values.shape[1])[None, :]
    tl.store(tensor + at, values.to(tensor.dtype.element_ty), mask=known[:, None])


@triton.jit
def _logits(
    left: tl.tensor, right: tl.tensor, bias: tl.tensor, distance: tl.tensor, LOOKBACK: tl.constexpr
) -> tl.tensor:
    """[left, right]: scaled products with the bias of their distance, -inf out of reach."""
    reached = (distance >= 0) & (distance <= LOOKBACK)
    of_distance = tl.load(bias + distance, mask=reached, other=-float("inf"))
    return tl.dot(left, tl.trans(right)) * left.shape[1] ** -0.5 + of_distance


@triton.jit(do_not_specialize=["count"])
def attend(
    q: tl.tensor,
    keys_values: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    lse: tl.tensor,
    count: tl.tensor,
    LOOKBACK: tl.constexpr,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    TILE: tl.constexpr,
    SPAN: tl.constexpr,
) -> None:
    """One tile of queries of one head: its output and the logsumexp of its logits.

    Args:
        q: half [N, C, D].
        keys_values: half [N, L + C, 2 D].
        bias: float32 [H, L + 1].
        out: like `q`, written.
        lse: float32 [N, H, C], written.
        count: C.
        LOOKBACK: L.
        HEADS: H.
        WIDTH: W.
        TILE: queries of a tile.
        SPAN: power of two, at least ``TILE + LOOKBACK``.
    """
    model: tl.constexpr = HEADS * WIDTH
    tiles = tl.cdiv(count, TILE)
    head, item = tl.program_id(0) % HEADS, tl.program_id(0) // HEADS
    sequence, first = (item // tiles).to(tl.int64), item % tiles * TILE
    q += sequence * count * model + head * WIDTH
    out += sequence * count * model + head * WIDTH
    keys = keys_values + sequence * (count + LOOKBACK) * 2 * model + head * WIDTH
    lse += (sequence * HEADS + head) * count
    i, j = tl.arange(0, TILE), tl.arange(0, SPAN)
    asks, seen = first + i < count, (first + j < count + LOOKBACK) & (j < TILE + LOOKBACK)
    q_QW = _rows(q, first + i, asks, model, WIDTH)
    k_SW = _rows(keys, first + j, seen, 2 * model, WIDTH)
    v_SW = _rows(keys + model, first + j, seen, 2 * model, WIDTH)
    distance_QS = LOOKBACK + i[:, None] - j[None, :]
    logits_QS = _logits(q_QW, k_SW, bias + head * (LOOKBACK + 1), distance_QS, LOOKBACK)
    most_Q = tl.max(logits_QS, 1)
    weights_QS = tl.exp(logits_QS - most_Q[:, None])
    total_Q = tl.sum(weights_QS, 1)
    out_QW = tl.dot(weights_QS.to(v_SW.dtype), v_SW) / total_Q[:, None]
    _put(out, out_QW, first + i, asks, model)
    tl.store(lse + first + i, most_Q + tl.log(total_Q), mask=asks)


@triton.jit
def _backward_of_queries(
    grad: tl.tensor,
    q: tl.tensor,
    keys: tl.tensor,
    bias: tl.tensor,
    lse: tl.tensor,
    of_q: tl.tensor,
    first: tl.tensor,
    count: tl.tensor,
    LOOKBACK: tl.constexpr,
    WIDTH: tl.constexpr,
    STEP: tl.constexpr,
    TILE: tl.constexpr,
    SPAN: tl.constexpr,
) -> tl.tensor:
    """Writes the gradient of a tile of queries; returns that of its logits, [Q, S]."""
    i, j = tl.arange(0, TILE), tl.arange(0, SPAN)
    asks, seen = first + i < count, (first + j < count + LOOKBACK) & (j < TILE + LOOKBACK)
    q_QW = _rows(q, first + i, asks, STEP, WIDTH)
    grad_QW = _rows(grad, first + i, asks, STEP, WIDTH)
    k_SW = _rows(keys, first + j, seen, 2 * STEP, WIDTH)
    v_SW = _rows(keys + STEP, first + j, seen, 2 * STEP, WIDTH)
    lse_Q = tl.load(lse + first + i, mask=asks, other=float("inf"))  # nobody's weights are 0
    distance_QS = LOOKBACK + i[:, None] - j[None, :]
    weights_QS = tl.exp(_logits(q_QW, k_SW, bias, distance_QS, LOOKBACK) - lse_Q[:, None])
    of_weights_QS = tl.dot(grad_QW, tl.trans(v_SW))
    mean_Q = tl.sum(weights_QS * of_weights_QS, 1)
    of_logits_QS = weights_QS * (of_weights_QS - mean_Q[:, None])
    of_q_QW = tl.dot(of_logits_QS.to(k_SW.dtype), k_SW) * WIDTH**-0.5
    _put(of_q, of_q_QW, first + i, asks, STEP)
    return of_logits_QS


@triton.jit
def _backward_of_keys(
    grad: tl.tensor,
    q: tl.tensor,
    keys: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    lse: tl.tensor,
    of_keys: tl.tensor,
    first: tl.tensor,
    count: tl.tensor,
    LOOKBACK: tl.constexpr,
    WIDTH: tl.constexpr,
    STEP: tl.constexpr,
    TILE: tl.constexpr,
    SPAN: tl.constexpr,
) -> None:
    """Writes the gradients of a tile of keys and values, of all queries that see them."""
    i, j = tl.arange(0, TILE), tl.arange(0, SPAN)
    query = first - LOOKBACK + j
    there = first + i < count + LOOKBACK
    asks = (query >= 0) & (query < count) & (j < TILE + LOOKBACK)
    k_QW = _rows(keys, first + i, there, 2 * STEP, WIDTH)
    v_QW = _rows(keys + STEP, first + i, there, 2 * STEP, WIDTH)
    q_SW = _rows(q, query, asks, STEP, WIDTH)
    grad_SW = _rows(grad, query, asks, STEP, WIDTH)
    out_SW = _rows(out, query, asks, STEP, WIDTH)
    lse_S = tl.load(lse + query, mask=asks, other=float("inf"))
    distance_QS = j[None, :] - i[:, None]
    weights_QS = tl.exp(_logits(k_QW, q_SW, bias, distance_QS, LOOKBACK) - lse_S[None, :])
    of_v_QW = tl.dot(weights_QS.to(grad_SW.dtype), grad_SW)
    _put(of_keys + STEP, of_v_QW, first + i, there, 2 * STEP)
    mean_S = tl.sum(grad_SW.to(tl.float32) * out_SW.to(tl.float32), 1)
    of_logits_QS = weights_QS * (tl.dot(v_QW, tl.trans(grad_SW)) - mean_S[None, :])
    of_k_QW = tl.dot(of_logits_QS.to(q_SW.dtype), q_SW) * WIDTH**-0.5
    _put(of_keys, of_k_QW, first + i, there, 2 * STEP)


@triton.jit(do_not_specialize=["count"])
def attend_backward(
    grad: tl.tensor,
    q: tl.tensor,
    keys_values: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    lse: tl.tensor,
    of_q: tl.tensor,
    of_keys_values: tl.tensor,
    of_bias: tl.tensor,
    count: tl.tensor,
    LOOKBACK: tl.constexpr,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    TILE: tl.constexpr,
    SPAN: tl.constexpr,
) -> None:
    """One tile of queries, or one of keys and values, of one head.

    Both kinds run in turn, those of the same rows beside each other: what both read comes from
    memory once. One program for both would need twice the registers. Weights are computed by both,
    each time in the order in which a product takes them from registers.

    Args:
        grad: of `out`, half [N, C, D].
        q: half [N, C, D].
        keys_values: half [N, L + C, 2 D].
        bias: float32 [H, L + 1].
        out: what `attend` wrote.
        lse: what `attend` wrote.
        of_q: gradient, like `q`, written.
        of_keys_values: gradient, like `keys_values`, written.
        of_bias: float32 [tiles of all sequences, H, L + 1], written: what a tile of queries adds.
        count: C.
        LOOKBACK: L.
        HEADS: H.
        WIDTH: W.
        TILE: rows of a tile; L + C of them are covered in each sequence, by both kinds.
        SPAN: power of two, at least ``TILE + LOOKBACK``.
    """
    model: tl.constexpr = HEADS * WIDTH
    tiles = tl.cdiv(count + LOOKBACK, TILE)
    program = tl.program_id(0)
    head, item = program // 2 % HEADS, program // 2 // HEADS
    sequence, first = (item // tiles).to(tl.int64), item % tiles * TILE
    grad += sequence * count * model + head * WIDTH
    q += sequence * count * model + head * WIDTH
    keys = keys_values + sequence * (count + LOOKBACK) * 2 * model + head * WIDTH
    bias += head * (LOOKBACK + 1)
    lse += (sequence * HEADS + head) * count
    if program % 2:
        out += sequence * count * model + head * WIDTH
        of_keys = of_keys_values + sequence * (count + LOOKBACK) * 2 * model + head * WIDTH
        _backward_of_keys(
            grad, q, keys, bias, out, lse, of_keys, first, count, LOOKBACK, WIDTH, model, TILE, SPAN
        )
    else:
        of_q += sequence * count * model + head * WIDTH
        of_logits_QS = _backward_of_queries(
            grad, q, keys, bias, lse, of_q, first, count, LOOKBACK, WIDTH, model, TILE, SPAN
        )
        # Column d of a row: what lies d before it. The first columns are whole.
        i, j = tl.arange(0, TILE), tl.arange(0, SPAN)
        column = LOOKBACK + i[:, None] - j[None, :]
        by_distance = tl.gather(of_logits_QS, tl.where(column >= 0, column, 0), 1)
        of_bias += (item.to(tl.int64) * HEADS + head) * (LOOKBACK + 1)
        tl.store(of_bias + j, tl.sum(by_distance, 0), mask=j <= LOOKBACK)
