"""Linear layers and attention at the widths that a GPU likes: the same numbers."""

import pytest
import torch
from torch import nn

from modules.attention import SelfAttention
from modules.feed_forward import _widen
from modules.linear import Linear, aligned, aligned_linear, fill_up


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
    for run in (attention, lambda x: attention._with_heads_of(aligned(30 // heads), x)):
        attention.zero_grad()
        results.append(gradients(run, x) + [p.grad.clone() for p in attention.parameters()])
    assert_close(*results)


@pytest.mark.parametrize(("narrow", "hidden"), [(5, 9), (16, 8)])
def test_a_widened_and_rectified_token_is_that_of_plain_layers(narrow, hidden):
    torch.manual_seed(0)
    sizes = ((7, narrow), (hidden, narrow), (hidden,))
    tensors = [torch.randn(*size).double() for size in sizes]

    def plain(*x):
        return nn.functional.linear(*x).relu()

    assert_close(gradients(_widen, *tensors), gradients(plain, *tensors))


def test_layers_on_every_device_are_those_of_a_cpu(device):
    torch.manual_seed(0)
    for module in (Linear(17, 30), SelfAttention(30, 2)):
        x = torch.randn(4, 5, module.in_features if isinstance(module, Linear) else 30)
        here = module(x)
        there = module.to(device)(x.to(device))
        torch.testing.assert_close(there.cpu(), here, atol=1e-3, rtol=1e-3)
