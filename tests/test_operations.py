"""Operations against arithmetic by hand; what is measured leaves a training alone."""

import pytest
import torch

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.observation import NUM_ACCOUNT
from modules import cpu_product
from modules.config import ModelConfig
from pipelines import operations
from pipelines.model import make_model
from pipelines.operations import (
    count_operations,
    median_seconds,
    peak_flops,
    seconds_in_turns,
)

WINDOW = 16
MLP = ModelConfig(
    encoder="mlp", d_model=32, ff_dim=48, num_layers=2, account_dim=8, features_dim=24, num_heads=1
)


def make(cfg):
    table = BarTable.from_arrays([[100.0] * 5] * 300, features=torch.randn(300, 3))
    return make_model(cfg, EnvConfig(window=WINDOW), table)


def by_hand(accounts):
    """Two operations for each weight: of the encoder once, of the rest for each account."""
    heads = sum(EnvConfig().num_actions.values()) + 1
    shared = WINDOW * 3 * 48 + 48 * 32
    return 2.0 * (shared + accounts * (NUM_ACCOUNT * 8 + (32 + 8) * 24 + 24 * heads))


@pytest.mark.parametrize("accounts", [1, 5])
def test_a_forward_pass_costs_two_operations_a_weight(accounts):
    bars = 50 + torch.arange(7)[:, None]
    counted = count_operations(make(MLP), bars, accounts, backward=False)
    assert counted == pytest.approx(7 * by_hand(accounts))


def test_forward_and_backward_cost_three_times_as_much():
    model, bars = make(MLP), 50 + torch.arange(4)[:, None]
    both = count_operations(model, bars, 64)
    # The first layers have no gradient of their inputs.
    assert 2.3 * 4 * by_hand(64) < both < 3 * 4 * by_hand(64)


def test_longer_sequences_share_more():
    sizes = {"d_model": 32, "num_layers": 2, "num_heads": 1, "ff_dim": 32, "context_ff_dim": 32}
    model = make(ModelConfig(encoder="streaming", account_dim=8, features_dim=8, **sizes))
    costs = [count_operations(model, 50 + torch.arange(n)[None], 1) / n for n in (1, 8)]
    assert costs[0] > 3 * costs[1]


def test_the_peak_is_the_operations_of_a_product_over_the_time_of_one(monkeypatch):
    """By the library that the network's layers are multiplied by."""
    counted = []

    def timed(work, repeats, device):
        work()
        return 0.25

    monkeypatch.setattr(operations, "product", lambda a, b: counted.append(2 * a.numel() * len(b)))
    monkeypatch.setattr(operations, "median_seconds", timed)
    peak = peak_flops(torch.device("cpu"), "float32")
    assert peak == sum(counted) / 0.25 > 0


def test_operations_of_onednn_are_counted_as_torch_s_own(monkeypatch):
    sizes = {"d_model": 96, "num_layers": 1, "num_heads": 2, "ff_dim": 128, "context_ff_dim": 32}
    model = make(ModelConfig(encoder="transformer", account_dim=8, features_dim=8, **sizes))
    bars, counts = 50 + torch.arange(20)[None], []
    for is_amd in (True, False):
        monkeypatch.setattr(cpu_product, "_is_wide_amd", lambda is_amd=is_amd: is_amd)
        counts.append(count_operations(model, bars, 1))
    assert counts[0] == counts[1]


def test_the_time_of_a_call_is_a_median_without_the_first(monkeypatch):
    clock = iter([0, 9, 10, 11, 20, 27, 30, 32])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert median_seconds(lambda: None, 3, torch.device("cpu")) == 2


def test_what_is_timed_in_turns_shares_a_machine_that_slows_down(monkeypatch):
    calls, now = [], 0.0

    def passes(name, slow):
        nonlocal now
        calls.append(name)
        now += slow * len(calls)  # every call is slower than the last

    monkeypatch.setattr("time.perf_counter", lambda: now)
    works = [lambda: passes("one", 1), lambda: passes("two", 2)]
    assert seconds_in_turns(works, 3, torch.device("cpu")) == [5, 12]
    assert calls == ["one", "two"] * 4


def test_counting_and_timing_leave_gradients_and_generators_as_they_were():
    model = make(MLP)
    before = torch.get_rng_state()
    count_operations(model, torch.tensor([[50]]), 2)
    assert peak_flops(torch.device("cpu"), "bfloat16", 1) > 0
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_costs_the_same_wherever_it_lies(device):
    """Though a GPU multiplies zeros beside it, and has kernels that nobody counts."""
    sizes = {"d_model": 30, "num_layers": 1, "num_heads": 2, "ff_dim": 32, "context_ff_dim": 32}
    model, bars = make(ModelConfig(account_dim=8, features_dim=8, **sizes)), torch.tensor([[50]])
    here = count_operations(model, bars, 2)
    assert count_operations(model.to(device), bars.to(device), 2) == here
    assert all(parameter.device.type == device for parameter in model.parameters())
