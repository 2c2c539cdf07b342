"""What happens within the bar: stops, take-profits and liquidations. Zero costs throughout.

Drawn for a long of 10 units from 10,000 with its stop at 9,900 and a take-profit at 10,200.
"""

import pytest

QUIET = (10_000, 10_000, 10_000, 10_000, 100)
CALM = (10_000, 10_010, 9_990, 10_000, 100)
TICK = 0.1


def test_a_wick_through_the_stop_exits_at_the_stop(play_free, check, side, at):
    rows = [QUIET, CALM, (9_990, 10_000, 9_850, 9_980, 100)]
    steps = play_free(rows, ["long", "long"], side=side)
    check(
        steps[1],
        exit_reason="stop",
        exit_units=-side * 10,
        exit_price=at(9_900),
        position=0,
        stop_price=None,
        cash=99_000,
        equity=99_000,
        heads=("direction",),
    )


@pytest.mark.parametrize(
    ("low", "stopped"),
    [
        (9_900.0, True),  # an exact touch
        (9_900.0 + 0.5e-6 * TICK, True),  # half the tolerance of a millionth of a tick
        (9_900.0 + 5e-6 * TICK, False),
        (9_900.01, False),
    ],
)
def test_a_stop_is_touched_in_ticks_with_a_tolerance(play_free, check, side, at, low, stopped):
    rows = [QUIET, CALM, (9_990, 10_000, low, 9_980, 100)]
    steps = play_free(rows, ["long", "long"], side=side)
    if stopped:
        check(steps[1], exit_reason="stop", exit_units=-side * 10, exit_price=at(9_900))
    else:
        check(steps[1], position=side * 10, stop_price=at(9_900))


def test_the_bar_of_the_entry_can_stop_the_position_out(play_free, check, side, at):
    rows = [QUIET, (10_000, 10_020, 9_880, 9_950, 100)]
    (step,) = play_free(rows, ["long"], side=side)
    check(
        step,
        requested_units=10,
        entry_units=side * 10,
        entry_fill_price=10_000,
        exit_reason="stop",
        exit_units=-side * 10,
        exit_price=at(9_900),
        position=0,
        cash=99_000,
    )


def test_the_bar_of_a_flip_can_stop_the_new_position_out(play_free, check, side, at):
    rows = [QUIET, CALM, (10_000, 10_120, 9_990, 10_050, 100)]
    steps = play_free(rows, ["long", "short"], side=side)
    check(
        steps[1],
        open_exit_reason="flip",
        open_exit_units=-side * 10,
        open_exit_price=10_000,
        requested_units=10,
        entry_units=-side * 10,
        entry_fill_price=10_000,
        exit_reason="stop",
        exit_units=side * 10,
        exit_price=at(10_100),
        position=0,
        cash=99_000,
    )


@pytest.mark.parametrize(
    ("through", "high", "filled"),
    [
        (1.0, 10_200.1, True),
        (1.0, 10_200.1 - 0.5e-6 * TICK, True),
        (1.0, 10_200.1 - 5e-6 * TICK, False),
        (1.0, 10_200.0, False),  # a touch is not enough: the queue ahead may take it all
        (0.0, 10_200.0, True),
        (0.0, 10_199.99, False),
        (5.0, 10_200.4, False),
        (5.0, 10_200.5, True),
    ],
)
def test_a_take_profit_needs_the_bar_to_trade_beyond_it(
    play_free, check, side, at, through, high, filled
):
    rows = [QUIET, CALM, (10_100, high, 10_090, 10_100, 100)]
    steps = play_free(rows, ["long tp2R", "long"], side=side, tp_through_ticks=through)
    if filled:
        check(
            steps[1],
            exit_reason="take_profit",
            exit_units=-side * 10,
            exit_price=at(10_200),
            take_profit_price=None,
            cash=102_000,
        )
    else:
        check(steps[1], position=side * 10, take_profit_price=at(10_200))


def test_the_bar_of_the_entry_can_reach_the_take_profit(play_free, check, side, at):
    rows = [QUIET, (10_000, 10_101, 9_990, 10_000, 100)]
    (step,) = play_free(rows, ["long tp1R"], side=side)
    check(
        step,
        requested_units=10,
        entry_units=side * 10,
        entry_fill_price=10_000,
        exit_reason="take_profit",
        exit_units=-side * 10,
        exit_price=at(10_100),
        cash=101_000,
    )


def test_without_a_take_profit_no_height_ends_the_position(play_free, check, side, at):
    rows = [QUIET, CALM, (10_100, 19_000, 10_090, 10_100, 100)]
    steps = play_free(rows, ["long", "long"], side=side)
    check(steps[1], position=side * 10, take_profit_price=None, equity=101_000)


def test_a_bar_that_touches_both_pays_the_stop(play_free, check, side, at):
    rows = [QUIET, CALM, (10_000, 10_300, 9_890, 10_250, 100)]
    steps = play_free(rows, ["long tp2R", "long"], side=side)
    check(steps[1], exit_reason="stop", exit_units=-side * 10, exit_price=at(9_900), cash=99_000)


