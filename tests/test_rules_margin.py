"""Margin: at which price a position is liquidated, what its fill costs, and what it cannot cost.

400 units from 10,000 on an equity of 100,000: long cash -3,900,000, short cash 4,100,000.
"""

import itertools

import pytest

QUIET = (10_000, 10_000, 10_000, 10_000, 100)
CALM = (10_000, 10_010, 9_990, 10_000, 100)
FORTYFOLD = {"risk_pct": 100.0, "max_leverage": 50.0}
BOLD = "long x1 stop250"


@pytest.mark.parametrize(
    ("side", "price"),
    [
        (1, 3_900_000 / (400 * (1 - 0.004))),  # -cash / (position * (1 - m))
        (-1, 4_100_000 / (400 * (1 + 0.004))),  # cash / (|position| * (1 + m))
    ],
)
def test_the_liquidation_price_leaves_the_maintenance_margin(play_free, check, side, price):
    rows = [QUIET, CALM, (9_950, 9_960, 9_789, 9_900, 100)]
    steps = play_free(rows, [BOLD, "long"], side=side, **FORTYFOLD)
    check(
        steps[1],
        exit_reason="liquidation",
        exit_units=-side * 400,
        exit_price=price,  # unrounded, as is every reference without slippage
        equity=0.004 * 400 * price,
    )


@pytest.mark.parametrize(("low", "liquidated"), [(9_789.2, False), (9_789.15, True)])
def test_a_price_short_of_the_liquidation_price_does_not_liquidate(play_free, low, liquidated):
    rows = [QUIET, CALM, (9_950, 9_960, low, 9_900, 100)]  # liquidation at 9,789.1566
    step = play_free(rows, [BOLD, "long"], **FORTYFOLD)[1]
    assert (step.exit_reason == "liquidation") == liquidated


@pytest.mark.parametrize(
    ("rate", "price"), [(0.001, 3_900_000 / (400 * 0.999)), (0.01, 3_900_000 / (400 * 0.99))]
)
def test_the_maintenance_margin_is_configured(play_free, rate, price):
    rows = [QUIET, CALM, (9_900, 9_960, 9_740, 9_900, 100)]
    step = play_free(rows, [BOLD, "long"], maintenance_margin_rate=rate, **FORTYFOLD)[1]
    assert step.exit_reason == "liquidation"
    assert step.exit_price == pytest.approx(price, rel=1e-12)


def test_a_long_that_owes_nothing_is_never_liquidated(play_free, check):
    # 9.9 units on 100,000: cash 1,000 is left, a price of 101 ruins nobody's lender
    rows = [QUIET, CALM, (9_990, 9_990, 101, 9_990, 100)]
    params = {"risk_pct": 98.01, "max_leverage": 1.0, "stop_step_bps": 990.0}
    steps = play_free(rows, ["long x1 stop9900"] * 2, **params)
    assert steps[0].cash == pytest.approx(1_000, rel=1e-9)
    check(steps[1], position=9.9, cash=1_000)


def test_a_short_is_liquidated_even_without_leverage(play_free, check):
    # 10 units short: cash 200,000, liquidated at 200,000 / 10.04 = 19,920.32, the stop at 19,950
    rows = [QUIET, CALM, (10_000, 19_930, 9_990, 10_000, 100)]
    params = {"risk_pct": 99.5, "stop_step_bps": 995.0}
    steps = play_free(rows, ["short x1 stop9950"] * 2, **params)
    price = 200_000 / (10 * 1.004)
    check(
        steps[1],
        exit_reason="liquidation",
        exit_units=10,
        exit_price=price,
        cash=200_000 - 10 * price,
        terminated=True,
    )


def test_liquidation_looks_at_the_whole_cash_funding_included(play_free):
    # 400 units pay 100 bps a day, an hour a bar: 1,666.67, which lifts the price by 4.18
    rows = [QUIET, CALM, (9_950, 9_960, 9_790, 9_900, 100)]
    params = {**FORTYFOLD, "interval_s": 3_600.0}
    assert play_free(rows, [BOLD, "long"], **params)[1].exit_reason == ""
    steps = play_free(rows, [BOLD, "long"], funding_bps_per_day=100.0, **params)
    owed = 3_900_000 + 400 * 10_000 * 1e-2 / 24
    assert steps[1].exit_reason == "liquidation"
    assert steps[1].exit_price == pytest.approx(owed / (400 * 0.996), rel=1e-12)


