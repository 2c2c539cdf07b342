"""Momentum and mean reversion on closes drawn by hand."""

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import LEDGER
from pipelines.held_out.rollout import play_tiles, split_tiles
from pipelines.held_out.technical_rules import RulePolicy, mean_reversion, momentum
from pipelines.judging.metrics import completed_trades, in_order

CFG = EnvConfig(window=8, episode_bars=40, workers=0)
# Seven moves of 1 % up or down: sum / (std sqrt(7)) is 1.069 for five up, 0.381 for four.
UP5, UP4 = [1, 1, -1, 1, 1, -1, 1], [1, -1, 1, -1, 1, -1, 1]


def table_of(closes):
    close = np.asarray(closes, dtype=np.float64)
    return BarTable.from_arrays(np.stack([close, close, close, close, np.ones_like(close)], 1))


def moved(signs):
    return 10_000 * np.exp(0.01 * np.cumsum([0, *signs]))


def side_of(rule, closes, held=0.0, bar=None):
    ledger = torch.zeros(1, 2, len(LEDGER), dtype=torch.float64)
    ledger[..., LEDGER.index("position")] = held
    bar = len(closes) - 1 if bar is None else bar
    state = TensorDict({"bar": torch.full((1, 2, 1), bar), "ledger": ledger}, [1, 2])
    direction = RulePolicy(rule, table_of(closes), CFG)(state)["action", "direction"]
    assert direction.unique().numel() == 1
    return int(direction[0, 0]) - 1


@pytest.mark.parametrize("held", [-2.0, 0.0, 3.0])
def test_momentum_goes_with_a_move_beyond_its_noise_and_else_keeps_what_it_holds(held):
    assert side_of(momentum, moved(UP5), held) == 1
    assert side_of(momentum, moved(-np.array(UP5)), held) == -1
    assert side_of(momentum, moved(UP4), held) == np.sign(held)
    assert side_of(momentum, [10_000.0] * 8, held) == np.sign(held)


def test_mean_reversion_waits_for_two_deviations_and_leaves_at_the_mean():
    far = [10_000.0] * 7 + [10_100.0]  # z = sqrt(7), whatever the jump
    assert side_of(mean_reversion, far) == -1
    assert side_of(mean_reversion, [*far[:7], 9_900.0]) == 1
    near = [10_000.0, 10_040.0, 9_960.0, 10_000.0, 10_040.0, 9_960.0, 10_000.0, 10_040.0]
    assert side_of(mean_reversion, near) == 0
    assert side_of(mean_reversion, near, held=-1.0) == -1
    assert side_of(mean_reversion, near, held=1.0) == 0
    assert side_of(mean_reversion, [10_000.0] * 8, held=1.0) == 0


@pytest.mark.parametrize("rule", [momentum, mean_reversion])
def test_rules_see_no_bar_that_is_not_closed_and_none_before_the_window(rule):
    rng = np.random.default_rng(0)
    for _ in range(50):
        closes = moved(rng.normal(0, 1, 30))
        other = closes.copy()
        other[21:] *= rng.uniform(0.5, 2.0, 10)
        other[:13] *= rng.uniform(0.5, 2.0, 13)
        assert side_of(rule, closes, bar=20) == side_of(rule, other, bar=20)


def test_on_a_trend_momentum_earns_and_mean_reversion_pays():
    rng = np.random.default_rng(1)
    table = table_of(np.round(moved(rng.normal(0.3, 0.3, 160)), 1))
    bounds = split_tiles(table, CFG, "test")

    def profit(rule):
        played = play_tiles(table, CFG, bounds, RulePolicy(rule, table, CFG))
        rows = in_order(played.rows(table, CFG))
        assert len(completed_trades(rows, CFG)) > 3
        return rows.groupby("tile")["equity"].last().sum() - CFG.initial_cash * len(bounds)

    assert profit(momentum) > 0 > profit(mean_reversion)
