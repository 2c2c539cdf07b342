"""Random accounts with the policy's own trades: what is matched, and that luck is all they have."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.bar_table import BarTable
from envs.config import EnvConfig
from pipelines.held_out import matched_random
from pipelines.held_out.baselines import RandomPolicy
from pipelines.held_out.matched_random import draw_accounts, play_account, play_matched_random
from pipelines.held_out.placed_trades import Trades, place
from pipelines.held_out.rollout import play_tiles, split_tiles, tile_times
from pipelines.held_out.technical_rules import RulePolicy, mean_reversion, momentum
from pipelines.judging.metrics import completed_trades, in_order, measure
from pipelines.judging.performance import performance
from random_walk import tick_table

CFG = EnvConfig(window=4, episode_bars=40, workers=0, stop_step_bps=100.0)


TABLE = tick_table(200, move=0.0005, wick=0.5)
BOUNDS = split_tiles(TABLE, CFG, "test")


@pytest.fixture(scope="module")
def trades():
    """Every third of an account that acts at random."""
    rollout = play_tiles(TABLE, CFG, BOUNDS, RandomPolicy(CFG.num_actions, 1))
    found = Trades.of(in_order(rollout.rows(TABLE, CFG)), CFG)
    assert len(found) > 90
    return Trades(found.tile[::3], found.bars[::3], found.action[::3])


@st.composite
def some_trades(draw):
    """Trades that leave room in every tile, or fill it."""
    tiles, bars, action = [], [], []
    for tile in range(3):
        left = int(BOUNDS[tile, 1] - BOUNDS[tile, 0])
        for length in draw(st.lists(st.integers(1, 12), max_size=8)):
            if length <= left:
                left -= length
                side = draw(st.sampled_from([0, 2]))
                tiles.append(tile)
                bars.append(length)
                action.append([side, draw(st.integers(0, 3)), 9, 0])
    return Trades(np.array(tiles, int), np.array(bars, int), np.array(action, int).reshape(-1, 4))


@given(trades=some_trades(), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_a_random_account_does_in_each_tile_what_the_policy_did_in_one_as_long(trades, seed):
    """On bars that touch no bracket. Two of a side that follow each other give up a bar, or one."""
    if not len(trades):
        return
    rollout = play_account(TABLE, CFG, BOUNDS, trades, account=3, seed=seed)
    found = Trades.of(in_order(rollout.rows(TABLE, CFG)), CFG)
    tiles = np.arange(len(BOUNDS))
    policy = place(trades, BOUNDS, tiles, accounts=range(3, 4), seed=seed)
    length = (BOUNDS[:, 1] - BOUNDS[:, 0]).numpy()
    made = []
    for tile in tiles:
        other = found.tile == tile
        starts, number = policy.start[tile, 0], policy.number[tile, 0]
        order = number[starts < 2**62].numpy()
        made += order.tolist()
        if not len(order):
            assert not other.any()
            continue
        source = set(trades.tile[order])
        assert len(source) == 1
        assert sorted(order) == list(np.flatnonzero(trades.tile == source.copy().pop()))
        assert length[source.pop()] == length[tile]
        ends = starts[: len(order)].numpy() + trades.bars[order]
        meets = ends[:-1] == starts[1 : len(order)].numpy()
        meets &= trades.action[order[:-1], 0] == trades.action[order[1:], 0]
        merged = int((meets & (trades.bars[order[:-1]] == 1)).sum())
        assert other.sum() == len(order) - merged
        assert found.bars[other].sum() == trades.bars[order].sum() - meets.sum() + merged
        if not meets.any():
            assert found.bars[other].tolist() == trades.bars[order].tolist()
            assert found.action[other].tolist() == trades.action[order].tolist()
        assert (starts[: len(order)] >= BOUNDS[tile, 0]).all()
        assert (ends <= int(BOUNDS[tile, 1])).all()
    assert sorted(made) == list(range(len(trades)))


@pytest.mark.parametrize("rule", [mean_reversion, momentum])
def test_on_a_fair_market_luck_costs_what_the_orders_cost_whatever_the_policy_looks_at(rule):
    """Who buys after falls, or after rises, has no shadows that buy before them."""
    cfg = EnvConfig(
        window=8, episode_bars=60, workers=0, risk_pct=25.0, risk_multiples=[1.0],
        stop_step_bps=2500.0, stop_steps=1, take_profit_r=[0.0], allow_zero_costs=True,
        **dict.fromkeys(("taker_fee_bps", "maker_fee_bps"), 0.0),
        **dict.fromkeys(("slippage_bps", "stop_slippage_bps"), 0.0),
    )  # fmt: skip
    table = tick_table(60 * 150, seed=4, move=0.003, wick=0.5)
    bounds = split_tiles(table, cfg, "test")
    rollout = play_tiles(table, cfg, bounds, RulePolicy(rule, table, cfg))
    trades = Trades.of(in_order(rollout.rows(table, cfg)), cfg)
    drawn = np.log1p(draw_accounts(table, cfg, bounds, trades, draws=60).returns)
    moves = table.ohlcv[:, 3].log().diff()
    held = trades.bars.sum()
    noise = float(moves.std()) * held**0.5
    drift = float(moves.mean()) * (trades.bars * (trades.action[:, 0] - 1)).sum()
    lost = held * float(moves.var()) / 2
    assert drawn.mean() == pytest.approx(drift - lost, abs=0.5 * noise)
    assert drawn.std() == pytest.approx(noise, rel=0.4)


def test_turnover_and_holding_time_are_the_policy_s(trades):
    drawn = draw_accounts(TABLE, CFG, BOUNDS, trades, draws=50)
    assert drawn.trades == pytest.approx(len(trades), rel=0.1)
    bars = int((BOUNDS[:, 1] - BOUNDS[:, 0]).sum())
    assert drawn.exposure_fraction == pytest.approx(trades.bars.sum() / bars, rel=0.1)


def test_returns_of_all_accounts_are_those_of_the_rows_of_each(trades, monkeypatch):
    """However many are drawn, and however they are cut into parts."""
    drawn = draw_accounts(TABLE, CFG, BOUNDS, trades, draws=7, seed=5)
    for account in (0, 4, 6):
        rollout = play_account(TABLE, CFG, BOUNDS, trades, account=account, seed=5)
        metrics = measure(in_order(rollout.rows(TABLE, CFG)), CFG)
        assert metrics.total_return == pytest.approx(drawn.returns[account], rel=1e-12)
    monkeypatch.setattr(matched_random, "_LANES", 9)
    again = draw_accounts(TABLE, CFG, BOUNDS, trades, draws=3, seed=5)
    assert again.returns.tolist() == drawn.returns[:3].tolist()
    assert len(set(drawn.returns.tolist())) == 7


def test_a_ruined_account_stays_ruined(trades):
    cfg = dataclasses.replace(CFG, ruin_equity_frac=0.99, risk_pct=100.0)
    drawn = draw_accounts(TABLE, cfg, BOUNDS, trades, draws=5)
    rows = in_order(play_account(TABLE, cfg, BOUNDS, trades, account=2).rows(TABLE, cfg))
    assert rows["terminated"].any()
    assert measure(rows, cfg).total_return == pytest.approx(drawn.returns[2], rel=1e-12)


def test_a_bracket_that_is_hit_is_not_opened_again():
    """One long trade over the whole tile; the price falls through its stop at once."""
    falling = 10_000.0 - 30.0 * np.arange(60)
    rows = np.stack([falling, falling, falling - 30.0, falling - 30.0, np.full(60, 9.0)], 1)
    table, cfg = BarTable.from_arrays(rows), dataclasses.replace(CFG, episode_bars=50)
    bounds = split_tiles(table, cfg, "test")[:1]
    only = Trades(np.array([0]), np.array([30]), np.array([[2, 0, 0, 0]]))
    found = in_order(play_account(table, cfg, bounds, only, account=0).rows(table, cfg))
    assert completed_trades(found, cfg)["exit_reason"].tolist() == ["stop"]


def test_a_tile_of_fewer_bars_than_another_has_trades_keeps_its_own():
    bounds = torch.tensor([[10, 30], [40, 43], [50, 70]])
    trades = Trades(np.array([0] * 6 + [1]), np.ones(7, int), np.tile([2, 0, 0, 0], (7, 1)))
    policy = place(trades, bounds, np.arange(3), accounts=range(5), seed=0)
    made = policy.start < 2**62
    assert made[1].sum(-1).tolist() == [1] * 5
    assert (policy.number[1][made[1]] == 6).all()
    assert (made[0].sum(-1) + made[2].sum(-1)).tolist() == [6] * 5


def test_every_place_is_equally_likely():
    bounds = torch.tensor([[10, 16]])
    two = Trades(np.array([0, 0]), np.array([1, 3]), np.array([[2, 0, 0, 0], [0, 0, 0, 0]]))
    policy = place(two, bounds, np.array([0]), accounts=range(12_000), seed=1)
    seen = torch.cat([policy.start[0, :, :2] - 10, policy.number[0, :, :2]], -1)
    kinds, counts = seen.unique(dim=0, return_counts=True)
    # Two idle bars among three places: 6 ways, and two orders.
    assert len(kinds) == 12
    assert (counts - 1_000).abs().max() < 5 * 1_000**0.5


def test_whoever_knows_the_market_beats_its_own_trades_at_other_times():
    """The price jumps in one bar of a tile; the policy is long there, and only there."""
    move = np.zeros(200)
    move[[20, 60, 100, 140]] = 0.02
    close = np.round(10_000 * np.exp(np.cumsum(move)), 1)
    opens = np.r_[10_000.0, close[:-1]]
    table = BarTable.from_arrays(
        np.stack([opens, np.maximum(opens, close), np.minimum(opens, close), close, opens], 1)
    )
    bounds = split_tiles(table, CFG, "test")
    tiles = np.searchsorted(bounds[:, 1].numpy(), [20, 60, 100, 140])
    trades = Trades(tiles, np.full(4, 2), np.tile([2, 1, 9, 0], (4, 1)))
    drawn = draw_accounts(table, CFG, bounds, trades, draws=200)
    assert np.quantile(drawn.returns, 0.5) < 0.0 < drawn.returns.max()


def test_without_trades_nobody_does_anything():
    none = Trades(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4), int))
    drawn = draw_accounts(TABLE, CFG, BOUNDS, none, draws=4)
    assert drawn.returns.tolist() == [0.0] * 4
    assert (drawn.trades, drawn.exposure_fraction) == (0.0, 0.0)


def with_return(played, fraction):
    equity = dataclasses.replace(played.performance.equity, total_return_fraction=fraction)
    figures = dataclasses.replace(played.performance, equity=equity)
    return SimpleNamespace(trades=played.trades, performance=figures)


def test_a_policy_is_placed_among_the_means_of_its_seeds_shadows(monkeypatch):
    candidate = SimpleNamespace(table=TABLE, env=CFG, bounds=BOUNDS, device="cpu")
    times, played, shadows = tile_times(TABLE, BOUNDS), {}, {}
    for seed in (0, 1):
        rollout = play_tiles(TABLE, CFG, BOUNDS, RandomPolicy(CFG.num_actions, seed))
        rows = in_order(rollout.rows(TABLE, CFG))
        made, figures = Trades.of(rows, CFG), performance(rows, CFG, 60.0, times)
        trades = Trades(made.tile[::20], made.bars[::20], made.action[::20])
        played[f"seed {seed}"] = SimpleNamespace(trades=trades, performance=figures)
        shadows[7 + seed] = draw_accounts(TABLE, CFG, BOUNDS, trades, draws=20, seed=7 + seed)
    # To draw them once is enough.
    monkeypatch.setattr(matched_random, "draw_accounts", lambda *_, seed, **__: shadows[seed])
    returns = np.mean([drawn.returns for drawn in shadows.values()], axis=0)
    for rank in (0, 15):  # as good as so many shadows, and not as another one
        own = float(np.sort(returns)[rank])
        equal = {name: with_return(seed, own) for name, seed in played.items()}
        matched, curves = play_matched_random(candidate, equal, 20, 7)
        assert matched.policy_return_fraction == pytest.approx(own)
        assert matched.better_than_fraction == rank / 20
        assert matched.p_value == pytest.approx((1 + 20 - rank) / 21)
        assert f"less in {100 * rank / 20:.1f} % of 20 draws" in matched.sentence
    spread = [matched.low_return_fraction, matched.median_return_fraction]
    spread.append(matched.high_return_fraction)
    assert spread == pytest.approx(np.quantile(returns, [0.05, 0.5, 0.95]).tolist())
    # The curve that is drawn is the account in the middle, one for each seed.
    middle = int(np.argsort(returns)[10])
    ends = [curve.iloc[-1] - 1.0 for curve in curves.values()]
    assert ends == pytest.approx([drawn.returns[middle] for drawn in shadows.values()], rel=1e-9)
    counts = [seed.performance.trades.trades for seed in played.values()]
    assert matched.policy_trades == np.mean(counts)