@pytest.mark.parametrize(
    ("side", "floor"),
    [
        (1, 3_900_000 / 400 / (1 - 5e-4)),  # -3.9e6 + 400 x - 400 x * 5 bps = 0
        (-1, 4_100_000 / 400 / (1 + 5e-4)),
    ],
)
def test_a_liquidation_never_takes_more_than_the_equity(play_free, check, side, floor, at):
    # only exits cost here: the entry fee is taken out of the initial cash by hand
    fee_in = 400 * 10_000 * 5e-4
    rows = [QUIET, CALM, (9_300, 9_350, 9_200, 9_300, 100)]
    params = {**FORTYFOLD, "taker_fee_bps": 5.0, "initial_cash": 100_000 + fee_in}
    steps = play_free(rows, [BOLD, "long"], side=side, max_units=400.0, **params)
    check(
        steps[1],
        open_exit_reason="liquidation",
        open_exit_units=-side * 400,
        open_exit_price=floor,  # not rounded to the tick
        fee=400 * floor * 5e-4,
        slippage_cost=-side * 400 * (floor - (10_000 - side * 700)),
        position=0,
        cash=0,
        equity=0,
        terminated=True,
        heads=(),
    )


def test_a_deeper_gap_never_leaves_more_and_never_less_than_nothing(play, side):
    left = []
    for gap in range(100, 900, 40):
        opens = 10_000 - gap
        rows = [QUIET, CALM, (opens, opens + 5, opens - 5, opens, 100)]
        left.append(play(rows, [BOLD, "flat"], side=side, **FORTYFOLD)[1].cash)
    assert all(b <= a + 1e-6 for a, b in itertools.pairwise(left))
    assert min(left) == pytest.approx(0, abs=1e-6)
    assert min(left) > -1e-6


def test_the_floor_is_no_gift_where_it_is_not_reached(play):
    # the ordinary fill of a gapped liquidation: open less slippage, rounded, the fee on that price
    rows = [QUIET, CALM, (9_795, 9_800, 9_790, 9_795, 100)]
    steps = play(rows, [BOLD, "flat"], **FORTYFOLD)
    before, step = steps
    assert step.open_exit_reason == "liquidation"
    assert step.open_exit_price == 9_790.1  # 9,795 * 0.9995 = 9,790.1025
    assert step.fee == pytest.approx(before.position * 9_790.1 * 5e-4, rel=1e-12)
    assert step.cash > 0


def test_leverage_at_the_fill_never_exceeds_the_limit(play, side):
    for limit in (1.0, 3.0, 10.0, 50.0):
        steps = play([QUIET, CALM], ["long x2 stop25"], side=side, risk_pct=50.0,
                     max_leverage=limit)  # fmt: skip
        fill = steps[0]
        equity = 100_000 - fill.fee  # at the fill's price
        assert abs(fill.entry_units) * fill.entry_fill_price <= limit * equity * (1 + 1e-12)
        assert abs(fill.entry_units) * fill.entry_fill_price > 0.999999 * limit * equity


@pytest.mark.parametrize("side", [1, -1])
def test_the_floor_holds_within_the_bar_where_a_coarse_tick_would_break_it(play, side):
    # costs of 10 bps, a margin of 10.1, and a tick of 8 bps to round the fill by
    params = {**FORTYFOLD, "maintenance_margin_rate": 0.00101, "tick_size": 8.0}
    rows = [QUIET, CALM, (9_900, 9_960, 9_600, 9_900, 100)]
    for units in (420.0, 450.0, 480.0):
        step = play(rows, ["long x2 stop250"] * 2, side=side, max_units=units, **params)[1]
        assert (step.exit_reason, step.exit_units) == ("liquidation", -side * units)
        assert step.cash == pytest.approx(0, abs=1e-6)
        assert step.exit_price % 8 > 0  # the floor is not on the grid


@pytest.mark.parametrize(
    ("opens", "ticket", "fill"),
    [
        # bought at 10,008 (10,000.998 up), liquidation price 10,008 * (1 - 1/199) / 0.996 = 9,997.7
        (9_996, "long x2 stop25", 9_984),  # 9,996 * 0.9995 = 9,991.0 down to the tick of 8
        # sold at 10,000 (10,006.99 down), 10,000 * (1 + 1/199) / 1.004 = 10,010.2
        (10_012, "short x2 stop25", 10_024),  # 10,012 * 1.0005 = 10,017.0 up
    ],
)
def test_a_liquidation_price_that_the_entrys_open_has_passed_is_paid_at_the_open(
    play, opens, ticket, fill
):
    # all leverage there is, on a tick that moved the entry by nearly its whole width
    rows = [QUIET, (opens, opens, opens, opens, 100)]
    params = {"risk_pct": 100.0, "max_leverage": 199.0, "tick_size": 8.0}
    (step,) = play(rows, [ticket], **params)
    assert (step.exit_reason, step.exit_price) == ("liquidation", fill)
    entry = abs(step.entry_units) * abs(step.entry_fill_price - opens)
    assert step.slippage_cost == pytest.approx(
        entry + abs(step.exit_units) * abs(fill - opens), rel=1e-9
    )
