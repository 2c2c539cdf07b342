"""Program: the kernels of `modules.local_attention`, interpreted on a CPU, against torch's own.

A process of its own, in which Triton has been told to interpret before anything imports it. For
each name of a case on the command line it writes a line of JSON: how far the output and each
gradient are from those of :class:`modules.streaming.LocalAttention` without the kernels, as the
norm of the difference over the norm.
"""

import json
import os
import sys
import warnings
from unittest import mock

import torch

# Sequences, queries, lookback, heads, width of a head, and what is added to every bias.
CASES = {
    "one query of one": (1, 1, 0, 1, 16),
    "a step": (5, 1, 8, 2, 32),
    "a step of the context": (3, 1, 31, 2, 32),
    "a tile": (2, 16, 8, 2, 32),
    "a tile and one": (2, 17, 8, 2, 32),
    "tiles less one": (2, 63, 8, 2, 16),
    "the encoder's": (2, 70, 8, 2, 32),
    "the context's": (2, 70, 31, 2, 32),
    "wide heads": (2, 33, 31, 1, 64),
    "wide heads, short": (2, 20, 8, 1, 64),
    "three heads": (2, 21, 17, 3, 16),
    "no lookback": (2, 40, 0, 2, 16),
    "a lookback of a tile": (2, 40, 16, 2, 16),
    "the next tile": (2, 40, 32, 1, 16),
    "the longest": (1, 130, 64, 1, 16),
    "many": (60, 3, 5, 2, 16),
    "none": (0, 3, 5, 2, 16),
    "a bias beyond exp": (2, 17, 8, 2, 16, 100.0),
}
NAMES = ("output", "queries", "keys_values", "bias")


def run(dtype, fused, sequences, count, lookback, heads, width, added=0.0):
    """Output and gradients of the attention without its layers."""
    from modules import streaming

    torch.manual_seed(0)
    attention = streaming.LocalAttention(heads * width, heads, lookback)
    attention.q = attention.out = torch.nn.Identity()
    torch.nn.init.normal_(attention.bias, mean=added)
    batch = (1, sequences) if sequences % 2 else (sequences,)
    queries = torch.randn(*batch, count, heads * width)
    keys_values = torch.randn(*batch, lookback + count, 2 * heads * width)
    towards = torch.randn_like(queries).to(dtype)
    # Other strides than those of a batch of rows.
    leaves = [x.to(dtype).mT.contiguous().mT.requires_grad_() for x in (queries, keys_values)]
    with mock.patch.object(streaming, "is_fused", return_value=fused):
        out = attention(*(leaf if fused else leaf.float() for leaf in leaves))
    out.backward(towards.to(out.dtype))
    # What no query has been asked of has no gradient in torch.
    leaves.append(attention.bias)
    gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]
    return [part.detach().float() for part in (out, *gradients)]


def distance(one, two):
    """Of a tensor from another, in parts of the other."""
    return float((one - two).norm() / two.norm().clamp_min(1e-6))


def compare(dtype, case):
    """How far each result is from torch's own."""
    results = (run(dtype, fused, *case) for fused in (True, False))
    both = list(zip(*results, strict=True))
    assert all(one.shape == two.shape and one.isfinite().all() for one, two in both)
    return dict(zip(NAMES, (distance(*pair) for pair in both), strict=True))


def check_operations():
    """Torch's own checks of an operation: schema, fake tensors, autograd, and what AOT makes."""
    from modules.local_attention import attend

    tensors = [torch.randn(2, 5, 32), torch.randn(2, 8, 64), torch.randn(2, 4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.library.opcheck(attend, (*(x.requires_grad_() for x in tensors), 2))


if __name__ == "__main__":
    assert os.environ["TRITON_INTERPRET"] == "1"
    torch.set_num_threads(1)
    dtype = getattr(torch, sys.argv[1])
    for name in sys.argv[2:]:
        if name == "operations":
            check_operations()
            print(json.dumps({}))
        else:
            print(json.dumps(compare(dtype, CASES[name])), flush=True)
