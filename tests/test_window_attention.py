"""The kernels of window attention against torch's attention."""

import copy
import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from interpreted_windows import CASES
from modules import window_attention as windows
from modules.attention import SelfAttention, attend

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def interpreted():
    """What `interpreted_windows.py` says of each case; a process is interpreted wholly or not."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/interpreted_windows.py")],
        env={**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1"},
        stdout=subprocess.PIPE, check=True, text=True,
    )  # fmt: skip
    return dict(zip(CASES, json.loads(done.stdout), strict=True))


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_interpreted_kernels_are_torch_s_attention(case):
    """In memory that is NaN all around, of which they read and write nothing."""
    near, far = interpreted()[case]
    for (of_values, of_gradients, alone, same), least in ((near, 1e-3), (far, 5e-3)):
        assert of_values < least
        assert of_gradients < least
        assert alone
        assert same


def test_a_tile_holds_a_window():
    for tokens in range(1, 129):
        block, more = windows.tile(tokens)
        assert block in (16, 32, 64, 128)
        assert block // 2 < max(tokens - more, 9) <= block
        assert not more or block == tokens - 1


def test_a_cpu_does_without():
    assert not windows.fits(torch.empty(2, 65, 3 * 64, dtype=torch.bfloat16), 1)


def relative(ours, theirs):
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def gradients(run, module, x, towards):
    x = x.clone().requires_grad_()
    out = run(x)
    out.backward(towards.to(out.dtype))
    named = {name: p.grad for name, p in module.named_parameters()}
    return {"out": out.detach(), "x": x.grad, **named}


def make(width, heads, tokens, device):
    torch.manual_seed(0)
    module = SelfAttention(width, heads).to(device)
    nn.init.normal_(module.qkv.bias)
    return module, *torch.randn(2, 37, tokens, width, device=device)


def on_gpu(test):
    missing = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    return pytest.mark.gpu(missing(test))


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that were started."""
    names, launch = [], windows._launch

    def note(name, *args):
        names.append(name)
        launch(name, *args)

    monkeypatch.setattr(windows, "_launch", note)
    return names


@on_gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("width", "heads", "tokens"),
    [
        (320, 5, 65),
        (320, 5, 64),
        (300, 6, 65),
        (300, 12, 65),
        (300, 12, 64),
        (64, 4, 9),
        (64, 2, 33),
        (64, 1, 100),
        (64, 1, 128),
    ],
)
def test_mixed_precision_is_near_full_precision(width, heads, tokens, compiled, launched):
    module, x, towards = make(width, heads, tokens, "cuda")
    full = copy.deepcopy(module)
    theirs = gradients(full, full, x, towards)
    assert launched == []
    run = torch.compile(module) if compiled else module
    with torch.autocast("cuda", dtype=torch.bfloat16):
        ours = gradients(run, module, x, towards)
    assert launched == ["forward", "backward"]
    for name, value in theirs.items():
        assert relative(ours[name], value) < 2e-2, name


@on_gpu
def test_long_windows_and_odd_heads_are_torch_s(launched):
    for width, heads, tokens in ((64, 1, 129), (48, 2, 65), (16, 2, 65)):
        module, x, towards = make(width, heads, tokens, "cuda")
        with torch.autocast("cuda", dtype=torch.bfloat16):
            gradients(module, module, x, towards)
    assert launched == []


@on_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES[:-1], ids=str)
def test_compiled_kernels_are_torch_s_attention(case, dtype):
    batch, tokens, heads, width = case
    torch.manual_seed(0)
    qkv = torch.randn(batch, tokens, 3 * heads * width, device="cuda", dtype=dtype)
    towards = torch.randn(batch, tokens, heads * width, device="cuda", dtype=dtype)
    half, exact = qkv.clone().requires_grad_(), qkv.double().requires_grad_()
    assert windows.fits(half, heads)
    ours = windows.window_attention(half, heads, 0.1)
    theirs = attend(*exact.chunk(3, -1), heads, scale=0.1)
    ours.backward(towards)
    theirs.backward(towards.double())
    assert relative(ours, theirs) < 1e-2
    assert relative(half.grad, exact.grad) < 1e-2


@on_gpu
def test_no_windows_are_no_work():
    qkv = torch.empty(0, 65, 3 * 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    out = windows.window_attention(qkv, 1, 0.1)
    out.sum().backward()
    assert out.shape == (0, 65, 64)
    assert qkv.grad.shape == qkv.shape


@on_gpu
def test_a_graph_of_the_kernels_is_the_kernels():
    qkv = torch.randn(9, 65, 3 * 5 * 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    towards = torch.randn(9, 65, 5 * 64, device="cuda", dtype=torch.bfloat16)

    def work():
        out = windows.window_attention(qkv, 5, 0.125)
        return out, *torch.autograd.grad(out, qkv, towards)

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = work()
    with torch.no_grad():
        qkv.copy_(torch.randn_like(qkv))
    graph.replay()
    for one, two in zip(captured, work(), strict=True):
        assert torch.equal(one, two)
