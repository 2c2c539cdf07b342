"""What happens at the open: carried exits first, then the action's orders. Zero costs throughout.

Drawn for a long of 10 units: 1 % of 100,000 risked on a stop 100 bps from an entry at 10,000.
"""

import pytest

QUIET = (10_000, 10_000, 10_000, 10_000, 100)
CALM = (10_000, 10_010, 9_990, 10_000, 100)  # an entry bar that touches nothing
# 400 units on an equity of 100,000, forty times it: the liquidation price is nearer than the stop.
FORTYFOLD = {"risk_pct": 100.0, "max_leverage": 50.0}


def test_a_flat_account_opens_at_the_next_open(play_free, check, side, at):
    rows = [QUIET, (10_000, 10_050, 9_950, 10_020, 100)]
    (step,) = play_free(rows, ["long x1 stop100 tp2R"], side=side)
    check(
        step,
        requested_units=10,  # 1 % of 100,000 / 100
        entry_units=side * 10,
        entry_fill_price=10_000,
        position=side * 10,
        entry_price=10_000,
        stop_price=at(9_900),
        take_profit_price=at(10_200),  # two stop distances
        cash=100_000 - side * 10 * 10_000,
        equity=100_000 + 10 * 20,
        heads=("direction", "size", "stop_loss", "take_profit"),
    )


def test_the_fill_is_at_the_open_not_at_the_close_that_was_seen(play_free, check):
    rows = [QUIET, (10_100, 10_120, 10_090, 10_110, 100)]
    (step,) = play_free(rows, ["long x1 stop100"])
    units = 9.90099009  # 1,000 / 101 = 9.900990099..., floored to 1e-8
    check(
        step,
        requested_units=1_000 / 101,
        entry_units=units,
        entry_fill_price=10_100,
        stop_price=9_999,  # 10,100 - 101: a hundredth of the fill price, not of the close seen
        take_profit_price=None,
        cash=100_000 - units * 10_100,
        equity=100_000 + units * 10,
    )


def test_flat_on_a_flat_account_does_nothing(play_free, check):
    (step,) = play_free([QUIET, CALM], ["flat x2 stop25 tp3R"])
    check(step, cash=100_000, position=0, equity=100_000, reward=0, heads=("direction",))


def test_the_same_direction_holds_and_leaves_size_and_bracket_alone(play_free, check, side, at):
    rows = [QUIET, CALM, (10_030, 10_060, 10_000, 10_050, 100)]
    steps = play_free(rows, ["long x1 stop100 tp2R", "long x2 stop25 tp1R"], side=side)
    check(
        steps[1],
        position=side * 10,
        entry_price=10_000,
        stop_price=at(9_900),
        take_profit_price=at(10_200),
        equity=100_500,
        heads=("direction",),
    )


def test_a_hold_never_adds_to_a_position_that_was_clipped(play_free, check, side):
    rows = [(10_000, 10_000, 10_000, 10_000, 5), (*CALM[:4], 1_000), CALM]
    steps = play_free(rows, ["long", "long x2"], side=side, max_participation=1.0)
    check(steps[1], position=side * 5, heads=("direction",))


def test_direction_flat_closes_at_the_open(play_free, check, side, at):
    rows = [QUIET, CALM, (10_030, 10_060, 10_000, 10_050, 100)]
    steps = play_free(rows, ["long tp2R", "flat"], side=side)
    check(
        steps[1],
        open_exit_reason="signal",
        open_exit_units=-side * 10,
        open_exit_price=at(10_030),
        position=0,
        entry_price=None,
        stop_price=None,
        take_profit_price=None,
        cash=100_300,
        equity=100_300,
        heads=("direction",),
    )


@pytest.mark.parametrize(
    ("side", "fill", "distance", "units"),
    [
        (1, 10_100, 101, 10.0),  # long 10 closed at +1,000; 1 % of 101,000 / 101
        (-1, 9_900, 99, 10.20202020),  # short 10 closed at +1,000; 1,010 / 99 = 10.2020202020...
    ],
)
def test_the_opposite_direction_flips_at_one_open_sized_on_the_cash_after(
    play_free, check, side, fill, distance, units
):
    rows = [QUIET, CALM, (10_100, 10_110, 10_080, 10_090, 100)]
    steps = play_free(rows, ["long x1 stop100", "short x1 stop100 tp1R"], side=side)
    check(
        steps[1],
        open_exit_reason="flip",
        open_exit_units=-side * 10,
        open_exit_price=fill,
        requested_units=1_010 / distance,
        entry_units=-side * units,
        entry_fill_price=fill,
        position=-side * units,
        stop_price=fill + side * distance,
        take_profit_price=fill - side * distance,
        cash=101_000 + side * units * fill,
        equity=101_000 + units * 10,  # the new position gained ten from open to close
        heads=("direction", "size", "stop_loss", "take_profit"),
    )


def test_a_flip_whose_new_order_is_too_small_still_closes(play_free, check, side, at):
    rows = [QUIET, CALM, (10_000, 10_010, 9_990, 10_005, 100)]
    steps = play_free(rows, ["long x2", "short x0.5"], side=side, min_units=8.0)
    check(
        steps[1],
        open_exit_reason="flip",
        open_exit_units=-side * 20,
        open_exit_price=10_000,
        requested_units=5,
        position=0,
        equity=100_000,
        heads=("direction", "size", "stop_loss", "take_profit"),
    )


