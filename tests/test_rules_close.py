"""What happens at the close: funding, the mark, ruin, the end of an episode, the trailing stop."""

import math

import pytest

QUIET = (10_000, 10_000, 10_000, 10_000, 100)
CALM = (10_000, 10_010, 9_990, 10_000, 100)
EIGHT_HOURS = 28_800.0  # a third of a day
# 200 units from 10,000 on an equity of 100,000: ruined at 9,550, liquidated at 9,538.15 only.
TWENTYFOLD = {"risk_pct": 100.0, "max_leverage": 25.0, "stop_step_bps": 100.0}
BOLD = "long x2 stop1000"


# Funding -----------------------------------------------------------------------------------------


def test_funding_is_paid_by_both_sides_on_the_notional_at_the_close(play_free, check, side, at):
    rows = [QUIET, (10_000, 10_050, 9_950, 10_020, 100), (10_020, 10_050, 9_950, 10_040, 100)]
    params = {"funding_bps_per_day": 3.0, "interval_s": EIGHT_HOURS}
    steps = play_free(rows, ["long", "long"], side=side, **params)
    first, second = 10 * at(10_020) * 1e-4, 10 * at(10_040) * 1e-4  # 3 bps a day, a third of a day
    check(
        steps[0],
        requested_units=10,
        entry_units=side * 10,
        entry_fill_price=10_000,
        funding=first,
        cash=100_000 - side * 100_000 - first,
        equity=100_200 - first,
    )
    check(steps[1], funding=second, equity=100_400 - first - second)


def test_a_minute_of_funding_is_a_1440th_of_a_day(play_free, check, side):
    (step,) = play_free([QUIET, CALM], ["long"], side=side, funding_bps_per_day=3.0)
    assert step.funding == pytest.approx(100_000 * 3e-4 / 1_440, rel=1e-9)


def test_funding_of_a_flip_is_on_the_new_position(play_free, check, side, at):
    rows = [QUIET, CALM, CALM]
    params = {"funding_bps_per_day": 3.0, "interval_s": EIGHT_HOURS}
    steps = play_free(rows, ["long x1", "short x2"], side=side, **params)
    units = 19.998  # 2 % of 99,990 / 100: the first bar's funding of 10 is gone
    check(
        steps[1],
        open_exit_reason="flip",
        open_exit_units=-side * 10,
        open_exit_price=10_000,
        requested_units=units,
        entry_units=-side * units,
        entry_fill_price=10_000,
        funding=units * 10_000 * 1e-4,
        equity=99_990 - units,
    )


def test_what_left_before_the_close_pays_no_funding(play_free, check, side, at):
    rows = [QUIET, (10_000, 10_020, 9_880, 9_950, 100)]
    params = {"funding_bps_per_day": 3.0, "interval_s": EIGHT_HOURS}
    (step,) = play_free(rows, ["long"], side=side, **params)
    assert (step.exit_reason, step.funding, step.cash) == ("stop", 0, 99_000)


def test_a_position_closed_at_the_end_pays_its_last_funding(play_free, check, side):
    params = {"funding_bps_per_day": 3.0, "interval_s": EIGHT_HOURS, "flatten_at_end": True}
    (step,) = play_free([QUIET, CALM], ["long"], side=side, **params)
    assert step.exit_reason == "end"
    assert step.funding == pytest.approx(10, rel=1e-9)
    assert step.cash == pytest.approx(99_990, rel=1e-9)


# Ruin --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("close", [9_550, 9_545])
def test_a_mark_at_a_tenth_of_the_initial_cash_ruins(play_free, check, side, at, close):
    rows = [QUIET, CALM, (9_900, 9_950, 9_544, close, 100)]
    steps = play_free(rows, [BOLD, "long"], side=side, **TWENTYFOLD)
    equity = 100_000 - 200 * (10_000 - close)
    check(
        steps[1],
        exit_reason="ruin",
        exit_units=-side * 200,
        exit_price=at(close),
        position=0,
        stop_price=None,
        cash=equity,
        equity=equity,
        reward=100 * math.log(equity / 100_000),
        terminated=True,
        truncated=False,
    )


def test_a_mark_just_above_a_tenth_is_no_ruin(play_free, check, side):
    rows = [QUIET, CALM, (9_900, 9_950, 9_544, 9_550.01, 100), CALM]
    steps = play_free(rows, [BOLD, "long"], side=side, **TWENTYFOLD)
    check(steps[1], position=side * 200, equity=10_002)


def test_ruin_is_tested_at_the_close_not_at_the_low(play_free, check, side):
    rows = [QUIET, CALM, (9_900, 9_950, 9_542, 9_600, 100)]  # 8,400 at the low
    steps = play_free(rows, [BOLD, "long"], side=side, **TWENTYFOLD)
    check(steps[1], position=side * 200, equity=20_000)


