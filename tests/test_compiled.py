"""``env.compile``: a compiled bar is the eager one, bit for bit."""

import dataclasses
import os
import subprocess
import sys

import pytest
import torch

from candle_tables import NO_COSTS
from envs.bar_table import BarTable
from envs.compiled import CompiledBar, log
from envs.config import EnvConfig
from envs.episodes import RandomStarts
from envs.factory import make_env
from envs.market import MarketEnv
from pipelines.resume import differences

GRID = {"paths": 3, "accounts": 5, "workers": 0, "window": 8, "episode_bars": 15}
BOLD = {"risk_pct": 100.0, "max_leverage": 30.0, "maintenance_margin_rate": 0.02}
EVERYTHING = {
    **BOLD,
    "trailing": True,
    "max_participation": 100.0,
    "max_units": 2_900.0,
    "stop_slippage_bps": 8.0,
    "funding_bps_per_day": 30.0,
    "drawdown_penalty": 0.3,
    "turnover_penalty": 1e-3,
}
CONFIGS = {
    "default": {},
    "bold": BOLD,
    "flatten": {"flatten_at_end": True, "ruin_equity_frac": 0.9, "risk_pct": 40.0},
    "no costs": NO_COSTS,
    "coarse": {"tick_size": 0.3, "lot_size": 0.07, "min_units": 0.5, "stop_step_bps": 90.0},
    "one lane": {"paths": 1, "accounts": 1, **BOLD},
    "many lanes": {"paths": 2, "accounts": 333, **EVERYTHING},
}
pytestmark = [
    # What torch says about itself while it compiles.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def wild_bars(count: int = 500, seed: int = 0) -> torch.Tensor:
    """Gaps and wicks that reach stops, targets and liquidation prices; bars without volume."""
    draw = torch.Generator().manual_seed(seed)

    def noise(scale: float) -> torch.Tensor:
        return scale * torch.randn(count, generator=draw, dtype=torch.float64)

    close = 1_000.0 * noise(8e-3).cumsum(0).exp()
    open_ = torch.cat([close[:1], close[:-1]]) * noise(0.01).exp()
    high = torch.maximum(open_, close) * noise(0.01).abs().exp()
    low = torch.minimum(open_, close) / noise(0.01).abs().exp()
    volume = noise(100.0).clamp_min(0.0)
    return torch.stack([open_, high, low, close, volume], -1)


def record(
    cfg: EnvConfig, steps: int = 120, record_fills: bool = True, device: str = "cpu"
) -> list:
    """Everything that random actions, the same for every environment, bring about."""
    table = BarTable.from_arrays(wild_bars(), interval_s=3_600.0)
    env = MarketEnv(table, cfg, seed=3, record_fills=record_fills, device=device)
    # The same bars on every device, whose generators differ.
    starts = RandomStarts(table.runs("train"), cfg.window, cfg.episode_bars)
    bars = torch.Generator().manual_seed(3)
    env.starts.sample = lambda count, _: starts.sample(count, bars).to(device)
    draw = torch.Generator().manual_seed(1)
    state, seen = env.reset(), []
    for _ in range(steps):
        action = {
            head: torch.randint(count, env.batch_size, generator=draw).to(device)
            for head, count in cfg.num_actions.items()
        }
        state = state.clone().set("action", env.full_action_spec.zero()["action"].update(action))
        stepped, state = env.step_and_maybe_reset(state)
        seen += [stepped["next"].clone(), env.clock.clone()]
    return seen


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as it lies in memory: -0.0 is not 0.0, and not a number is itself."""
    return tensor.contiguous().view(torch.uint8)


def assert_same_bits(one: list, two: list) -> None:
    for a, b in zip(one, two, strict=True):
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b)
            continue
        assert a.keys() == b.keys()
        for key in a.keys():  # noqa: SIM118 (iterating a TensorDict walks its lanes)
            assert (a[key].dtype, a[key].shape) == (b[key].dtype, b[key].shape)
            assert torch.equal(bits(a[key]), bits(b[key])), key


def test_a_compiled_bar_is_the_eager_one_bit_for_bit():
    cfg = EnvConfig(**{**GRID, **EVERYTHING})
    plain = record(cfg)
    reasons = torch.cat([td["fills"][..., 6].flatten() for td in plain[::2]]).unique().tolist()
    assert {0.0, 3.0, 4.0, 5.0, 6.0} <= set(reasons), "stops, targets, liquidations and ruin"
    assert_same_bits(plain, record(dataclasses.replace(cfg, compile=True)))


def test_a_compiled_bar_refuses_what_an_eager_one_refuses():
    cfg = EnvConfig(**{**GRID, **EVERYTHING}, compile=True)
    env = MarketEnv(BarTable.from_arrays(wild_bars(), interval_s=3_600.0), cfg)
    state = env.rand_step(env.reset())["next"]
    good = env.rand_action(state.clone())["action"]
    for head, count in cfg.num_actions.items():
        for index in (-1, count):
            action = good.clone()
            action[head][1, 2] = index
            with pytest.raises(IndexError, match=rf"action\.{head} .*{index}.*0 to {count - 1}"):
                env.step(state.clone().set("action", action))
    with pytest.raises(IndexError, match=r"action\.size: torch\.float32 .*torch\.int64"):
        env.step(state.clone().set("action", good.clone().set("size", good["size"].float())))
    for key, dtype in (("bar", torch.int32), ("ledger", torch.float32)):
        with pytest.raises(
            ValueError, match=rf"{key} of {dtype} .*torch\.int64 and torch\.float64"
        ):
            env.step(state.clone().set("action", good).set(key, state[key].to(dtype)))
    # Tensors that lie otherwise in memory are the same tensors.
    spread = state.set("action", good).apply(lambda x: torch.stack([x, x], -1)[..., 0])
    assert not spread["bar"].is_contiguous()
    one, two = env.step(state.clone())["next"], env.step(spread)["next"]
    assert_same_bits([one], [two])


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.gpu)])
def test_a_step_is_that_of_a_cpu(compiled, device):
    """Whatever rounds otherwise, eager or compiled: no fill falls on the other side of a price."""
    if compiled and device == "cpu":
        pytest.skip("bit for bit, above")
    cfg = EnvConfig(**{**GRID, **EVERYTHING})
    here = record(dataclasses.replace(cfg, compile=compiled), device=device)
    for one, two in zip(here[::2], record(cfg)[::2], strict=True):
        for key in ("ledger", "fills", "account", "reward", "head_used", "done", "bar"):
            torch.testing.assert_close(
                one[key].cpu(), two[key], atol=1e-6, rtol=1e-9, equal_nan=True, msg=key
            )


@pytest.mark.long
@pytest.mark.parametrize("record_fills", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_rule_compiled_is_the_eager_one_bit_for_bit(name, record_fills):
    cfg = EnvConfig(**{**GRID, **CONFIGS[name]})
    compiled = dataclasses.replace(cfg, compile=True)
    plain = record(cfg, 300, record_fills)
    assert_same_bits(plain, record(compiled, 300, record_fills))


@pytest.mark.long
def test_workers_compile_for_themselves(tmp_path):
    BarTable.from_arrays(wild_bars(), interval_s=3_600.0).save(tmp_path)
    rollouts = []
    for compiled in (False, True):
        cfg = EnvConfig(**{**GRID, "paths": 4, "workers": 2, "compile": compiled})
        env = make_env(tmp_path, cfg, seed=5)
        try:
            torch.manual_seed(0)
            rollouts.append(env.rollout(20, break_when_any_done=False))
        finally:
            env.close()
    for key in ("ledger", "fills", "account", "reward"):
        one, two = (rollout["next", key] for rollout in rollouts)
        assert torch.equal(bits(one), bits(two))


def test_a_kernel_takes_no_tensors_of_another_kind():
    """It would read their memory as that of the first ones."""
    double = CompiledBar(lambda x: {"twice": 2 * x}, torch.device("cpu"))
    first = torch.arange(6.0).view(2, 3)
    assert torch.equal(double(first)["twice"], 2 * first)
    for other in (first.double(), first.int(), first.view(3, 2), first[:1]):
        with pytest.raises(
            ValueError, match=r"env\.compile: .*torch\.float32.*\[2, 3\].*as at first"
        ):
            double(other)


def test_the_logarithm_is_that_of_eager_torch():
    values = torch.rand(1_003, dtype=torch.float64) * 1e5
    kept = torch.compile(log, backend="eager", fullgraph=True)(values)
    assert torch.equal(kept, values.log())


def test_without_a_compiler_the_key_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    table = BarTable.from_arrays(wild_bars())
    with pytest.raises(ValueError, match=r"env\.compile=True.*no-such-compiler"):
        MarketEnv(table, EnvConfig(**GRID, compile=True))


def test_episodes_that_are_played_once_are_not_compiled(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    table = BarTable.from_arrays(wild_bars())
    env = MarketEnv(table, EnvConfig(**GRID, compile=True), starts=torch.tensor([[20, 35]] * 3))
    assert env.rollout(3).batch_size == (3, 5, 3)


def test_a_run_goes_on_compiled_or_not():
    assert differences({"env": {"compile": False}}, {"env": {"compile": True}}) == []
    assert differences({"env": {"paths": 1}}, {"env": {"paths": 2}})


@pytest.mark.long
def test_kernels_are_kept_where_the_variable_says(tmp_path):
    program = (
        "from envs.config import EnvConfig\n"
        "from envs.market import MarketEnv\n"
        "from envs.bar_table import BarTable\n"
        "bars = [[60_000.0, 60_050.0, 59_950.0, 60_010.0, 7.0]] * 400\n"
        "cfg = EnvConfig(paths=2, accounts=2, workers=0, compile=True)\n"
        "MarketEnv(BarTable.from_arrays(bars), cfg).rollout(3)\n"
    )  # fmt: skip
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "kept")}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert list((tmp_path / "kept").rglob("*.cpp"))
