"""The kernels of local attention say what torch's own operations say, interpreted and on a GPU."""

import copy
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from interpreted_attention import CASES, distance
from modules.local_attention import is_fused
from modules.streaming import LocalAttention

ROOT = Path(__file__).resolve().parents[1]
INTERPRETED = pytest.mark.skipif(not find_spec("triton"), reason="Triton is not installed")
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def interpret(dtype, *names):
    """What `tests/interpreted_attention.py` says of some cases."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    path = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    program = [sys.executable, str(ROOT / "tests" / "interpreted_attention.py"), dtype, *names]
    done = subprocess.run(
        program, env={**environment, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def interpreted():
    """Of every case in full precision: a program costs more than its cases."""
    return dict(zip(CASES, interpret("float32", *CASES), strict=True))


@INTERPRETED
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_are_torch_s(case, interpreted):
    bound = 1e-4 if case == "a bias beyond exp" else 2e-6  # logits of 100 are rounded to 8e-6
    assert max(interpreted[case].values()) < bound, interpreted[case]


@INTERPRETED
def test_in_half_precision_only_results_and_weights_are_rounded():
    """Of float16: the interpreter has no products of bfloat16."""
    for found in interpret("float16", "the encoder's", "the context's", "a step"):
        assert max(found.values()) < 1e-3, found


@INTERPRETED
def test_the_operation_can_be_compiled():
    assert interpret("float32", "operations") == [{}]


def test_a_cpu_and_full_precision_have_torch_s_own(device):
    for dtype in (torch.float32, torch.bfloat16):
        q = torch.zeros(2, 3, 64, device=device, dtype=dtype)
        here = device == "cuda" and dtype == torch.bfloat16 and find_spec("triton") is not None
        assert is_fused(q, 2, 8) == here
        assert not is_fused(q, 8, 8)  # heads of 8
        assert not is_fused(q, 2, 100)


# On a GPU.


def make(lookback, heads=2, head=32):
    torch.manual_seed(0)
    attention = LocalAttention(heads * head, heads, lookback)
    for parameter in (attention.q.bias, attention.kv.bias, attention.bias):
        nn.init.normal_(parameter, std=0.5)
    return attention.cuda()


def results(attention, run, tokens, towards, half):
    """Output and gradients: of the tokens, and of every parameter but those after the sum."""
    attention.zero_grad()
    tokens = tokens.clone().requires_grad_()
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=half):
        out = run(attention, tokens)
    (out.float() * towards).sum().backward()
    return {"output": out.detach().float(), "tokens": tokens.grad} | {
        name: parameter.grad.clone() for name, parameter in attention.named_parameters()
    }


def attend_last(attention, tokens):
    """The tokens with a whole past, as the blocks do it."""
    return attention(tokens[..., attention.lookback :, :], attention.kv(tokens))


def check_half(run, count, lookback, head):
    """Half precision is near full precision, output and gradients."""
    attention = make(lookback, head=head)
    assert is_fused(torch.zeros(1, 2 * head, device="cuda").bfloat16(), 2, lookback)
    tokens = torch.randn(3, 5, lookback + count, 2 * head, device="cuda")
    towards = torch.randn(3, 5, count, 2 * head, device="cuda")
    exact = results(copy.deepcopy(attention), attend_last, tokens, towards, half=False)
    found = results(attention, run, tokens, towards, half=True)
    parts = {name: distance(found[name], value) for name, value in exact.items()}
    if lookback == 0:  # one key has all the weight, whatever the logit: these are exactly 0
        for name in ("q.weight", "q.bias", "bias"):
            del parts[name]
    assert max(parts.values()) < 2e-2, parts


@pytest.mark.gpu
@CUDA
@pytest.mark.parametrize(
    ("count", "lookback", "head"),
    [
        *((count, lookback, 32) for count in (1, 240, 271) for lookback in (8, 31)),
        *((50, 17, head) for head in (16, 64)),
        *((100, lookback, head) for lookback in (0, 8, 64) for head in (32, 64)),
    ],
)
def test_half_precision_is_full_precision_rounded(count, lookback, head):
    check_half(attend_last, count, lookback, head)


@pytest.mark.gpu
@CUDA
@pytest.mark.parametrize(("count", "lookback"), [(1, 8), (240, 31)])
def test_compiled_half_precision_is_full_precision_rounded(count, lookback):
    torch.compiler.reset()
    check_half(torch.compile(attend_last, fullgraph=True), count, lookback, 32)


@pytest.mark.gpu
@CUDA
def test_a_gradient_has_the_same_bits_each_time_and_in_a_graph():
    attention = make(31)
    tokens = torch.randn(70, 240 + 31, 64, device="cuda")
    towards = torch.randn(70, 240, 64, device="cuda")
    one, two = (results(attention, attend_last, tokens, towards, half=True) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):
        attend_last(attention, tokens)
        with torch.cuda.graph(graph):
            out = attend_last(attention, tokens)
    graph.replay()
    assert torch.equal(out.float(), one["output"])


@pytest.mark.gpu
@CUDA
def test_a_step_from_an_empty_cache_in_full_precision():
    attention = make(8)
    token = torch.randn(4, 1, 64, device="cuda")
    cache = torch.zeros(4, 8, 128, device="cuda")
    with torch.no_grad():
        exact = attention(token, torch.cat([cache, attention.kv(token)], -2))
        with torch.autocast("cuda", dtype=torch.bfloat16):
            found = attention(token, torch.cat([cache, attention.kv(token)], -2))
            alone = attention(token[0], torch.cat([cache[0], attention.kv(token[0])], -2))
    assert distance(found.float(), exact) < 2e-2
    torch.testing.assert_close(alone, found[0], atol=1e-2, rtol=1e-2)


@pytest.mark.gpu
@CUDA
def test_offsets_of_more_than_32_bits():
    """The last of more numbers than a signed one counts are told like others."""
    if torch.cuda.mem_get_info()[0] < 40 << 30:
        pytest.skip("needs 40 GiB")
    attention, copies = make(8, heads=8), 4500
    attention.q = attention.out = nn.Identity()
    queries = torch.randn(4, 240, 256, device="cuda", dtype=torch.bfloat16)
    keys_values = torch.randn(4, 248, 512, device="cuda", dtype=torch.bfloat16)
    assert keys_values.numel() * copies > 2**31

    def last_of(copies):
        leaves = [x.repeat(copies, 1, 1).requires_grad_() for x in (queries, keys_values)]
        out = attention(*leaves)
        out.backward(queries.flip(0).repeat(copies, 1, 1))
        return [part[-4:].clone() for part in (out.detach(), *(leaf.grad for leaf in leaves))]

    for one, two in zip(last_of(copies), last_of(1), strict=True):
        assert torch.equal(one, two)
