"""What a fill costs: its reference, slippage, the tick, the fee, and what the reward sees of it."""

import itertools
import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import pytest

QUIET = (10_000, 10_000, 10_000, 10_000, 100)
CALM = (10_000, 10_010, 9_990, 10_000, 100)


def test_the_fee_of_100_000_at_two_basis_points_is_twenty(play_free, check, side):
    (step,) = play_free([QUIET, CALM], ["long"], side=side, taker_fee_bps=2.0)
    check(
        step,
        requested_units=10,
        entry_units=side * 10,
        entry_fill_price=10_000,
        fee=20.00,
        equity=99_980,
        reward=100 * math.log(0.9998),  # at an unmoved price: the fee, and once
    )


# The default costs, both sides -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "entry", "distance", "units", "stop", "target"),
    [
        # 10,000 * 1.0005; 1 %; 1,000 / 100.05 = 9.995002498...; 9,904.95 down; 10,205.1
        (1, 10_005.0, 100.05, 9.99500249, 9_904.9, 10_205.1),
        # 10,000 * 0.9995; 1 %; 1,000 / 99.95 = 10.005002501...; 10,094.95 up; 9,795.1
        (-1, 9_995.0, 99.95, 10.00500250, 10_095.0, 9_795.1),
    ],
)
def test_an_entry_under_the_default_costs(play, check, side, entry, distance, units, stop, target):
    (step,) = play([QUIET, CALM], ["long x1 stop100 tp2R"], side=side)
    fee = units * entry * 5e-4
    check(
        step,
        requested_units=1_000 / distance,
        entry_units=side * units,
        entry_fill_price=entry,
        fee=fee,
        slippage_cost=units * 5,
        entry_price=entry,
        stop_price=stop,
        take_profit_price=target,
        cash=100_000 - side * units * entry - fee,
        equity=100_000 - units * 5 - fee,
    )
    # prices on the tick's grid are the decimals of a file, bit for bit
    assert (step.entry_fill_price, step.stop_price, step.take_profit_price) == (entry, stop, target)


@pytest.mark.parametrize(
    ("side", "fill", "slipped"),
    [
        (1, 10_094.9, 5.1),  # 10,100 * 0.9995 = 10,094.95, a sale rounds down
        (-1, 9_905.0, 5.0),  # 9,900 * 1.0005 = 9,904.95, a purchase rounds up
    ],
)
def test_an_exit_by_signal_under_the_default_costs(play, check, side, fill, slipped):
    rows = [QUIET, CALM, (10_100, 10_110, 10_090, 10_100, 100)]
    steps = play(rows, ["long", "flat"], side=side)
    units = abs(steps[0].entry_units)
    check(
        steps[1],
        open_exit_reason="signal",
        open_exit_units=-side * units,
        open_exit_price=fill,
        fee=units * fill * 5e-4,
        slippage_cost=units * slipped,
        cash=steps[0].cash + side * units * fill - units * fill * 5e-4,
    )


@pytest.mark.parametrize(("side", "target"), [(1, 10_205.1), (-1, 9_795.1)], ids=["long", "short"])
def test_a_take_profit_pays_the_maker_fee_and_no_slippage(play, check, side, target):
    rows = [QUIET, CALM, (10_100, 10_300, 10_090, 10_100, 100)]
    steps = play(rows, ["long tp2R", "long"], side=side)
    units = abs(steps[0].entry_units)
    fee = units * target * 2e-4
    check(
        steps[1],
        exit_reason="take_profit",
        exit_units=-side * units,
        exit_price=target,
        fee=fee,
        cash=steps[0].cash + side * units * target - fee,
    )


def test_a_take_profit_at_the_open_pays_the_maker_fee_too(play, check):
    rows = [QUIET, CALM, (10_300, 10_300, 10_090, 10_100, 100)]
    steps = play(rows, ["long tp2R", "long"])
    check(
        steps[1],
        open_exit_reason="take_profit",
        open_exit_units=-9.99500249,
        open_exit_price=10_205.1,
        fee=9.99500249 * 10_205.1 * 2e-4,
    )


# Which slippage: 3 bps for orders, 7 for stops and liquidations; the tick is 0.1 -----------------

UNEQUAL = {"slippage_bps": 3.0, "stop_slippage_bps": 7.0}


def test_orders_and_exits_by_signal_use_slippage_bps(play):
    steps = play([QUIET, CALM, CALM], ["long", "flat"], **UNEQUAL)
    assert steps[0].entry_fill_price == 10_003.0
    assert steps[1].open_exit_price == 9_997.0


