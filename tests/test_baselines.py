"""The accounts that a policy must beat, on markets whose outcome is known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from envs.bar_table import BarTable
from envs.config import EnvConfig
from pipelines.held_out.baselines import (
    RANDOM_ACCOUNTS,
    RandomPolicy,
    always_short_policy,
    buy_and_hold,
    flat_policy,
    measure_baselines,
    middle_account,
)
from pipelines.held_out.rollout import chain, final_equity, play_tiles, split_tiles
from pipelines.judging.metrics import in_order, measure
from random_walk import tick_table

CFG = EnvConfig(window=4, episode_bars=20, workers=0)


def result_of(policy, table, cfg=CFG):
    rollout = play_tiles(table, cfg, split_tiles(table, cfg, "test"), policy)
    return measure(in_order(rollout.rows(table, cfg)), cfg)


def test_flat_neither_earns_nor_pays():
    metrics = result_of(flat_policy(CFG), tick_table(64))
    assert metrics.total_return == 0.0
    assert (metrics.fees, metrics.trades, metrics.exposure) == (0.0, 0, 0.0)


def test_always_short_earns_in_a_fall_and_loses_in_a_rise():
    assert result_of(always_short_policy(CFG), tick_table(64, drift=-0.002)).total_return > 0.02
    assert result_of(always_short_policy(CFG), tick_table(64, drift=+0.002)).total_return < -0.02


def test_always_short_takes_multiple_one_the_widest_stop_and_no_target():
    rollout = play_tiles(
        tick_table(64), CFG, split_tiles(tick_table(64), CFG, "test"), always_short_policy(CFG)
    )
    rows = rollout.rows(tick_table(64), CFG)
    assert set(rows["direction_value"]) == {-1}
    assert set(rows["risk_multiple"]) == {1.0}
    assert set(rows["stop_distance_bps"]) == {CFG.stop_step_bps * CFG.stop_steps}
    assert set(rows["take_profit_r"]) == {0.0}


def test_always_short_without_a_bucket_for_no_target_takes_the_furthest():
    cfg = dataclasses.replace(CFG, take_profit_r=[1.0, 3.0, 2.0], risk_multiples=[0.3, 0.9])
    assert always_short_policy(cfg).action == {
        "direction": 0, "size": 1, "stop_loss": 9, "take_profit": 1,
    }  # fmt: skip


def test_random_draws_every_index_of_every_head_equally_often():
    table = tick_table(64)
    rollout = play_tiles(
        table, CFG, split_tiles(table, CFG, "test"), RandomPolicy(CFG.num_actions, 7), accounts=200
    )
    for head, count in CFG.num_actions.items():
        drawn = rollout.batch["action", head].flatten().bincount(minlength=count)
        expected = drawn.sum() / count
        assert len(drawn) == count
        assert (drawn - expected).abs().max() < 5.0 * expected.sqrt()


def test_random_accounts_differ_and_a_seed_repeats_them():
    table = tick_table(64)
    bounds = split_tiles(table, CFG, "test")

    def returns(seed):
        rollout = play_tiles(table, CFG, bounds, RandomPolicy(CFG.num_actions, seed), accounts=5)
        traces = (in_order(rollout.rows(table, CFG, k)) for k in range(5))
        return [measure(rows, CFG).total_return for rows in traces]

    assert returns(3) == returns(3)
    assert len(set(returns(3))) == 5
    assert returns(3) != returns(4)


# Row 0 is the bar before the first tile's first step.
BARS = [
    (100, 101, 99, 100, 1),
    (100, 120, 99, 110, 1),
    (110, 125, 90, 95, 1),
    (95, 130, 95, 120, 1),
]
HOLD_CFG = EnvConfig(
    initial_cash=1000.0, taker_fee_bps=10.0, slippage_bps=10.0, lot_size=0.01, tick_size=0.1,
    stop_step_bps=100.0, stop_steps=2, workers=0,
)  # fmt: skip


def test_buy_and_hold_reckoned_by_hand():
    rows = buy_and_hold(BarTable.from_arrays(BARS), HOLD_CFG, torch.tensor([[0, 3]]))
    # Bought at 100 * 1.001 = 100.1; 1000 / (100.1 * 1.001) = 9.9801 units, in lots 9.98.
    cash = 1000 - 9.98 * 100.1 * 1.001
    # Sold at 120 * 0.999 = 119.88, rounded against the account to 119.8.
    final = cash + 9.98 * 119.8 * 0.999
    assert rows["equity"].tolist() == pytest.approx([cash + 1097.8, cash + 948.1, final], rel=1e-12)
    metrics = measure(in_order(rows), HOLD_CFG)
    assert metrics.total_return == pytest.approx(final / 1000 - 1, rel=1e-12)
    assert metrics.max_drawdown == pytest.approx(1 - (cash + 948.1) / (cash + 1097.8), rel=1e-12)
    assert metrics.fees == pytest.approx(9.98 * (100.1 + 119.8) * 0.001, rel=1e-12)
    assert metrics.slippage_cost == pytest.approx(9.98 * (0.1 + 0.2), rel=1e-9)
    assert (metrics.trades, metrics.hit_rate, metrics.bars) == (1, 1.0, 3)


def test_buy_and_hold_buys_and_sells_within_one_bar():
    rows = buy_and_hold(BarTable.from_arrays(BARS), HOLD_CFG, torch.tensor([[0, 1]]))
    assert len(rows) == 1
    assert rows["fee"].item() == pytest.approx(9.98 * (100.1 + 109.8) * 0.001, rel=1e-9)
    assert rows["equity"].item() == pytest.approx(1000 + 9.98 * 9.7 - rows["fee"].item(), rel=1e-9)


def test_buy_and_hold_keeps_its_units_where_tiles_follow_each_other():
    table = tick_table(100)
    rows = buy_and_hold(table, CFG, torch.tensor([[3, 10], [10, 60]]))
    whole = buy_and_hold(table, CFG, torch.tensor([[3, 60]]))
    pd.testing.assert_frame_equal(rows, whole)
    assert rows["position"].iloc[:-1].nunique() == 1


def test_buy_and_hold_earns_nothing_in_a_hole():
    """The market loses nine tenths where nobody plays."""
    bars = BARS[:3] + [[b / 10 for b in bar[:4]] + [1] for bar in BARS[:3]]
    table, bounds = BarTable.from_arrays(bars), torch.tensor([[0, 2], [3, 5]])
    cfg = dataclasses.replace(HOLD_CFG, tick_size=1e-4, lot_size=1e-6)
    rows = in_order(buy_and_hold(table, cfg, bounds))
    once = in_order(buy_and_hold(table, cfg, bounds[:1]))
    assert rows["tile"].tolist() == [0, 0, 1, 1]
    found, alone = measure(rows, cfg), measure(once, cfg)
    assert found.trades == 2
    # The second stretch is the first at a tenth of the price, up to ticks and lots.
    assert found.total_return == pytest.approx((1 + alone.total_return) ** 2 - 1, abs=1e-4)


def test_costs_never_help_buy_and_hold():
    table, bounds = tick_table(100), torch.tensor([[3, 90]])
    finals = [
        buy_and_hold(table, dataclasses.replace(CFG, **costs), bounds)["equity"].iloc[-1]
        for costs in ({"taker_fee_bps": 1.0}, {}, {"slippage_bps": 8.0}, {"taker_fee_bps": 30.0})
    ]
    assert finals == sorted(finals, reverse=True)


def test_cash_that_does_not_buy_a_lot_is_refused():
    cfg = dataclasses.replace(HOLD_CFG, lot_size=100.0)
    with pytest.raises(ValueError, match=r"env\.initial_cash=1000\.0 is not allowed: enough"):
        buy_and_hold(BarTable.from_arrays(BARS), cfg, torch.tensor([[0, 3]]))


def test_the_four_baselines_come_with_the_spread_of_the_random_ones():
    table = tick_table(64)
    bounds = split_tiles(table, CFG, "test")
    metrics, (low, high) = measure_baselines(table, CFG, bounds, seed=3)
    assert list(metrics) == ["flat", "buy_and_hold", "random", "always_short"]
    assert all(found.bars == 60 for found in metrics.values())
    assert low < metrics["random"].total_return < high
    assert metrics["random"].trades > metrics["always_short"].trades
    assert metrics["flat"] == result_of(flat_policy(CFG), table)
    again = measure_baselines(table, CFG, bounds, seed=3)
    assert again == (metrics, (low, high))


def test_the_middle_account_is_the_one_of_median_return():
    returns = np.arange(21.0)[::-1]
    assert middle_account(returns) == (10, (1.0, 19.0))
    assert middle_account(np.array([0.3, 0.1, 0.2, 0.2])) == (3, pytest.approx((0.115, 0.285)))


def test_returns_from_tensors_are_those_of_the_rows():
    """To the last bit, an account that is ruined in the middle of a tile included."""
    table = tick_table(300)
    cfg = dataclasses.replace(CFG, risk_pct=100.0, ruin_equity_frac=0.97)
    bounds = split_tiles(table, cfg, "test")
    rollout = play_tiles(table, cfg, bounds, RandomPolicy(cfg.num_actions, 0), accounts=6)
    found = [measure(in_order(rollout.rows(table, cfg, k)), cfg) for k in range(6)]
    assert any(metrics.ruined for metrics in found)
    returns = chain(final_equity(rollout), cfg.initial_cash).tolist()
    assert returns == [metrics.total_return for metrics in found]
    metrics, interval = measure_baselines(table, cfg, bounds, seed=0)
    everyone = play_tiles(
        table, cfg, bounds, RandomPolicy(cfg.num_actions, 0), accounts=RANDOM_ACCOUNTS,
        max_lanes=2048,
    )  # fmt: skip
    found = [measure(in_order(everyone.rows(table, cfg, k)), cfg) for k in range(RANDOM_ACCOUNTS)]
    ranked = sorted(found, key=lambda metrics: metrics.total_return)
    assert metrics["random"] == ranked[RANDOM_ACCOUNTS // 2]
    every = [metrics.total_return for metrics in ranked]
    assert interval == tuple(np.quantile(every, [0.05, 0.95]))
