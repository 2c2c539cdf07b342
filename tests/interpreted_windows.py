"""The kernels of window attention on a CPU, with TRITON_INTERPRET=1, as a program of its own.

Prints, for every case, how far they are from torch's attention, as JSON. In half precision of the
older kind: Triton's interpreter cannot multiply bfloat16.
"""

import json
import math
import sys

import torch

from modules.attention import attend
from modules.window_attention import (
    launch_backward,
    launch_forward,
    mix_window,
    window_attention,
)

# Windows, tokens, heads, width of a head.
CASES = [
    (1, 1, 1, 16),
    (3, 5, 2, 16),
    (2, 16, 3, 32),
    (2, 17, 2, 16),
    (1, 33, 2, 64),
    (2, 63, 2, 32),
    (3, 64, 2, 64),
    (1, 65, 1, 64),
    (3, 65, 2, 32),
    (2, 65, 2, 64),
    (2, 66, 1, 16),
    (2, 80, 3, 16),
    (2, 128, 2, 32),
    (0, 65, 2, 32),
]
# By how much queries and keys are moved so that a weight of a logit of zero would overflow.
_FAR = 60.0
_AROUND = 4_096  # numbers before and after a tensor: more than a tile reaches too far


def poisoned(shape, dtype, values=None):
    """A tensor in the midst of memory that is NaN, as itself is without values; and that memory."""
    size = math.prod(shape)
    memory = torch.full((size + 2 * _AROUND,), torch.nan, dtype=dtype)
    tensor = memory[_AROUND : _AROUND + size].view(shape)
    if values is not None:
        tensor.copy_(values)
    return tensor, memory


def untouched(memory):
    return bool(memory[:_AROUND].isnan().all() and memory[-_AROUND:].isnan().all())


def distance(ours, theirs):
    """Relative; NaN if any number is."""
    theirs = theirs.detach()
    return float((ours.double() - theirs).norm() / theirs.norm().clamp(min=1e-3))


def draw(batch, tokens, heads, width, lowered=0.0):
    """Queries, keys and values; every key is moved against every query, lowering all logits."""
    qkv = 1.5 * torch.randn(batch, tokens, 3, heads, width)
    qkv[:, :, 0, :, 0] += lowered
    qkv[:, :, 1, :, 0] -= lowered
    return qkv.flatten(-3)


def compare(case, lowered=0.0):
    """Distances of values and gradients, and whether what lies around was left alone."""
    batch, tokens, heads, width = case
    scale = 0.7 * width**-0.5  # of narrower heads that were filled up
    half = torch.float16
    shape, inner = (batch, tokens, 3 * heads * width), (batch, tokens, heads * width)
    qkv, _ = poisoned(shape, half, draw(*case, lowered))
    towards, _ = poisoned(inner, half, torch.randn(inner))

    exact = qkv.double().requires_grad_()
    out = attend(*exact.chunk(3, -1), heads, scale=scale)
    out.backward(towards.double())

    ours, of_ours = poisoned(inner, half)
    sums, of_sums = poisoned((batch, heads, tokens), torch.float32)
    grad, of_grad = poisoned(shape, half)
    launch_forward(qkv, ours, sums, scale)
    launch_backward(qkv, ours, sums, towards, grad, scale)

    whole = qkv.clone().requires_grad_()
    again = window_attention(whole, heads, scale)
    again.backward(towards)
    same = torch.equal(again, ours) and torch.equal(whole.grad, grad)
    alone = all(untouched(memory) for memory in (of_ours, of_sums, of_grad))
    return [distance(ours, out), distance(grad, exact.grad), alone, same]


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    results = [[compare(case), compare(case, _FAR)] for case in CASES]
    small = torch.randn(2, 17, 3 * 2 * 16).half().requires_grad_()
    torch.library.opcheck(mix_window, (small, 2, 0.3))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