def test_the_ruin_level_is_configured(play_free, check, side, at):
    rows = [QUIET, CALM, (9_900, 9_950, 9_700, 9_750, 100)]
    params = {**TWENTYFOLD, "ruin_equity_frac": 0.5}
    steps = play_free(rows, [BOLD, "long"], side=side, **params)
    check(
        steps[1],
        exit_reason="ruin",
        exit_units=-side * 200,
        exit_price=at(9_750),
        cash=50_000,
        terminated=True,
    )


def test_an_account_that_a_stop_left_with_too_little_is_ruined(play_free, check, side, at):
    # 95 units, stop at 9,000, liquidation at 8,983.30 (short: 11,000 and 11,008.60)
    rows = [QUIET, CALM, (9_200, 9_250, 8_990, 9_200, 100)]
    params = {"risk_pct": 95.0, "max_leverage": 20.0, "stop_step_bps": 100.0}
    steps = play_free(rows, ["long x1 stop1000", "long"], side=side, **params)
    check(
        steps[1],
        exit_reason="stop",
        exit_units=-side * 95,
        exit_price=at(9_000),
        cash=5_000,
        terminated=True,
    )


def test_closing_the_ruined_pays_costs_and_these_come_after_the_test(play, check):
    # entry at 10,005: 2,000 / 1,000.5 -> 199.9000499..., floored; liquidated at 9,547.94 only
    rows = [QUIET, CALM, (9_900, 9_950, 9_554, 9_555, 100)]
    steps = play(rows, [BOLD, "long"], **TWENTYFOLD)
    units, fill = 199.90004997, 9_550.2  # 9,555 * (1 - 5 bps) = 9,550.2225, down to the tick
    cash = 100_000 - units * 10_005 * (1 + 5e-4)
    assert cash + units * 9_555 < 10_000
    fee = units * fill * 5e-4
    check(
        steps[1],
        exit_reason="ruin",
        exit_units=-units,
        exit_price=fill,
        fee=fee,
        slippage_cost=units * (9_555 - fill),
        cash=cash + units * fill - fee,
        terminated=True,
    )


def test_funding_can_ruin(play_free, check, side, at):
    rows = [QUIET, (10_000, 10_000, 9_552.5, 9_552.5, 100)]
    params = {**TWENTYFOLD, "funding_bps_per_day": 3.0, "interval_s": 86_400.0}
    (step,) = play_free(rows, [BOLD], side=side, **params)
    funding = 200 * at(9_552.5) * 3e-4  # 573.15 for the long: the mark of 10,500 falls under 10,000
    assert (step.exit_reason, step.terminated) == ("ruin", True)
    assert step.equity == pytest.approx(10_500 - funding, rel=1e-9)


def test_an_equity_that_funding_took_below_zero_is_shown_as_it_is(play_free, check, side):
    # 400 units at one percent a day and a day a bar: 40,000 of funding on 16,800 of equity
    rows = [QUIET, (10_000, 10_000, 9_792, 9_792, 100)]
    params = {"risk_pct": 100.0, "max_leverage": 50.0, "funding_bps_per_day": 100.0}
    (step,) = play_free(rows, ["long x1 stop250"], side=side, interval_s=86_400.0, **params)
    funding = 400 * (10_000 - side * 208) * 1e-2
    assert step.exit_reason == "ruin"
    assert step.equity == pytest.approx(16_800 - funding, rel=1e-9)
    assert step.equity < 0
    assert step.reward == pytest.approx(100 * math.log(0.01), rel=1e-9)  # the floor of the reward


# The end of an episode ---------------------------------------------------------------------------


def test_in_training_the_last_position_stays_open(play_free, check, side):
    rows = [QUIET, (10_000, 10_060, 9_990, 10_050, 100)]
    (step,) = play_free(rows, ["long"], side=side)
    assert (step.truncated, step.terminated, step.exit_reason) == (True, False, "")
    assert step.position == side * 10
    assert step.equity == pytest.approx(100_500, rel=1e-9)


def test_in_evaluation_the_last_position_is_closed_at_the_close_with_costs(play, check):
    rows = [QUIET, (10_000, 10_060, 9_990, 10_050, 100)]
    (step,) = play(rows, ["long"], flatten_at_end=True)
    units, entry = 9.99500249, 10_005.0  # 1,000 / 100.05
    fill = 10_044.9  # 10,050 * (1 - 5 bps) = 10,044.975, down to the tick
    fee = units * (entry + fill) * 5e-4
    check(
        step,
        requested_units=1_000 / 100.05,
        entry_units=units,
        entry_fill_price=entry,
        exit_reason="end",
        exit_units=-units,
        exit_price=fill,
        fee=fee,
        slippage_cost=units * (5 + 5.1),
        position=0,
        cash=100_000 + units * (fill - entry) - fee,
        truncated=True,
    )


