"""What an agent may see: its account in numbers without a currency, and nothing of the future."""

import math

import numpy as np
import pytest
import torch

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import HEADS
from envs.market import MarketEnv
from random_walk import draw_ticks

QUIET = (10_000, 10_000, 10_000, 10_000, 100)
CALM = (10_000, 10_010, 9_990, 10_000, 100)
UP = (10_000, 10_090, 9_990, 10_080, 100)


def approx(value):
    """Observations are float32."""
    return pytest.approx(value, rel=1e-5, abs=1e-7)


def test_a_fresh_account_is_all_zeros():
    table = BarTable.from_arrays(np.array([QUIET, CALM], dtype=float))
    env = MarketEnv(table, EnvConfig(paths=1, accounts=3, workers=0), starts=torch.tensor([[0, 1]]))
    td = env.reset()
    assert td["account"].dtype == torch.float32
    assert td["account"].shape == (1, 3, 8)
    assert not td["account"].any()
    assert td["bar"].dtype == torch.int64
    assert td["bar"].flatten().tolist() == [0, 0, 0]


def test_the_account_of_a_winning_position(play_free, side, at):
    steps = play_free([QUIET, UP, CALM], ["long x1 stop100 tp2R"] * 2, side=side)
    seen = steps[0].account
    step_of_close = at(10_080) * 25e-4
    assert seen == {
        "side": side,
        "log_equity": approx(math.log(100_800 / 100_000)),
        "drawdown": approx(0),
        "margin_use": approx(10 * at(10_080) / (100_800 * 3)),  # of the limit of three
        "open_profit_r": approx(0.8),  # 80 of the stop distance of 100
        "stop_distance_steps": approx(180 / step_of_close),
        "take_profit_distance_steps": approx(120 / step_of_close),
        "held_fraction": approx(1 / 240),
    }
    assert steps[1].account["held_fraction"] == approx(2 / 240)
    assert steps[1].account["open_profit_r"] == approx(0)
    assert steps[1].account["drawdown"] == approx(1 - 100_000 / 100_800)


def test_the_account_of_a_losing_position_without_a_take_profit(play_free, side, at):
    rows = [QUIET, (10_000, 10_010, 9_940, 9_950, 100)]
    (step,) = play_free(rows, ["long"], side=side)
    assert step.account["log_equity"] == approx(math.log(0.995))
    assert step.account["drawdown"] == approx(0.005)
    assert step.account["open_profit_r"] == approx(-0.5)
    assert step.account["stop_distance_steps"] == approx(50 / (at(9_950) * 25e-4))
    assert step.account["take_profit_distance_steps"] == 0


def test_open_profit_is_before_fees_in_distances_of_the_entry(play):
    (step,) = play([QUIET, UP], ["long x1 stop100"])
    assert step.account["open_profit_r"] == approx((10_080 - 10_005) / 100.05)


def test_a_flat_account_shows_its_history_in_two_numbers_only(play_free, side):
    rows = [QUIET, (10_000, 10_010, 9_880, 9_950, 100)]
    (step,) = play_free(rows, ["long tp1R"], side=side)
    zero = dict.fromkeys(step.account, 0.0)
    assert step.account == zero | {"log_equity": approx(math.log(0.99)), "drawdown": approx(0.01)}


def test_log_equity_is_clipped_at_three(play_free):
    # 99 % of the equity is gone: log 0.01 is -4.6
    rows = [QUIET, CALM, (9_000, 9_050, 8_900, 9_000, 100)]
    params = {"risk_pct": 100.0, "max_leverage": 50.0}
    steps = play_free(rows, ["long x1 stop250", "long"], **params)
    assert steps[1].account["log_equity"] == -3
    # and the other end: forty times the equity in a rise by sixty percent
    rows = [QUIET, CALM, (16_000, 16_050, 15_900, 16_000, 100)]
    steps = play_free(rows, ["long x1 stop250", "long"], **params)
    assert steps[1].equity == pytest.approx(2_500_000, rel=1e-12)
    assert steps[1].account["log_equity"] == 3


def test_bars_held_stop_counting_at_one(play_free, side):
    steps = play_free([QUIET, CALM, CALM, CALM, CALM], ["long"] * 4, side=side, episode_bars=3)
    assert [s.account["held_fraction"] for s in steps] == [approx(1 / 3), approx(2 / 3), 1, 1]