@pytest.mark.parametrize("ticket", ["long x2 stop25", "flat", "short x1 stop50 tp1R"])
@pytest.mark.parametrize("opens", [9_900, 9_800, 9_100])
def test_a_carried_stop_that_the_open_reached_exits_at_the_open_and_orders_nothing(
    play_free, check, side, at, opens, ticket
):
    rows = [QUIET, CALM, (opens, opens + 50, opens - 20, opens + 40, 100)]
    steps = play_free(rows, ["long", ticket], side=side)
    check(
        steps[1],
        open_exit_reason="stop",
        open_exit_units=-side * 10,
        open_exit_price=at(opens),
        position=0,
        cash=100_000 - 10 * (10_000 - opens),
        equity=100_000 - 10 * (10_000 - opens),
        heads=(),
    )


def test_an_open_a_cent_short_of_the_stop_does_not_exit(play_free, check, side, at):
    rows = [QUIET, CALM, (9_900.01, 9_950, 9_900.01, 9_940, 100)]
    steps = play_free(rows, ["long", "flat"], side=side)
    check(
        steps[1],
        open_exit_reason="signal",
        open_exit_units=-side * 10,
        open_exit_price=at(9_900.01),
    )


@pytest.mark.parametrize("opens", [10_200.1, 10_200.5, 10_600])
def test_a_carried_take_profit_that_the_open_passed_fills_at_its_own_price(
    play_free, check, side, at, opens
):
    rows = [QUIET, CALM, (opens, opens + 50, opens - 20, opens + 40, 100)]
    steps = play_free(rows, ["long tp2R", "short"], side=side)
    check(
        steps[1],
        open_exit_reason="take_profit",
        open_exit_units=-side * 10,
        open_exit_price=at(10_200),
        position=0,
        cash=102_000,
        heads=(),
    )


@pytest.mark.parametrize("opens", [10_200, 10_200.05])
def test_an_open_less_than_a_tick_beyond_the_take_profit_leaves_the_action_its_order(
    play_free, check, side, at, opens
):
    rows = [QUIET, CALM, (opens, opens, 10_100, 10_150, 100)]
    steps = play_free(rows, ["long tp2R", "flat"], side=side)
    check(
        steps[1],
        open_exit_reason="signal",
        open_exit_units=-side * 10,
        open_exit_price=at(opens),
        heads=("direction",),
    )


@pytest.mark.parametrize(("through", "opens"), [(0.0, 10_200), (5.0, 10_200.5)])
def test_how_far_the_open_must_pass_a_take_profit_is_configured(
    play_free, check, side, at, through, opens
):
    rows = [QUIET, CALM, (opens, opens, 10_100, 10_150, 100)]
    steps = play_free(rows, ["long tp2R", "flat"], side=side, tp_through_ticks=through)
    check(
        steps[1],
        open_exit_reason="take_profit",
        open_exit_units=-side * 10,
        open_exit_price=at(10_200),
        heads=(),
    )


@pytest.mark.parametrize(
    ("side", "liquidation"),
    # long 400: cash -3,900,000, 3.9e6 / (400 * 0.996); short: 4.1e6 / (400 * 1.004)
    [(1, 9_789.16), (-1, 10_209.16)],
)
def test_an_open_past_the_liquidation_price_liquidates_at_the_open(
    play_free, check, side, liquidation
):
    opens = 9_780 if side == 1 else 10_220  # past the liquidation price, short of the stop
    assert (opens - liquidation) * side < 0
    rows = [QUIET, CALM, (9_780, 9_900, 9_775, 9_890, 100)]
    steps = play_free(rows, ["long x1 stop250", "short"], side=side, **FORTYFOLD)
    check(
        steps[1],
        open_exit_reason="liquidation",
        open_exit_units=-side * 400,
        open_exit_price=opens,
        position=0,
        cash=100_000 - 400 * 220,
        heads=(),
    )


def test_liquidation_at_the_open_comes_before_a_stop_that_was_passed_too(
    play_free, check, side, at
):
    rows = [QUIET, CALM, (9_749, 9_900, 9_700, 9_890, 100)]  # the stop is at 9,750
    steps = play_free(rows, ["long x1 stop250", "flat"], side=side, **FORTYFOLD)
    check(
        steps[1],
        open_exit_reason="liquidation",
        open_exit_units=-side * 400,
        open_exit_price=at(9_750),  # the equity is gone there: 100,000 / 400 = 250 from the entry
        slippage_cost=-400 * 1,  # a unit better than the reference, the open
        position=0,
        cash=0,
        equity=0,
        terminated=True,
        heads=(),
    )


def test_an_open_between_stop_and_liquidation_price_is_a_stop(play_free, check, side, at):
    # 200 units: liquidation at 9,538.15 (short 10,458.17), the stop at 9,750 comes first.
    rows = [QUIET, CALM, (9_600, 9_650, 9_545, 9_600, 100)]
    params = {"risk_pct": 50.0, "max_leverage": 50.0}
    steps = play_free(rows, ["long x1 stop250", "flat"], side=side, **params)
    check(
        steps[1],
        open_exit_reason="stop",
        open_exit_units=-side * 200,
        open_exit_price=at(9_600),
        cash=100_000 - 200 * 400,
        heads=(),
    )


def test_after_an_exit_at_the_open_the_next_bar_may_be_traded(play_free, check, side, at):
    rows = [QUIET, CALM, (9_800, 9_850, 9_790, 9_800, 100), (9_800, 9_810, 9_790, 9_800, 100)]
    steps = play_free(rows, ["long", "long", "flat"], side=side)
    check(steps[2], position=0, cash=98_000, heads=("direction",))
    again = play_free(rows, ["long", "long", "long"], side=side)[2]
    distance = at(9_800) / 100
    units = int(980 / distance * 1e8 + 1e-6) / 1e8
    check(
        again,
        requested_units=980 / distance,
        entry_units=side * units,
        entry_fill_price=at(9_800),
        heads=("direction", "size", "stop_loss", "take_profit"),
    )
