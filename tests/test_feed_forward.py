"""The feed-forward network, whose CPU path has a gradient of its own, against plain layers."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from modules.feed_forward import FeedForward, feed_forward, relu_gradient

ROOT = Path(__file__).resolve().parents[1]
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


def weights(width, hidden, rows=50):
    """Tokens, and what the two layers have: float32."""
    torch.manual_seed(0)
    sizes = ((rows, width), (hidden, width), (hidden,), (width, hidden), (width,))
    return [torch.randn(*size) / size[-1] ** 0.5 for size in sizes]


def plain_layers(x, widen, bias, narrow, narrow_bias):
    hidden = nn.functional.linear(x, widen, bias).relu()
    return nn.functional.linear(hidden, narrow, narrow_bias)


def results_of(function, tensors, towards):
    tensors = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    out = function(*tensors)
    out.backward(towards)
    return [out.detach(), *(tensor.grad for tensor in tensors)]


def miss(one, two):
    """The distance, as a share of the second."""
    return float((one.double().cpu() - two.double().cpu()).norm() / two.double().cpu().norm())


@pytest.mark.parametrize("sizes", [(8, 24, 50), (320, 1280, 300), (304, 1536, 129), (64, 128, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_gpu_does_in_one_operation_is_what_layers_do(dtype, sizes, device):
    tensors = [tensor.to(device, dtype) for tensor in weights(*sizes)]
    towards = torch.randn(sizes[2], sizes[0]).to(device, dtype)
    got = results_of(lambda *x: feed_forward(*x)[0], tensors, towards)
    for one, two in zip(got, results_of(plain_layers, tensors, towards), strict=True):
        assert miss(one, two) < (0.02 if dtype == torch.bfloat16 else 1e-3)


def test_what_a_gpu_does_can_be_compiled():
    tensors = weights(8, 24)
    torch.library.opcheck(feed_forward, [t.requires_grad_() for t in tensors])
    compiled = torch.compile(lambda *x: feed_forward(*x)[0] * 2, backend="aot_eager")
    towards = torch.ones(50, 8)
    for one, two in zip(
        results_of(compiled, tensors, towards),
        results_of(lambda *x: feed_forward(*x)[0] * 2, tensors, towards),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


def test_what_was_cut_off_says_nothing():
    grad, narrow = torch.ones(3, 2), torch.ones(2, 4)
    hidden = torch.tensor([[0.0, 1.0, 0.0, 2.0]] * 3)
    of_hidden, of_bias = relu_gradient(grad, narrow, hidden)
    assert torch.equal(of_hidden, 2.0 * (hidden > 0))
    assert of_bias.tolist() == [0.0, 6.0, 0.0, 6.0]


@pytest.mark.parametrize("of", range(5))
def test_there_is_no_second_derivative(of):
    """An error, instead of one that lacks what goes through the hidden tokens."""
    tensors = [tensor.requires_grad_() for tensor in weights(8, 24)]
    out = feed_forward(*tensors)[0]
    (gradient,) = torch.autograd.grad(out.square().sum(), tensors[of], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("frozen", range(5))
def test_a_frozen_layer_gets_no_gradient_and_the_others_theirs(frozen):
    tensors = weights(8, 24)
    results = []
    for function in (lambda *x: feed_forward(*x)[0], plain_layers):
        leaves = [tensor.clone().requires_grad_(i != frozen) for i, tensor in enumerate(tensors)]
        function(*leaves).square().sum().backward()
        results.append([leaf.grad for leaf in leaves])
    assert results[0][frozen] is None
    torch.testing.assert_close(*([x for x in r if x is not None] for r in results))


INTERPRETED = """
import torch
from unittest import mock
from modules import feed_forward
from modules.relu_kernel import launch

def beside_nothing(tensor):  # what lies behind it is no number
    memory = torch.full((tensor.numel() + 100_000,), torch.nan)
    memory[: tensor.numel()] = tensor.flatten()
    return memory[: tensor.numel()].view(tensor.shape)

for rows, width, hidden in ((1, 8, 16), (128, 64, 128), (130, 24, 200), (257, 72, 136)):
    torch.manual_seed(rows)
    grad, narrow = torch.randn(rows, width), torch.randn(width, hidden)
    tokens = torch.randn(rows, hidden).relu()
    got, sums = launch(*map(beside_nothing, (grad, narrow, tokens)))
    expected = (grad @ narrow) * (tokens > 0)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sums, expected.sum(0), atol=1e-3, rtol=1e-4)

# A hidden token that is no number is cut off as torch cuts it off, whatever lies beside what.
grad, narrow, tokens = torch.randn(8, 3).t(), torch.randn(16, 8).t(), torch.randn(16, 3).relu().t()
tokens[0, 0] = torch.nan
expected = torch.ops.aten.threshold_backward(grad @ narrow, tokens, 0)
with mock.patch.object(feed_forward, "has_kernels", return_value=True):
    got, sums = feed_forward.relu_gradient(grad, narrow, tokens)
torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
torch.testing.assert_close(sums, expected.sum(0), atol=1e-3, rtol=1e-4)
"""


def test_the_kernel_of_a_gpu_computes_it():
    """Without a GPU: Triton runs its kernels in NumPy too, where it is installed."""
    pytest.importorskip("triton")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, check=True, timeout=300)


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