def test_a_flip_counts_its_bars_anew(play_free, side):
    steps = play_free([QUIET, CALM, CALM], ["long", "short"], side=side)
    assert steps[1].account["held_fraction"] == approx(1 / 240)
    assert steps[1].account["side"] == -side


def test_the_size_of_the_account_in_dollars_cannot_be_seen(play, side):
    rows = [QUIET, UP, CALM, (10_000, 10_010, 9_890, 9_950, 100), CALM]
    tickets = ["long x2 stop50 tp3R", "short x1 stop100", "short", "long x0.5"]
    seen = {}
    for cash in (1_000.0, 100_000.0, 1e9):
        steps = play(rows, tickets, side=side, initial_cash=cash)
        seen[cash] = [list(s.account.values()) for s in steps]
    for cash in (1_000.0, 1e9):
        np.testing.assert_allclose(seen[cash], seen[100_000.0], rtol=1e-5, atol=1e-6)


def test_how_many_bars_are_left_cannot_be_seen(play, side):
    rows = [QUIET, UP, CALM, *[CALM] * 20]
    short = play(rows, ["long", "long"], side=side, last=5)
    long = play(rows, ["long", "long"], side=side, last=22)
    for a, b in zip(short, long, strict=True):
        assert a.account == b.account
        assert a.reward == b.reward


# The future --------------------------------------------------------------------------------------


def play_random(rows, seed=0):
    """Bars, accounts and fills of random actions on the given bars."""
    cfg = EnvConfig(paths=1, accounts=16, workers=0, max_participation=0.5, trailing=True)
    env = MarketEnv(BarTable.from_arrays(rows), cfg, starts=torch.tensor([[0, len(rows) - 1]]))
    torch.manual_seed(seed)
    return env.rollout(len(rows) - 1, break_when_any_done=False)["next"]


@pytest.mark.parametrize("seen", [10, 25, 39])
def test_bars_after_the_decision_change_nothing_up_to_it(seen):
    rows = draw_ticks(60, seed=1, move=500)
    other = rows.copy()
    other[seen + 1 :] = draw_ticks(60, seed=2, move=500)[seen + 1 :]
    other[seen + 1 :, 4] *= 7
    a, b = play_random(rows), play_random(other)
    for key in ("bar", "account", "fills", "reward", "ledger", "head_used"):
        left, right = a[key][..., :seen, :], b[key][..., :seen, :]
        assert torch.equal(left.nan_to_num(-1), right.nan_to_num(-1)), key
    assert not torch.equal(a["account"][..., seen, :], b["account"][..., seen, :])


def test_the_volume_of_the_bar_of_execution_sizes_nothing(play):
    rows = [QUIET, CALM, CALM]
    thin = [QUIET, (*CALM[:4], 1e-3), CALM]
    a = play(rows, ["long"], max_participation=0.05)
    b = play(thin, ["long"], max_participation=0.05)
    assert a[0].entry_units == b[0].entry_units == 5.0


def test_money_is_float64_and_what_is_learned_from_float32():
    data = play_random(draw_ticks(10, move=500))
    assert data["ledger"].dtype == data["fills"].dtype == torch.float64
    assert data["account"].dtype == data["reward"].dtype == torch.float32


def test_heads_that_were_not_read_do_not_matter(indices, actions):
    rows = draw_ticks(40, seed=5, move=500)
    cfg = EnvConfig(paths=1, accounts=2, workers=0)
    env = MarketEnv(BarTable.from_arrays(rows), cfg, starts=torch.tensor([[0, 39]]))
    torch.manual_seed(1)
    td = env.reset()
    for _ in range(39):
        drawn = env.full_action_spec.rand()["action"][0, 0].to_dict()
        first = {h: int(drawn[h]) for h in HEADS}
        td["action"] = actions([first, first], (1, 2))
        used = env.step(td.clone())["next", "head_used"][0, 0].tolist()
        second = {
            h: first[h] if u else (first[h] + 1) % cfg.num_actions[h]
            for h, u in zip(HEADS, used, strict=True)
        }
        td["action"] = actions([first, second], (1, 2))
        td = env.step(td)["next"]
        fills = td["fills"].nan_to_num(-1)
        assert torch.equal(fills[0, 0], fills[0, 1])