def test_both_fills_of_a_flip_use_slippage_bps(play, check):
    (_, step) = play([QUIET, CALM, CALM], ["short", "long"], **UNEQUAL)
    assert (step.open_exit_price, step.entry_fill_price) == (10_003.0, 10_003.0)
    bought = step.open_exit_units + step.entry_units
    assert step.slippage_cost == pytest.approx(bought * 3, rel=1e-9)
    assert step.fee == pytest.approx(bought * 10_003 * 5e-4, rel=1e-9)


def test_the_end_uses_slippage_bps(play):
    (step,) = play([QUIET, CALM], ["short"], flatten_at_end=True, **UNEQUAL)
    assert (step.exit_reason, step.exit_price) == ("end", 10_003.0)


def test_ruin_uses_slippage_bps(play):
    params = {"risk_pct": 100.0, "max_leverage": 25.0, "stop_step_bps": 100.0, **UNEQUAL}
    rows = [QUIET, CALM, (9_900, 9_950, 9_552, 9_555, 100)]
    step = play(rows, ["long x2 stop1000", "long"], **params)[1]
    assert (step.exit_reason, step.exit_price) == ("ruin", 9_552.1)  # 9,552.1335 down


@pytest.mark.parametrize(
    ("side", "stop", "fill"),
    [
        (1, 9_902.9, 9_895.9),  # stop 10,003 - 100.03 = 9,902.97 down; * 0.9993 = 9,895.96797
        (-1, 10_097.0, 10_104.1),  # 9,997 + 99.97 = 10,096.97 up; * 1.0007 = 10,104.0679
    ],
)
def test_a_stop_uses_stop_slippage_bps(play, check, side, stop, fill):
    rows = [QUIET, CALM, (9_990, 9_999, 9_800, 9_850, 100)]
    steps = play(rows, ["long", "long"], side=side, **UNEQUAL)
    assert steps[0].stop_price == stop
    units = abs(steps[0].entry_units)
    check(
        steps[1],
        exit_reason="stop",
        exit_units=-side * units,
        exit_price=fill,
        fee=units * fill * 5e-4,
        slippage_cost=units * side * (stop - fill),
    )


def test_a_gapped_stop_slips_from_the_open(play, check):
    rows = [QUIET, CALM, (9_800, 9_850, 9_790, 9_800, 100)]
    steps = play(rows, ["long", "long"], **UNEQUAL)
    units, fill = steps[0].entry_units, 9_793.1  # 9,800 * 0.9993 = 9,793.14
    check(
        steps[1],
        open_exit_reason="stop",
        open_exit_units=-units,
        open_exit_price=fill,
        fee=units * fill * 5e-4,
        slippage_cost=units * 6.9,
    )


@pytest.mark.parametrize("side", [1, -1])
def test_a_liquidation_uses_stop_slippage_bps(play, side):
    params = {"risk_pct": 100.0, "max_leverage": 50.0, **UNEQUAL}
    rows = [QUIET, CALM, (9_900, 9_950, 9_700, 9_900, 100)]
    steps = play(rows, ["long x1 stop250", "long"], side=side, **params)
    before, step = steps[0], steps[1]
    price = -before.cash / (before.position * (1 - side * 0.004))
    raw = Decimal(price * (1 - side * 7e-4)) * 10
    rounding = ROUND_FLOOR if side == 1 else ROUND_CEILING
    fill = float(raw.to_integral_value(rounding) / 10)
    assert (step.exit_reason, step.exit_price) == ("liquidation", fill)
    slipped = before.position * (price - fill)
    assert step.slippage_cost == pytest.approx(slipped, rel=1e-7)


# Rounding to the tick ----------------------------------------------------------------------------


@pytest.mark.parametrize("tick", ["0.1", "0.01", "0.25", "0.5", "1", "5"])
def test_fills_are_rounded_against_the_account_unless_on_the_grid_already(play, tick):
    opens = [10_000, 10_020, 10_060, 9_999.5, 10_033.3, 10_000]
    rows = [QUIET, *((o, o, o, o, 100) for o in opens)]
    tickets = ["long", "short"] * 3
    for number, step in enumerate(play(rows, tickets, tick_size=float(tick))):
        exact = Decimal(str(opens[number]))
        if number % 2 == 0:  # bought
            exact *= Decimal("1.0005")
            lots = (exact / Decimal(tick)).to_integral_value(ROUND_CEILING)
        else:
            exact *= Decimal("0.9995")
            lots = (exact / Decimal(tick)).to_integral_value(ROUND_FLOOR)
        price = float(lots * Decimal(tick))  # a product within the tolerance is its decimal
        assert step.entry_fill_price == price
        assert step.open_exit_reason == ("flip" if number else "")
        assert step.open_exit_price == (price if number else None)