def test_an_account_that_is_flat_at_the_end_shows_no_exit(play_free, check):
    (step,) = play_free([QUIET, CALM], ["flat"], flatten_at_end=True)
    check(step, cash=100_000, truncated=True)


def test_a_stop_in_the_last_bar_is_a_stop_not_an_end(play_free, check, side, at):
    rows = [QUIET, CALM, (9_990, 10_000, 9_850, 9_980, 100)]
    steps = play_free(rows, ["long", "long"], side=side, flatten_at_end=True)
    check(
        steps[1],
        exit_reason="stop",
        exit_units=-side * 10,
        exit_price=at(9_900),
        truncated=True,
    )


def test_only_the_last_bar_ends(play_free, check, side):
    steps = play_free([QUIET, CALM, CALM], ["long", "long"], side=side, flatten_at_end=True)
    assert (steps[0].exit_reason, steps[0].truncated) == ("", False)
    assert (steps[1].exit_reason, steps[1].truncated) == ("end", True)


def test_ruin_takes_precedence_over_the_end(play_free, check, side, at):
    rows = [QUIET, CALM, (9_900, 9_950, 9_545, 9_550, 100)]
    steps = play_free(rows, [BOLD, "long"], side=side, flatten_at_end=True, **TWENTYFOLD)
    check(
        steps[1],
        exit_reason="ruin",
        exit_units=-side * 200,
        exit_price=at(9_550),
        terminated=True,
        truncated=False,
    )


def test_the_costs_of_the_end_cannot_ruin(play, check):
    rows = [QUIET, CALM, (9_900, 9_950, 9_545, 9_557.5, 100)]
    params = {**TWENTYFOLD, "slippage_bps": 0.0, "allow_zero_costs": True, "flatten_at_end": True}
    steps = play(rows, [BOLD, "long"], **params)
    # 200 units: 1,000 of fee at the entry, 10,500 on the mark, 955.75 of fee at the end
    check(
        steps[1],
        exit_reason="end",
        exit_units=-200,
        exit_price=9_557.5,
        fee=955.75,
        equity=9_544.25,
        terminated=False,
        truncated=True,
    )


# The trailing stop -------------------------------------------------------------------------------

RISE = (10_000, 10_060, 9_950, 10_055.57, 100)  # 100 below the close: 9,955.57


def test_the_trailing_stop_follows_the_close_from_the_next_bar_on(play_free, check, side, at):
    rows = [
        QUIET,
        RISE,  # its low is under the stop that its close sets
        (10_050, 10_052, 9_960, 9_990, 100),  # would be 9,890: not against the position
        (9_990, 9_999, 9_955.5, 9_980, 100),
    ]
    steps = play_free(rows, ["long", "long x2 stop25", "long"], side=side, trailing=True)
    check(
        steps[0],
        requested_units=10,
        entry_units=side * 10,
        entry_fill_price=10_000,
        stop_price=at(9_955.5),  # a long's rounded down, a short's up
        position=side * 10,
    )
    check(steps[1], stop_price=at(9_955.5), entry_price=10_000, position=side * 10)
    check(
        steps[2],
        exit_reason="stop",
        exit_units=-side * 10,
        exit_price=at(9_955.5),
        cash=100_000 - 10 * 44.5,
    )


def test_without_trailing_the_stop_stays(play_free, check, side, at):
    steps = play_free([QUIET, RISE, RISE], ["long", "long"], side=side)
    check(steps[1], stop_price=at(9_900))


def test_a_trailing_stop_past_the_entry_rounds_as_before_it(play_free, check, side, at):
    rows = [QUIET, (10_000, 10_301, 9_990, 10_300.07, 100)]
    (step,) = play_free(rows, ["long"], side=side, trailing=True)
    assert step.stop_price == pytest.approx(at(10_200.0), rel=1e-12)


def test_the_trailing_distance_is_a_price_fixed_at_the_entry(play_free, check, side, at):
    rows = [QUIET, (10_000, 11_010, 9_990, 11_000, 100)]
    (step,) = play_free(rows, ["long"], side=side, trailing=True)
    assert step.stop_price == pytest.approx(at(10_900), rel=1e-12)  # not 1 % of 11,000


def test_the_trailing_distance_is_unrounded(play, check):
    # entry 10,005, d = 100.05: the first stop is 9,904.95 -> 9,904.9, d stays 100.05
    rows = [QUIET, (10_000, 10_210, 9_990, 10_200.05, 100)]
    (step,) = play(rows, ["long"], trailing=True)
    assert step.stop_price == 10_100.0


def test_a_trailing_stop_leaves_the_take_profit_where_it_is(play_free, check, side, at):
    rows = [QUIET, RISE, (10_050, 10_060, 9_960, 10_055.57, 100)]
    steps = play_free(rows, ["long tp2R", "long"], side=side, trailing=True)
    check(steps[1], take_profit_price=at(10_200), stop_price=at(9_955.5))
