"""The feed-forward network, whose CPU path has a gradient of its own, against plain layers."""

import copy

import pytest
import torch
from torch import nn

from modules.feed_forward import FeedForward, linear_relu

WIDTH, HIDDEN = 6, 17


def make(dtype=torch.float64):
    torch.manual_seed(0)
    ours = FeedForward(WIDTH, HIDDEN).to(dtype)
    for layer in (ours[0], ours[2]):
        nn.init.normal_(layer.bias)
    return ours


def plain(ours):
    """The same layers, as torch runs them."""
    return nn.Sequential(*copy.deepcopy(ours))


def gradients(network, tokens, towards):
    tokens = tokens.clone().requires_grad_()
    out = network(tokens)
    (out * towards).sum().backward()
    return [out.detach(), tokens.grad, *(p.grad for p in network.parameters())]


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 1), (4, 0)])
def test_values_and_gradients_are_those_of_plain_layers(shape):
    ours = make()
    tokens, towards = torch.randn(2, *shape, WIDTH, dtype=torch.float64)
    for one, two in zip(
        gradients(ours, tokens, towards), gradients(plain(ours), tokens, towards), strict=True
    ):
        torch.testing.assert_close(one, two, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_rectified_product_is_a_product_and_then_rectified(dtype, device):
    """What a GPU does in one kernel, with a gradient of its own."""
    torch.manual_seed(0)
    tensors = [torch.randn(*shape) for shape in ((50, WIDTH), (HIDDEN, WIDTH), (HIDDEN,))]
    tensors = [tensor.to(device, dtype) for tensor in tensors]
    towards = torch.randn(50, HIDDEN).to(device, dtype)
    results = []
    for function in (linear_relu, lambda *x: nn.functional.linear(*x).relu()):
        x, weight, bias = (tensor.clone().requires_grad_() for tensor in tensors)
        out = function(x, weight, bias)
        out.backward(towards)
        results.append([out.detach(), x.grad, weight.grad, bias.grad])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(
            one, two, atol=0.05 if dtype == torch.bfloat16 else 1e-5, rtol=0.02
        )
    assert (results[0][0] == 0).any()


def test_a_rectified_product_can_be_compiled():
    x, weight, bias = torch.randn(5, WIDTH), torch.randn(HIDDEN, WIDTH), torch.randn(HIDDEN)
    torch.library.opcheck(linear_relu, (x, weight.requires_grad_(), bias))


def test_the_gradient_is_that_of_the_values():
    ours = make()
    tokens = torch.randn(4, WIDTH, dtype=torch.float64, requires_grad=True)
    weights = [p.detach().clone().requires_grad_() for p in ours.parameters()]
    names = [name for name, _ in ours.named_parameters()]

    def run(x, *values):
        return torch.func.functional_call(ours, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (tokens, *weights))


def test_tokens_that_lie_otherwise_in_memory_are_the_same_tokens():
    ours, tokens = make(), torch.randn(3, WIDTH, 4, dtype=torch.float64).mT
    assert torch.equal(ours(tokens), ours(tokens.contiguous()))


def test_a_rollout_sees_the_bits_of_the_update():
    ours, tokens = make(torch.float32), torch.randn(9, 5, WIDTH)
    with torch.no_grad():
        seen = ours(tokens)
    assert torch.equal(seen, ours(tokens).detach())


def test_mixed_precision_is_torch_s():
    ours, tokens = make(torch.float32), torch.randn(9, WIDTH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        one, two = ours(tokens), plain(ours)(tokens)
    assert one.dtype == torch.bfloat16
    assert torch.equal(one, two)


def test_a_frozen_layer_gets_no_gradient_and_the_rest_does():
    ours = make()
    ours[0].requires_grad_(False)
    ours(torch.randn(3, WIDTH, dtype=torch.float64)).sum().backward()
    assert ours[0].weight.grad is None
    assert ours[2].weight.grad is not None
