"""Policies over the tiles of a split."""

import dataclasses

import numpy as np
import pytest
import torch

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import LEDGER
from envs.market import MarketEnv
from envs.observation import account_scale
from modules.config import ModelConfig
from pipelines.held_out.baselines import ConstantPolicy, RandomPolicy
from pipelines.held_out.rollout import play_tiles, split_tiles
from pipelines.judging.metrics import completed_trades, in_order, measure
from pipelines.model import make_model
from pipelines.non_finite_error import NonFiniteError
from pipelines.rollout_policy import RolloutPolicy

CFG = EnvConfig(window=4, episode_bars=10, accounts=1, workers=0)
SMALL = {"encoder": "mlp", "d_model": 8, "ff_dim": 8, "account_dim": 8, "features_dim": 8,
         "num_heads": 1}  # fmt: skip
LONG = ConstantPolicy({"direction": 2, "size": 1, "stop_loss": 9, "take_profit": 0})


def table_of(closes):
    closes = np.asarray(closes, dtype=np.float64)
    opening = np.r_[closes[0], closes[:-1]]
    high, low = np.maximum(opening, closes), np.minimum(opening, closes)
    return BarTable.from_arrays(
        np.stack([opening, high, low, closes, np.full(len(closes), 9.0)], 1)
    )


def noise(bars, seed=0):
    steps = np.random.default_rng(seed).normal(0.0, 0.003, bars)
    return np.round(10_000 * np.exp(np.cumsum(steps)), 1)


def with_hole(table, row):
    """The same table with a segment border before `row`."""
    segment, timestamp = table.segment.clone(), table.timestamp.clone()
    segment[row:] += 1
    timestamp[row:] += 3600 * 10**9
    return dataclasses.replace(table, segment=segment, timestamp=timestamp)


def test_tiles_cover_every_bar_after_each_window_once():
    table = with_hole(table_of(noise(60)), 31)
    bounds = split_tiles(table, CFG, "test")
    assert bounds.tolist() == [[3, 13], [13, 23], [23, 30], [34, 44], [44, 54], [54, 59]]
    rows = play_tiles(table, CFG, bounds, LONG).rows(table, CFG)
    stepped = torch.cat([table.timestamp[4:31], table.timestamp[35:60]])
    assert rows.sort_values("timestamp")["timestamp"].astype("int64").tolist() == stepped.tolist()


def test_a_network_that_says_no_number_trades_nothing():
    """The most likely of actions without a probability is the first: it would be a short."""
    table = table_of(noise(64))
    model = make_model(ModelConfig(**SMALL), CFG, table)
    with torch.no_grad():
        model.get_policy_head()[0].module.linear.bias[-1] = torch.nan  # one target of four
    with pytest.raises(NonFiniteError, match="non-finite action/take_profit_log_prob = nan at"):
        play_tiles(table, CFG, split_tiles(table, CFG, "test"), RolloutPolicy(model))


def test_every_tile_starts_afresh_and_ends_flat():
    table = table_of(noise(64))
    rows = play_tiles(table, CFG, split_tiles(table, CFG, "test"), LONG).rows(table, CFG)
    rows = in_order(rows)
    last = rows.groupby("tile").tail(1)
    assert (last["position"] == 0).all()
    assert last["truncated"].all()
    first = rows.groupby("tile").head(1)
    assert (first["entry_units"] > 0).all()
    assert first["step"].tolist() == [0] * rows["tile"].nunique()


def test_a_batch_in_parts_plays_the_same_as_in_one():
    table = table_of(noise(100))
    bounds = split_tiles(table, CFG, "test")
    whole = play_tiles(table, CFG, bounds, LONG).rows(table, CFG)
    parts = play_tiles(table, CFG, bounds, LONG, max_lanes=3).rows(table, CFG)
    assert len(bounds) % 3
    assert whole.equals(parts)


def test_the_policy_sees_the_account_as_in_training():
    table = table_of(noise(64))
    seen = []

    def policy(state):
        seen.append(state["account"].clone())
        return LONG(state)

    bounds = split_tiles(table, CFG, "test", 1)
    play_tiles(table, CFG, bounds, policy)
    env = MarketEnv(table, CFG, starts=bounds)
    raw = env.rollout(9, LONG, break_when_any_done=False)["next", "account"][0, 0]
    assert torch.stack(seen[1:]).flatten(0, 2).equal(raw / account_scale(CFG))
    assert not torch.stack(seen[1:]).flatten(0, 2).equal(raw)


def look_back(state):
    state["bar"].squeeze(-1).sub_(3)
    return LONG(state)


def grow_rich(state):
    ledger = state["ledger"].clone()
    ledger[..., LEDGER.index("cash")] *= 2
    return LONG(state).set("ledger", ledger)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (look_back, "changed `bar`, by which the market goes on"),
        (grow_rich, "changed `ledger`"),
        (lambda state: None, "returned NoneType: a TensorDict with `action`"),
    ],
    ids=["bar", "ledger", "nothing"],
)
def test_a_policy_of_ones_own_that_changes_the_market_is_refused(policy, told):
    """It would be played on other bars, or with money of its own, and judged by it."""
    table = table_of(noise(64))
    with pytest.raises(ValueError, match=told):
        play_tiles(table, CFG, split_tiles(table, CFG, "test"), policy)


def test_profits_of_all_trades_are_the_change_of_equity():
    cfg = dataclasses.replace(CFG, funding_bps_per_day=100.0, maker_fee_bps=1.0, stop_step_bps=30.0)
    table = table_of(noise(200))
    bounds = split_tiles(table, cfg, "test")
    rollout = play_tiles(table, cfg, bounds, RandomPolicy(cfg.num_actions, 5), accounts=20)
    reasons = set()
    for account in range(20):
        rows = in_order(rollout.rows(table, cfg, account))
        trades = completed_trades(rows, cfg)
        reasons |= set(trades["exit_reason"])
        change = rows.groupby("tile")["equity"].last() - cfg.initial_cash
        earned = trades.groupby("tile")["profit"].sum().reindex(change.index, fill_value=0.0)
        assert earned.to_numpy() == pytest.approx(change.to_numpy(), rel=1e-9, abs=1e-6)
    assert {"stop", "take_profit", "flip", "signal", "end"} <= reasons


def test_a_ruined_tile_stays_out_until_its_end():
    crash = np.r_[np.full(16, 10_000.0), np.full(20, 100.0)]  # gaps through every stop
    cfg = dataclasses.replace(CFG, risk_pct=100.0, tick_size=0.01)
    table = table_of(crash)
    opening = table.ohlcv[:, 0].clone()
    opening[16] = 100.0
    table.ohlcv[:, 0] = opening
    table.ohlcv[16, 1] = 100.0
    rollout = play_tiles(table, cfg, split_tiles(table, cfg, "test"), LONG)
    rows = in_order(rollout.rows(table, cfg))
    ruined = rows[rows["tile"] == 1]
    assert len(ruined) == 3
    assert ruined["terminated"].tolist() == [False, False, True]
    assert set(ruined["episode"]) == {0}
    assert measure(rows, cfg).ruined == 1


def test_a_limit_takes_the_first_tiles_and_zero_is_refused():
    table = table_of(noise(64))
    assert split_tiles(table, CFG, "test", 2).tolist() == [[3, 13], [13, 23]]
    with pytest.raises(ValueError, match="episodes=0 is not allowed"):
        split_tiles(table, CFG, "test", 0)


def test_a_split_without_room_is_refused():
    with pytest.raises(ValueError, match="split='test' is not allowed: a split with more than 4"):
        split_tiles(table_of(noise(4)), CFG, "test")
