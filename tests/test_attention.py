"""Attention against torch's own, which projects and masks the same way."""

import pytest
import torch
from torch import nn

from modules.attention import QueryAttention, SelfAttention, attend

BATCH, TOKENS, WIDTH, HEADS = 3, 7, 12, 4


def reference(qkv_weight, qkv_bias, out):
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": qkv_weight,
            "in_proj_bias": qkv_bias,
            "out_proj.weight": out.weight,
            "out_proj.bias": out.bias,
        }
    )
    return theirs


def random_biases(module):
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.normal_(layer.bias)


def test_self_attention_equals_torch_s():
    torch.manual_seed(0)
    ours = SelfAttention(WIDTH, HEADS)
    random_biases(ours)
    theirs = reference(ours.qkv.weight, ours.qkv.bias, ours.out)
    x = torch.randn(BATCH, TOKENS, WIDTH)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0], atol=1e-6, rtol=1e-5)


def test_query_attention_equals_torch_s():
    torch.manual_seed(0)
    ours = QueryAttention(WIDTH, HEADS)
    random_biases(ours)
    theirs = reference(
        torch.cat([ours.q.weight, ours.k.weight, ours.v.weight]),
        # Theirs has a bias of the keys, which changes nothing.
        torch.cat([ours.q.bias, torch.randn(WIDTH), ours.v.bias]),
        ours.out,
    )
    query, tokens = torch.randn(BATCH, 1, WIDTH), torch.randn(BATCH, TOKENS, WIDTH)
    torch.testing.assert_close(
        ours(query, tokens), theirs(query, tokens, tokens)[0], atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_attention_takes_any_batch(batch):
    q = torch.randn(*batch, 1, WIDTH)
    k, v = torch.randn(2, *batch, TOKENS, WIDTH)
    mixed = attend(q, k, v, HEADS)
    assert mixed.shape == (*batch, 1, WIDTH)
    width = WIDTH // HEADS
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        weights = (q[..., part] @ k[..., part].mT / width**0.5).softmax(-1)
        torch.testing.assert_close(mixed[..., part], weights @ v[..., part])


def test_splitting_the_heads_copies_nothing():
    x = torch.randn(BATCH, TOKENS, 3 * WIDTH)
    q, k, v = x.chunk(3, -1)
    # The result's heads lie next to each other in memory, so that joining them is a view.
    mixed = attend(q, k, v, HEADS)
    assert mixed._base is not None
    assert mixed.is_contiguous()