def test_a_bar_that_opens_beyond_the_take_profit_never_reaches_the_stop(play_free, check, side, at):
    rows = [QUIET, CALM, (10_210, 10_220, 9_890, 9_895, 100)]
    steps = play_free(rows, ["long tp2R", "long"], side=side)
    check(
        steps[1],
        open_exit_reason="take_profit",
        open_exit_units=-side * 10,
        open_exit_price=at(10_200),
        cash=102_000,
        heads=(),
    )


@pytest.mark.parametrize(("side", "cash"), [(1, -3_900_000), (-1, 4_100_000)])
def test_the_liquidation_price_before_the_stop_is_met_first(play_free, check, side, cash):
    # long 400: liquidated at 9,789.16, before the stop at 9,750
    price = -cash / (side * 400 * (1 - side * 0.004))
    rows = [QUIET, CALM, (9_900, 9_950, 9_700, 9_900, 100)]
    params = {"risk_pct": 100.0, "max_leverage": 50.0}
    steps = play_free(rows, ["long x1 stop250", "long"], side=side, **params)
    check(
        steps[1],
        exit_reason="liquidation",
        exit_units=-side * 400,
        exit_price=price,
        position=0,
        cash=cash + side * 400 * price,  # the maintenance margin: 0.4 % of the notional is left
    )


def test_the_stop_before_the_liquidation_price_is_met_first(play_free, check, side, at):
    rows = [QUIET, CALM, (9_900, 9_950, 9_400, 9_900, 100)]  # 200 units: liquidation at 9,538.15
    params = {"risk_pct": 50.0, "max_leverage": 50.0}
    steps = play_free(rows, ["long x1 stop250", "long"], side=side, **params)
    check(steps[1], exit_reason="stop", exit_units=-side * 200, exit_price=at(9_750), cash=50_000)


@pytest.mark.parametrize(
    ("side", "initial_cash"),
    # 100 units; a liquidation price equal to the stop, at 0.4 % maintenance:
    # long (1,000,000 - 28,900) / (100 * 0.996) = 9,750
    # short (1,000,000 + 29,100) / (100 * 1.004) = 10,250
    [(1, 28_900.0), (-1, 29_100.0)],
)
def test_stop_and_liquidation_at_one_price_is_the_stop(play_free, check, side, initial_cash):
    rows = [QUIET, CALM, (9_900, 9_950, 9_700, 9_900, 100)]
    params = {"risk_pct": 100.0, "max_leverage": 50.0, "max_units": 100.0}
    steps = play_free(
        rows, ["long x1 stop250", "long"], side=side, initial_cash=initial_cash, **params
    )
    check(
        steps[1],
        exit_reason="stop",
        exit_units=-side * 100,
        exit_price=10_000 - side * 250,
        cash=initial_cash - 25_000,
    )


def test_liquidation_and_take_profit_in_one_bar_is_the_liquidation(play_free, check, side):
    rows = [QUIET, CALM, (9_900, 11_000, 9_780, 9_900, 100)]
    params = {"risk_pct": 100.0, "max_leverage": 50.0}
    step = play_free(rows, ["long x1 stop250 tp1R", "long"], side=side, **params)[1]
    assert step.exit_reason == "liquidation"


def test_the_bar_of_the_entry_can_liquidate_the_position(play_free, check, side):
    rows = [QUIET, (10_000, 10_010, 9_780, 9_900, 100)]
    params = {"risk_pct": 100.0, "max_leverage": 50.0}
    (step,) = play_free(rows, ["long x1 stop250"], side=side, **params)
    assert (step.exit_reason, step.exit_units) == ("liquidation", -side * 400)


def test_a_position_that_left_within_the_bar_can_be_reopened_in_the_next(play_free, check, side):
    rows = [QUIET, (10_000, 10_020, 9_880, 10_000, 100), CALM]
    steps = play_free(rows, ["long", "long"], side=side)
    check(
        steps[1],
        requested_units=9.9,  # 1 % of 99,000 / 100
        entry_units=side * 9.9,
        entry_fill_price=10_000,
        position=side * 9.9,
    )


def test_a_slow_decline_is_stopped_out_in_the_second_bar(play_free, check, side, at):
    # -20 a bar against a stop at -25 that no repeated action moves away
    rows = [
        QUIET,
        (10_000, 10_000, 9_980, 9_980, 100),
        (9_980, 9_980, 9_960, 9_960, 100),
        (9_960, 9_960, 9_940, 9_940, 100),
    ]
    steps = play_free(rows, ["long x0.5 stop25"] * 3, side=side)
    check(steps[0], requested_units=20, entry_units=side * 20, entry_fill_price=10_000)
    check(steps[1], exit_reason="stop", exit_units=-side * 20, exit_price=at(9_975), cash=99_500)
    assert steps[2].entry_fill_price == at(9_960)
