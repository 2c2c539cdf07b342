"""Recorded actions under other costs."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.trace import TraceWriter
from pipelines.held_out.baselines import ConstantPolicy, RandomPolicy
from pipelines.held_out.cost_curve import growth_at_costs, order_cost_bps, scaled_costs
from pipelines.held_out.recorded import Recording
from pipelines.held_out.rollout import evaluation_config, play_tiles, split_tiles
from random_walk import tick_table

CFG = EnvConfig(window=4, episode_bars=30, workers=0)


def record(path, table, bounds, policy, cfg=CFG):
    rollout = play_tiles(table, cfg, bounds, policy)
    played = evaluation_config(cfg, len(bounds))
    with TraceWriter(path, table, played, run_id="r", split="test") as writer:
        writer.write(rollout.batch, rollout.alive)
    return Recording.read(path, table)


def test_fees_and_slippage_are_scaled_and_nothing_else():
    cfg = dataclasses.replace(CFG, funding_bps_per_day=3.0)
    scaled = scaled_costs(cfg, 4.0)
    changed = {
        field.name: getattr(scaled, field.name)
        for field in dataclasses.fields(EnvConfig)
        if getattr(scaled, field.name) != getattr(cfg, field.name)
    }
    assert changed == {
        "taker_fee_bps": 20.0, "maker_fee_bps": 8.0, "slippage_bps": 20.0, "stop_slippage_bps": 20.0
    }  # fmt: skip
    assert cfg.taker_fee_bps == 5.0
    assert order_cost_bps(cfg) == 10.0


def test_a_round_trip_reckoned_by_hand(tmp_path):
    """Long through one tile of bars that stand still: the costs are all that happens."""
    table = BarTable.from_arrays([[10_000.0, 10_000.0, 10_000.0, 10_000.0, 9.0]] * 20)
    cfg = dataclasses.replace(CFG, lot_size=1e-12)
    long = ConstantPolicy({"direction": 2, "size": 1, "stop_loss": 9, "take_profit": 0})
    recording = record(tmp_path / "a.csv", table, torch.tensor([[3, 19]]), long, cfg)
    for multiple in (0.0, 0.5, 1.0, 2.0, 4.0):
        rate = 5e-4 * multiple  # fee and slippage are both 5 bps
        bought = math.ceil(round(10_000 * (1 + rate) * 10, 6)) / 10
        sold = math.floor(round(10_000 * (1 - rate) * 10, 6)) / 10
        units = 0.01 / (bought * 0.025)  # of an equity of 1: 1 % at risk, a stop 2.5 % away
        left = 1 + units * (sold - bought) - units * rate * (bought + sold)
        found = growth_at_costs([recording], [table], multiple)
        assert found.iloc[-1] == pytest.approx(left, rel=1e-9)


def test_at_its_own_costs_a_trace_is_itself_and_more_costs_leave_less(tmp_path):
    table = tick_table(150)
    bounds = split_tiles(table, CFG, "test")
    whole = record(tmp_path / "whole.csv", table, bounds, RandomPolicy(CFG.num_actions, 0))
    curve = growth_at_costs([whole], [table], 1.0)
    finals = whole.rows.groupby("lane")["equity"].last() / CFG.initial_cash
    assert curve.iloc[-1] == pytest.approx(finals.prod(), rel=1e-12)
    ends = [growth_at_costs([whole], [table], m).iloc[-1] for m in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert ends == sorted(ends, reverse=True)
    assert ends[0] > ends[1]


def test_parts_in_files_of_their_own_are_one_account(tmp_path):
    table = tick_table(150)
    bounds = split_tiles(table, CFG, "test")
    short = ConstantPolicy({"direction": 0, "size": 1, "stop_loss": 9, "take_profit": 0})
    whole = record(tmp_path / "whole.csv", table, bounds, short)
    parts = [record(tmp_path / f"{i}.csv", table, bounds[i : i + 2], short) for i in (0, 2, 4)]
    found = growth_at_costs(parts, [table] * 3, 2.0)
    assert found.equals(growth_at_costs([whole], [table], 2.0))


def test_whoever_is_ruined_by_the_costs_stays_ruined(tmp_path):
    table = tick_table(150)
    cfg = dataclasses.replace(CFG, risk_pct=100.0, ruin_equity_frac=0.9)
    bounds = split_tiles(table, cfg, "test")[:1]
    rolled = record(tmp_path / "a.csv", table, bounds, RandomPolicy(cfg.num_actions, 0), cfg)
    curve = growth_at_costs([rolled], [table], 4.0)
    ruined = np.flatnonzero(curve.to_numpy() <= 0.9)
    assert len(ruined)
    assert curve.iloc[ruined[0] :].nunique() == 1