@pytest.mark.parametrize(
    ("opens", "fill"),
    # sold 8 bps lower, which floating point puts a hair under the tick: 97,421.99999999999 ticks
    [(9_125, 9_117.7), (9_750, 9_742.2), (10_375, 10_366.7), (11_000, 10_991.2)],
)
def test_a_fill_on_the_grid_stays_whatever_floating_point_makes_of_it(play, opens, fill):
    rows = [QUIET, (opens, opens, opens, opens, 100)]
    (step,) = play(rows, ["short"], slippage_bps=8.0)
    assert step.entry_fill_price == fill


def test_without_slippage_the_fill_is_the_reference_unrounded(play_free, check, side, at):
    rows = [QUIET, (10_000.03, 10_010, 9_990, 10_000, 100), (9_850.07, 9_860, 9_840, 9_850, 100)]
    steps = play_free(rows, ["long", "long"], side=side)
    assert steps[0].entry_fill_price == pytest.approx(at(10_000.03), rel=1e-15)
    assert steps[1].open_exit_price == pytest.approx(at(9_850.07), rel=1e-15)


def test_each_slippage_is_switched_off_by_itself(play):
    rows = [QUIET, (10_000.03, 10_010, 9_990, 10_000, 100), (9_850.07, 9_860, 9_840, 9_850, 100)]
    zero = {"allow_zero_costs": True}
    steps = play(rows, ["long", "long"], slippage_bps=0.0, **zero)
    assert steps[0].entry_fill_price == 10_000.03
    assert steps[1].open_exit_price == 9_845.1  # 9,850.07 * 0.9995 = 9,845.144965
    steps = play(rows, ["long", "long"], stop_slippage_bps=0.0, **zero)
    assert steps[0].entry_fill_price == 10_005.1  # 10,005.030015 up
    assert steps[1].open_exit_price == 9_850.07


# What costs add up to ----------------------------------------------------------------------------


def test_round_trips_at_an_unmoved_price_only_lose(play):
    trips, bps = 20, 5e-4
    steps = play([QUIET] * (2 * trips + 1), ["long x2 stop25", "flat"] * trips)
    equities = [100_000.0] + [step.equity for step in steps]
    assert all(later < earlier for earlier, later in itertools.pairwise(equities))
    # three times leverage (the cap), four costs of 5 bps a trip
    assert equities[-1] == pytest.approx(100_000 * (1 - 4 * bps * 3) ** trips, rel=2e-3)


@pytest.mark.parametrize(
    "dearer", [{"taker_fee_bps": 9.0}, {"maker_fee_bps": 9.0}, {"funding_bps_per_day": 90.0}]
)
def test_a_dearer_market_never_leaves_more(play, dearer):
    prices = [10_000, 10_030, 10_080, 10_010, 9_950, 9_940, 10_060, 10_150, 10_120, 10_000, 9_930]
    rows = [(a, max(a, b) + 15, min(a, b) - 15, b, 100) for a, b in itertools.pairwise(prices)]
    tickets = ["long stop25 tp1R", "short stop25 tp1R", "flat"] * 3
    params = {"max_units": 1.0, "interval_s": 3_600.0}  # one unit whatever the equity
    cheap = play([QUIET, *rows], tickets, **params)
    dear = play([QUIET, *rows], tickets, **params, **dearer)
    for a, b in zip(cheap, dear, strict=True):
        assert (a.entry_units, a.entry_fill_price, a.exit_price) == (
            b.entry_units,
            b.entry_fill_price,
            b.exit_price,
        )
        assert b.equity <= a.equity
    assert dear[-1].equity < cheap[-1].equity


def test_a_round_trip_without_costs_at_an_unmoved_price_is_free(play_free, side):
    for reason in ("flat", "short"):
        steps = play_free([QUIET] * 3, ["long", reason], side=side)
        assert steps[1].equity == pytest.approx(100_000, rel=1e-12)


def test_what_one_side_wins_the_other_loses(play_free):
    rows = [QUIET, CALM, (10_010, 10_080, 10_000, 10_070, 100), CALM]
    long = play_free(rows, ["long", "long", "flat"])
    short = play_free(rows, ["short", "short", "flat"])
    for a, b in zip(long, short, strict=True):
        assert (a.equity - 100_000) + (b.equity - 100_000) == pytest.approx(0, abs=1e-7)
