"""On a market without drift nobody earns; and if the simulator had a fault, somebody would."""

import inspect

import numpy as np
import pytest

import envs.market
import envs.simulator
from envs.config import EnvConfig
from faulty_module import load_faulty
from pipelines.audit import main
from pipelines.auditing.free_lunch import (
    EPISODE_BARS,
    MAX_Z,
    Earned,
    as_table,
    list_policies,
    make_lattice,
    play_lattice,
    without_costs,
)
from pipelines.config import compose_config

QUICK = 500


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"trailing": True, "tp_through_ticks": 0.0},
        {"stop_step_bps": 100.0, "risk_pct": 30.0, "max_leverage": 20.0, "tick_size": 0.25},
    ],
)
def test_nobody_earns(params):
    rows = play_lattice(EnvConfig(**params), episodes=QUICK, seed=7)
    assert len(rows) >= 36
    assert min(row.entries for row in rows) >= 0.9
    assert max(row.z for row in rows) <= MAX_Z, as_table(rows[:3])


FAULTS = {
    "a slip in the account's favour": (
        "rules.slippage, rules.ticks)", "rules.slippage, rules.ticks) - side * rules.ticks.step",
    ),
    "the stop's own price through a gap": (
        "stop_fill = fill_price(open_,", "stop_fill = fill_price(holding.stop_price,",
    ),
    "the better open for a take-profit, and the stop second": (
        "stopped = stop_touched & (stop_first | ~liquidation_touched)",
        "stopped = stop_touched & (stop_first | ~liquidation_touched)"
        " & ~(side * (best - holding.take_profit_price) >= rules.through)",
    ),
    "shorts that are paid twice": (
        "book.fill(units, price, bar.open, rules.taker)",
        "book.fill(units, price, bar.open, rules.taker * 0 - 1e-3 * (side < 0))",
    ),
    "a stop that looks at the close": (
        "worst = torch.where(long, bar.low, bar.high)", "worst = bar.close.expand_as(side)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_simulator_feeds_somebody(fault, tmp_path, monkeypatch):
    source = inspect.getsource(envs.simulator)
    sound, faulty = FAULTS[fault]
    assert sound in source
    mutant = load_faulty("envs.simulator", source.replace(sound, faulty), tmp_path)
    monkeypatch.setattr(envs.market, "advance", mutant.advance)
    rows = play_lattice(EnvConfig(), episodes=QUICK, seed=7)
    assert max(row.z for row in rows) > MAX_Z, as_table(rows[:3])


@pytest.mark.parametrize(
    ("max_leverage", "tick_size", "largest"), [(3.0, 0.1, 24), (100.0, 0.1, 11), (3.0, 5.0, 24)]
)
def test_the_lattice_is_a_fair_game_on_the_tick(max_leverage, tick_size, largest):
    cfg = EnvConfig(max_leverage=max_leverage, tick_size=tick_size)
    table = make_lattice(cfg, 2_000, np.random.default_rng(3))
    bars = table.ohlcv.numpy().reshape(2_000, EPISODE_BARS + 1, 5)
    ticks = bars[..., :4] / cfg.tick_size
    np.testing.assert_allclose(ticks, ticks.round(), atol=1e-6)
    for moves in (ticks[:, 1:, 3] - ticks[:, :-1, 3], ticks[:, 1:, 0] - ticks[:, :-1, 3]):
        assert abs(moves.mean()) < 4 * moves.std() / np.sqrt(moves.size)
    jumps = (ticks[:, 1:, 0] - ticks[:, :-1, 3]).round()
    assert 0.48 < (jumps != 0).mean() < 0.52
    assert np.abs(jumps).max() == largest
    assert (bars[:, 0, :4] == bars[0, 0, 0]).all()


def test_there_are_three_dozen_policies_and_all_differ():
    names = [policy.name for policy in list_policies(EnvConfig())]
    assert len(set(names)) == len(names) >= 36


def test_costs_are_left_out_and_all_else_stays():
    cfg = EnvConfig(trailing=True, funding_bps_per_day=3.0, flatten_at_end=True)
    free = without_costs(cfg)
    assert (free.taker_fee_bps, free.slippage_bps, free.funding_bps_per_day) == (0.0, 0.0, 0.0)
    assert free.trailing
    assert not free.flatten_at_end


def test_the_command_says_who_earns(monkeypatch, capsys):
    cfg = compose_config("audit", ["check=free_lunch", "env=btcusd_1m_risk_based", "episodes=150"])
    assert main(cfg) == 0
    assert "passed: 90 policies, 150 episodes each" in capsys.readouterr().out
    rows = [Earned("fine", -0.1, 0.1, 1.0), Earned("lucky", 0.46, 0.1, 1.0)]
    monkeypatch.setattr("pipelines.auditing.free_lunch.play_lattice", lambda *_, **__: rows)
    assert main(cfg) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert "FAILED" in last
    assert "lucky" in last


def test_a_market_in_which_nobody_can_trade_proves_nothing(capsys):
    words = ["check=free_lunch", "episodes=100", "env.min_units=1e12"]
    assert main(compose_config("audit", words)) == 1
    assert "no verdict" in capsys.readouterr().out
