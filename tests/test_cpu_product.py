"""Products by oneDNN against torch's own, on whatever processor has the library."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from modules import cpu_product
from modules.cpu_product import product, weight_gradient
from modules.feed_forward import FeedForward
from modules.linear import Linear

ROOT = Path(__file__).resolve().parents[1]
WIDE, NARROW, ROWS = 96, 40, 1_100  # more than the least by a few rows
ONEDNN = "mkldnn::_linear_pointwise"

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)


@pytest.fixture(autouse=True)
def wide_amd(monkeypatch):
    """As if this machine were one that it is for."""
    monkeypatch.setattr(cpu_product, "_is_wide_amd", lambda: True)


def calls_of_onednn(work):
    with torch.profiler.profile(acc_events=True) as profile:
        work()
    return sum(event.count for event in profile.key_averages() if event.key == ONEDNN)


def gradients(module, x, towards, lay=lambda x: x):
    x = x.detach().clone().requires_grad_()
    module.zero_grad()
    out = module(lay(x))
    out.backward(towards)
    return [out.detach(), x.grad, *(p.grad.clone() for p in module.parameters())]


def assert_exact(got, module, x, towards, *lay):
    """Against the same in float64, through torch's own products."""
    for one, two in zip(
        got, gradients(module.double(), x.double(), towards.double(), *lay), strict=True
    ):
        assert float((one.double() - two).norm() / two.norm()) < 1e-5


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(NARROW, WIDE), (WIDE, NARROW), (64, 64)])
@pytest.mark.parametrize("batch", [(ROWS,), (11, ROWS // 11), (2, 5, 11, 10)])
def test_a_linear_layer_is_that_of_torch(batch, sizes, bias):
    torch.manual_seed(0)
    layer = Linear(*sizes, bias=bias)
    x, towards = torch.randn(*batch, sizes[0]), torch.randn(*batch, sizes[1])
    assert calls_of_onednn(lambda: gradients(layer, x, towards)) == 3
    assert_exact(gradients(layer, x, towards), layer, x, towards)


def test_a_feed_forward_network_is_that_of_torch():
    torch.manual_seed(0)
    network = FeedForward(NARROW, WIDE)
    for layer in (network[0], network[2]):
        nn.init.normal_(layer.bias)
    x, towards = torch.randn(11, ROWS // 11, NARROW), torch.randn(11, ROWS // 11, NARROW)
    assert calls_of_onednn(lambda: gradients(network, x, towards)) == 6
    assert_exact(gradients(network, x, towards), network, x, towards)


LAYOUTS = {
    "turned": lambda x: x.t(),
    "every other column": lambda x: x[:, ::2],
    "one row again and again": lambda x: x[:1].expand(2_048, -1),
    "rows that overlap": lambda x: x[0].repeat(2)[:2_111].unfold(0, 64, 1),
}


@pytest.mark.parametrize("lay", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("outputs", [40, 64])
def test_rows_and_gradients_may_lie_as_they_like(lay, outputs):
    torch.manual_seed(0)
    x, towards = torch.randn(2_048, 2_048), lay(torch.randn(2_048, 2_048))[:, :outputs]
    layer = Linear(56, outputs)
    layer_56 = [layer, x, towards, lambda x: lay(x)[:, :56]]
    assert calls_of_onednn(lambda: gradients(*layer_56)) == 3
    assert_exact(gradients(*layer_56), *layer_56)
    network = FeedForward(outputs, 56)
    as_wide = [network, x, towards, lambda x: lay(x)[:, :outputs]]
    assert_exact(gradients(*as_wide), *as_wide)


@pytest.mark.parametrize("changed", ["x", "weight"])
def test_what_is_changed_in_place_before_the_way_back_is_an_error(changed):
    layer = Linear(NARROW, WIDE)
    x = torch.randn(ROWS, NARROW, requires_grad=True) * 1
    out = layer(x).sum()
    with torch.no_grad():
        {"x": x, "weight": layer.weight}[changed].zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_the_wide_one_is_never_the_one_to_copy():
    """Of a gradient's two factors the second is taken as it lies."""
    wide, narrow = torch.randn(ROWS, WIDE), torch.randn(ROWS, NARROW)
    assert weight_gradient(wide, narrow).stride() == (1, WIDE)
    assert weight_gradient(narrow, wide).stride() == (WIDE, 1)


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (Linear(NARROW, WIDE), (ROWS, NARROW + 1), "shapes cannot be multiplied"),
        (Linear(NARROW, WIDE).double(), (ROWS, NARROW), "same dtype"),
        (Linear(NARROW, WIDE, device="meta"), (ROWS, NARROW), "meta"),
    ],
)
def test_what_does_not_fit_is_torch_s_own_error(layer, shape, words):
    with pytest.raises((RuntimeError, ValueError), match=words):
        layer(torch.randn(shape))


@pytest.mark.parametrize("trained", range(3))
def test_a_gradient_that_nobody_wants_is_not_computed(trained):
    layer, x = Linear(NARROW, WIDE), torch.randn(ROWS, NARROW)
    tensors = [x, layer.weight, layer.bias]
    for i, tensor in enumerate(tensors):
        tensor.requires_grad_(i == trained)
    out = layer(x)
    assert calls_of_onednn(out.sum().backward) == (trained < 2)
    assert [tensor.grad is not None for tensor in tensors] == [i == trained for i in range(3)]


def test_a_part_of_a_matrix_is_no_weight_for_onednn():
    x, wide = torch.randn(ROWS, NARROW), torch.randn(NARROW, 2 * WIDE)
    for weight, calls in ((wide[:, :WIDE].t(), 0), (wide[:, :WIDE].contiguous().t(), 1)):
        assert calls_of_onednn(lambda weight=weight: product(x, weight)) == calls
        torch.testing.assert_close(product(x, weight), x @ weight.t(), atol=1e-4, rtol=1e-4)


def test_what_is_no_number_stays_none():
    network = FeedForward(NARROW, WIDE)
    x = torch.randn(ROWS, NARROW)
    x[7, 3] = torch.nan
    assert network(x).isnan().all(1).tolist() == [row == 7 for row in range(ROWS)]


@pytest.mark.filterwarnings("ignore:TF32:UserWarning")  # of torch, about other GPUs
def test_few_rows_other_dtypes_and_autocast_are_torch_s_own():
    layer, x = Linear(NARROW, WIDE), torch.randn(ROWS, NARROW)
    assert calls_of_onednn(lambda: layer(x)) == 1
    assert calls_of_onednn(lambda: layer(x[:1_000])) == 0
    assert calls_of_onednn(lambda: Linear(NARROW, NARROW)(x)) == 0
    assert calls_of_onednn(lambda: Linear(NARROW, WIDE).double()(x.double())) == 0
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with torch.backends.mkldnn.flags(enabled=False):
        assert calls_of_onednn(lambda: layer(x)) == 0


def test_a_compiler_and_an_exporter_see_layers_of_torch():
    layer, x = Linear(NARROW, WIDE), torch.randn(ROWS, NARROW)
    graph = torch.export.export(layer, (x,)).graph
    assert not any("mkldnn" in str(node.target) for node in graph.nodes)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))


def test_there_is_no_second_derivative():
    """An error, instead of none where there is one."""
    layer, x = Linear(NARROW, WIDE), torch.randn(ROWS, NARROW, requires_grad=True)
    (of_x,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        of_x.square().sum().backward()


WITHOUT = """
import torch
from torch._ops import _OpNamespace

found = _OpNamespace.__getattr__
def hidden(self, name):
    if self.name == "mkldnn":
        raise AttributeError(name)
    return found(self, name)

_OpNamespace.__getattr__ = hidden
vars(torch.ops.mkldnn).pop("_linear_pointwise", None)
torch.backends.mkldnn.is_available = lambda: False
torch.backends.cpu.get_cpu_capability = lambda: "AVX512"
torch.cpu.get_capabilities = lambda: {"cpu_name": "AMD"}

from modules.linear import Linear
import pipelines.operations

print(Linear(64, 64)(torch.ones(2_048, 64)).shape)
"""


def test_a_torch_without_onednn_multiplies_all_the_same():
    told = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert told.stdout == "torch.Size([2048, 64])\n", told.stderr


@pytest.mark.parametrize(
    ("name", "vectors", "expected"),
    [
        ("AMD EPYC 9655", "AVX512", True),
        ("AMD Ryzen 9 5950X", "AVX2", False),
        ("Intel(R) Xeon(R) Platinum 8480C", "AVX512", False),
        (None, "DEFAULT", False),
    ],
)
def test_it_is_for_an_amd_with_wide_vectors(name, vectors, expected, monkeypatch):
    monkeypatch.undo()
    told = {} if name is None else {"cpu_name": name}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    assert cpu_product._is_wide_amd.__wrapped__() is expected
