"""The reward: what is learned from is the equity that the account really has."""

import math

import pytest

QUIET = (10_000, 10_000, 10_000, 10_000, 100)
CALM = (10_000, 10_010, 9_990, 10_000, 100)
UP = (10_000, 10_110, 9_990, 10_100, 100)
DOWN = (10_100, 10_110, 10_040, 10_050, 100)


def test_the_reward_is_the_change_of_log_equity_in_percent(play_free, check, side):
    steps = play_free([QUIET, UP, DOWN], ["long", "long"], side=side)
    assert steps[0].reward == pytest.approx(100 * math.log(101_000 / 100_000), rel=1e-9)
    assert steps[1].reward == pytest.approx(100 * math.log(100_500 / 101_000), rel=1e-9)


def test_the_reward_scale_is_configured(play_free):
    (step,) = play_free([QUIET, UP], ["long"], reward_scale=7.0)
    assert step.reward == pytest.approx(7 * math.log(1.01), rel=1e-9)


def test_rewards_sum_to_the_change_of_log_equity_a_stop_on_the_last_bar_included(play, side):
    rows = [QUIET, UP, DOWN, (10_050, 10_060, 9_800, 9_990, 100)]
    steps = play(rows, ["long stop50", "flat", "long stop50"], side=side, flatten_at_end=True)
    assert steps[-1].exit_reason == "stop"
    total = sum(step.reward for step in steps)
    assert total == pytest.approx(100 * math.log(steps[-1].equity / 100_000), rel=1e-9)
    assert steps[-1].cash == steps[-1].equity


def test_the_terminal_reward_is_the_loss_and_nothing_else(play_free, side):
    rows = [QUIET, CALM, (9_900, 9_950, 9_545, 9_545, 100)]
    params = {"risk_pct": 100.0, "max_leverage": 25.0, "stop_step_bps": 100.0}
    steps = play_free(rows, ["long x2 stop1000", "long"], side=side, **params)
    assert steps[1].terminated
    assert steps[1].reward == pytest.approx(100 * math.log(0.09), rel=1e-9)


def test_the_log_stops_at_a_hundredth_of_the_initial_cash(play_free, check, side):
    # a gap through everything: the equity is 0, the reward that of a hundredth
    rows = [QUIET, CALM, (9_000, 9_050, 8_900, 9_000, 100)]
    params = {"risk_pct": 100.0, "max_leverage": 50.0}
    step = play_free(rows, ["long x1 stop250", "long"], side=side, **params)[1]
    assert step.equity == pytest.approx(0, abs=1e-7)
    assert step.reward == pytest.approx(100 * math.log(0.01), rel=1e-9)


def test_drawdown_is_measured_from_the_peak_of_closes(play_free, check, side):
    rows = [QUIET, UP, DOWN, (10_050, 10_160, 10_040, 10_150, 100)]
    steps = play_free(rows, ["long"] * 3, side=side)
    assert [s.drawdown for s in steps] == [
        pytest.approx(0, abs=1e-12),
        pytest.approx(1 - 100_500 / 101_000, rel=1e-9),  # not from the high of 101,100
        pytest.approx(0, abs=1e-12),
    ]


def test_the_first_peak_is_the_initial_cash(play_free, side):
    rows = [QUIET, (10_000, 10_010, 9_940, 9_950, 100)]
    (step,) = play_free(rows, ["long"], side=side)
    assert step.drawdown == pytest.approx(0.005, rel=1e-9)


def test_the_drawdown_penalty_takes_its_weight_of_the_increase(play_free, side):
    rows = [QUIET, UP, DOWN, (10_050, 10_160, 10_040, 10_150, 100)]
    plain = play_free(rows, ["long"] * 3, side=side)
    taxed = play_free(rows, ["long"] * 3, side=side, drawdown_penalty=0.5)
    taken = [a.reward - b.reward for a, b in zip(plain, taxed, strict=True)]
    assert taken[0] == pytest.approx(0, abs=1e-9)
    assert taken[1] == pytest.approx(0.5 * 100 * (1 - 100_500 / 101_000), rel=1e-9)
    assert taken[2] == pytest.approx(0, abs=1e-9)  # a recovery is not paid for


def test_the_turnover_penalty_takes_its_weight_of_the_notional_traded(play_free, side, at):
    rows = [QUIET, UP, (10_100, 10_110, 10_090, 10_100, 100), CALM]
    tickets = ["long", "short", "short"]
    plain = play_free(rows, tickets, side=side, trailing=False)
    taxed = play_free(rows, tickets, side=side, turnover_penalty=0.25)
    taken = [a.reward - b.reward for a, b in zip(plain, taxed, strict=True)]
    flip = (10 + abs(plain[1].entry_units)) * at(10_100)
    assert taken[0] == pytest.approx(100 * 0.25 * 100_000 / 100_000, rel=1e-9)
    assert taken[1] == pytest.approx(100 * 0.25 * flip / 101_000, rel=1e-9)
    assert taken[2] == pytest.approx(0, abs=1e-9)


def test_terms_of_the_reward_change_no_money(play, side):
    rows = [QUIET, UP, DOWN]
    plain = play(rows, ["long", "short"], side=side)
    taxed = play(rows, ["long", "short"], side=side, drawdown_penalty=1.0, turnover_penalty=1.0)
    assert [s.equity for s in plain] == [s.equity for s in taxed]
