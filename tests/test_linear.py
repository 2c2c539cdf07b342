"""Linear layers and attention at the widths that a GPU likes: the same numbers."""

import pytest
import torch
from torch import nn

from modules.attention import QueryAttention, SelfAttention, _look, _look_aligned
from modules.feed_forward import _on_gpu
from modules.linear import Linear, aligned, aligned_linear, fill_up
from modules.window_attention import filled_head


@pytest.mark.parametrize("size", range(1, 40))
def test_an_aligned_size_is_the_next_multiple_of_eight(size):
    assert aligned(size) % 8 == 0
    assert size <= aligned(size) < size + 8


def test_zeros_come_last_in_every_dimension():
    tensor = torch.ones(2, 3)
    assert fill_up(tensor, 2, 3) is tensor
    filled = fill_up(tensor, 4, 5)
    assert filled.shape == (4, 5)
    assert torch.equal(filled[:2, :3], tensor)
    assert filled.sum() == tensor.sum()
    assert fill_up(tensor, 5).shape == (2, 5)


def gradients(function, *tensors):
    tensors = [tensor.clone().requires_grad_() for tensor in tensors]
    out = function(*tensors)
    torch.manual_seed(1)
    out.backward(torch.randn_like(out))
    return [out.detach(), *(tensor.grad for tensor in tensors)]


def assert_close(one, two):
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("narrow", "wide"), [(5, 9), (8, 16), (17, 24), (300, 7)])
def test_a_product_at_aligned_widths_is_the_product(narrow, wide):
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(*s).double() for s in ((2, 3, narrow), (wide, narrow), (wide,)))
    assert_close(
        gradients(aligned_linear, x, weight, bias), gradients(nn.functional.linear, x, weight, bias)
    )
    assert aligned_linear(x, weight, None).shape == (2, 3, wide)


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_attention_with_wider_heads_is_the_attention(heads):
    torch.manual_seed(0)
    attention = SelfAttention(30, heads).double()
    nn.init.normal_(attention.qkv.bias)
    x = torch.randn(3, 4, 30).double()
    results = []
    for run in (attention, lambda x: attention._with_heads_of(filled_head(30 // heads), x)):
        attention.zero_grad()
        results.append(gradients(run, x) + [p.grad.clone() for p in attention.parameters()])
    assert_close(*results)


@pytest.mark.parametrize(("width", "hidden"), [(5, 9), (16, 8)])
def test_a_feed_forward_network_at_aligned_widths_is_that_of_plain_layers(width, hidden):
    torch.manual_seed(0)
    sizes = ((7, width), (hidden, width), (hidden,), (width, hidden), (width,))
    tensors = [torch.randn(*size).double() for size in sizes]

    def plain(x, widen, bias, *narrow):
        return nn.functional.linear(nn.functional.linear(x, widen, bias).relu(), *narrow)

    assert_close(gradients(_on_gpu, *tensors), gradients(plain, *tensors))


@pytest.mark.parametrize("heads", [1, 5, 8, 12])
def test_a_look_at_aligned_widths_is_the_look(heads):
    torch.manual_seed(0)
    sought, tokens = torch.randn(3, heads, 6).double(), torch.randn(3, 9, 6).double()
    assert_close(gradients(_look_aligned, sought, tokens), gradients(_look, sought, tokens))


def test_layers_on_every_device_are_those_of_a_cpu(device):
    torch.manual_seed(0)
    for module in (Linear(17, 30), SelfAttention(30, 2), QueryAttention(30, 2)):
        x = torch.randn(4, 5, module.in_features if isinstance(module, Linear) else 30)
        given = [x[:, :1], x] if isinstance(module, QueryAttention) else [x]
        here = module(*given)
        there = module.to(device)(*(tensor.to(device) for tensor in given))
        torch.testing.assert_close(there.cpu(), here, atol=1e-3, rtol=1e-3)
