"""Which tensors the kernels of our own run for, said without a GPU: of fake tensors, compiled."""

from functools import partial

import pytest
import torch
from torch._dynamo.testing import EagerAndRecordGraphs
from torch._subclasses.fake_tensor import FakeTensorMode

from modules import kernels, local_attention, window_attention
from modules.attention import SelfAttention
from modules.config import ModelConfig
from modules.streaming import LocalAttention

TURING, AMPERE, HOPPER = (7, 5), (8, 0), (9, 0)
OPERATIONS = "pricetaker.mix_window", "pricetaker.local_attention", "scaled_dot_product_attention"
WINDOWS, STREAM, TORCH_S = ({name} for name in OPERATIONS)


@pytest.fixture
def say(monkeypatch):
    """Pretend that there is a GPU of some capability, and Triton or not."""

    def pretend(capability, *, triton=True):
        monkeypatch.setattr(kernels, "_HAS_TRITON", triton)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)

    return pretend


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("capability", [TURING, AMPERE, HOPPER])
def test_half_precision_on_a_gpu_that_multiplies_it(capability, dtype, say):
    say(capability)
    with FakeTensorMode():
        tensor = torch.empty(2, device="cuda", dtype=dtype)
    half = dtype in (torch.bfloat16, torch.float16)
    assert kernels.has_kernels(tensor) == (half and capability >= AMPERE)


@pytest.mark.parametrize(("device", "triton"), [("cpu", True), ("cuda", False)])
def test_none_on_a_cpu_or_without_triton(device, triton, say):
    say(HOPPER, triton=triton)
    with FakeTensorMode():
        assert not kernels.has_kernels(torch.empty(2, device=device, dtype=torch.bfloat16))


@pytest.mark.parametrize("capability", [TURING, HOPPER])
def test_a_compiler_takes_the_capability_for_a_constant(capability, say):
    say(capability)
    torch.compiler.reset()
    run = torch.compile(
        lambda x: x + kernels._multiplies(0), fullgraph=True, dynamic=False, backend="eager"
    )
    assert run(torch.zeros(1)) == (capability == HOPPER)


@pytest.fixture
def compiled(monkeypatch):
    """The attention of a module in half precision, compiled to one graph, with kernels or not."""

    def operations(make, *shapes, has_kernels):
        for module in (window_attention, local_attention):
            monkeypatch.setattr(module, "has_kernels", lambda _: has_kernels)
        torch.compiler.reset()
        recorded = EagerAndRecordGraphs()
        with FakeTensorMode(), torch.no_grad():
            module = torch.compile(make(), fullgraph=True, dynamic=False, backend=recorded)
            inputs = [torch.empty(shape) for shape in shapes]
            assert module(*inputs).shape == inputs[0].shape
        (graph,) = recorded.graphs
        targets = " ".join(str(node.target) for node in graph.graph.nodes)
        return {name for name in OPERATIONS if name in targets}

    return operations


@pytest.mark.parametrize(("has_kernels", "expected"), [(True, WINDOWS), (False, TORCH_S)])
def test_windows_are_a_kernel_s_where_there_are_any(has_kernels, expected, compiled):
    for tokens in (1, 64, 65, 128):
        made = compiled(lambda: SelfAttention(64, 2), (3, tokens, 64), has_kernels=has_kernels)
        assert made == expected


@pytest.mark.parametrize(("has_kernels", "expected"), [(True, STREAM), (False, TORCH_S)])
def test_a_stream_is_a_kernel_s_where_there_are_any(has_kernels, expected, compiled):
    for lookback, count in ((0, 1), (8, 40), (64, 240)):
        made = compiled(
            partial(LocalAttention, 64, 2, lookback),
            (3, count, 64),
            (3, lookback + count, 128),
            has_kernels=has_kernels,
        )
        assert made == expected


@pytest.mark.parametrize(
    "case",
    [
        (lambda: SelfAttention(64, 1), (3, 129, 64)),
        (lambda: SelfAttention(48, 2), (3, 65, 48)),
        (lambda: SelfAttention(64, 8), (3, 65, 64)),
        (lambda: LocalAttention(64, 2, 65), (3, 40, 64), (3, 105, 128)),
        (lambda: LocalAttention(64, 8, 8), (3, 40, 64), (3, 48, 128)),
        (lambda: LocalAttention(256, 2, 8), (3, 40, 256), (3, 48, 512)),
        (lambda: LocalAttention(32, 2, 8), (1, 2**26, 32), (1, 2**26 + 8, 64)),
    ],
    ids=[
        *("129 tokens", "heads of 24", "heads of 8"),
        *("a lookback of 65", "a stream's heads of 8", "a stream's heads of 128"),
        "offsets of more than 32 bits",
    ],
)
def test_what_the_kernels_are_not_made_for_is_torch_s(case, compiled):
    assert compiled(*case, has_kernels=True) == TORCH_S


def test_the_default_network_and_the_aligned_one_have_the_kernel(monkeypatch):
    monkeypatch.setattr(window_attention, "has_kernels", lambda _: True)
    for cfg in (ModelConfig(), ModelConfig(d_model=320, num_heads=5)):
        width = window_attention.filled_head(cfg.d_model // cfg.num_heads)
        qkv = torch.empty(1, 65, 3 * cfg.num_heads * width)
        assert window_attention.fits(qkv, cfg.num_heads)
