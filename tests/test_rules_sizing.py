"""How large an order is: risk over the stop's distance, and every cap on it."""

import pytest

QUIET = (10_000, 10_000, 10_000, 10_000, 100)
CALM = (10_000, 10_010, 9_990, 10_000, 100)
ALL = ("direction", "size", "stop_loss", "take_profit")


@pytest.mark.parametrize(("multiple", "units"), [(0.5, 5), (1, 10), (1.5, 15), (2, 20)])
def test_units_risk_a_multiple_of_one_percent_on_the_stop(play_free, check, side, multiple, units):
    (step,) = play_free([QUIET, CALM], [f"long x{multiple} stop100"], side=side)
    check(
        step,
        requested_units=units,
        entry_units=side * units,
        entry_fill_price=10_000,
        stop_price=10_000 - side * 100,
    )


@pytest.mark.parametrize(("bps", "units"), [(50, 20), (100, 10), (125, 8), (200, 5), (250, 4)])
def test_units_shrink_with_the_distance_of_the_stop(play_free, check, side, bps, units):
    (step,) = play_free([QUIET, CALM], [f"long x1 stop{bps} tp3R"], side=side)
    check(
        step,
        requested_units=units,
        entry_units=side * units,
        entry_fill_price=10_000,
        stop_price=10_000 - side * bps,
        take_profit_price=10_000 + side * 3 * bps,
    )


def test_risk_is_of_the_cash_when_the_order_is_placed(play_free, check, side):
    rows = [QUIET, (10_000, 10_010, 9_890, 10_000, 100), CALM]
    steps = play_free(rows, ["long x2", "long x2"], side=side)
    assert steps[0].cash == pytest.approx(98_000, rel=1e-12)
    assert steps[1].requested_units == pytest.approx(19.6, rel=1e-12)


def test_a_clean_stop_costs_the_risk_the_fees_and_the_slippage(play, check):
    rows = [QUIET, (10_000, 10_010, 9_890, 10_000, 100)]
    (step,) = play(rows, ["long x1 stop100"])
    # the stop lies up to a tick further than the distance that sized the order
    risk = 1_000 + abs(step.entry_units) * 0.1
    assert 100_000 - step.cash <= risk + step.fee + step.slippage_cost
    assert 100_000 - step.cash >= 1_000 + step.fee + 0.9 * step.slippage_cost / 2


@pytest.mark.parametrize(
    ("side", "fee_bps", "units"),
    [
        (1, 0.0, 30.0),  # 3 * 100,000 / 10,000
        (-1, 0.0, 30.0),
        (1, 5.0, 29.95506739),  # 300,000 / (10,000 * 1.0015): the fee of the entry is inside
        (-1, 5.0, 29.95506739),
    ],
)
def test_leverage_caps_the_order_and_does_not_reject_it(play_free, check, side, fee_bps, units):
    (step,) = play_free([QUIET, CALM], ["long x2 stop25"], side=side, taker_fee_bps=fee_bps)
    check(
        step,
        requested_units=80,  # 2,000 / 25
        entry_units=side * units,
        entry_fill_price=10_000,
        fee=units * 10_000 * fee_bps * 1e-4,
        heads=ALL,
    )
    assert units * 10_000 / step.equity <= 3 * (1 + 1e-12)
    assert units * 10_000 / step.equity == pytest.approx(3, rel=1e-9)


@pytest.mark.parametrize(("leverage", "units"), [(0.5, 5.0), (1.0, 10.0), (2.0, 20.0)])
def test_the_leverage_cap_is_configured(play_free, side, leverage, units):
    (step,) = play_free([QUIET, CALM], ["long x2 stop25"], side=side, max_leverage=leverage)
    assert step.entry_units == pytest.approx(side * units, rel=1e-12)


def test_max_units_caps_the_order(play_free, check, side):
    (step,) = play_free([QUIET, CALM], ["long"], side=side, max_units=2.5)
    check(step, requested_units=10, entry_units=side * 2.5, entry_fill_price=10_000)


def test_participation_caps_the_order_by_the_volume_that_was_seen(play_free, check, side):
    rows = [
        (10_000, 10_000, 10_000, 10_000, 500),
        (10_000, 10_010, 9_990, 10_000, 300),
        (10_000, 10_010, 9_990, 10_000, 70_000),
    ]
    steps = play_free(rows, ["long", "short"], side=side, max_participation=0.01)
    check(
        steps[0],
        requested_units=10,
        entry_units=side * 5,  # 1 % of the 500 of the last closed bar
        entry_fill_price=10_000,
    )
    check(
        steps[1],
        open_exit_reason="flip",
        open_exit_units=-side * 5,
        open_exit_price=10_000,
        requested_units=10,
        entry_units=-side * 3,
        entry_fill_price=10_000,
    )


def test_exits_are_never_capped_by_volume(play_free, check, side):
    rows = [QUIET, (*CALM[:4], 0), (*CALM[:4], 0)]
    steps = play_free(rows, ["long", "flat"], side=side, max_participation=0.1)
    check(steps[1], open_exit_reason="signal", open_exit_units=-side * 10, open_exit_price=10_000)


@pytest.mark.parametrize("ticket", ["long x2", "short x0.5 stop25 tp1R"])
def test_a_bar_without_volume_allows_no_order_under_a_participation_cap(play_free, check, ticket):
    rows = [(10_000, 10_000, 10_000, 10_000, 0), CALM]
    (step,) = play_free(rows, [ticket], max_participation=0.5)
    check(step, requested_units=20, position=0, equity=100_000, reward=0, heads=ALL)


def test_without_a_participation_cap_volume_plays_no_part(play_free, side):
    rows = [(10_000, 10_000, 10_000, 10_000, 0), (*CALM[:4], 0)]
    (step,) = play_free(rows, ["long"], side=side)
    assert step.entry_units == pytest.approx(side * 10, rel=1e-12)


@pytest.mark.parametrize(
    ("lot", "units"), [(0.01, 13.33), (0.5, 13.0), (5.0, 10.0), (1e-8, 13.33333333)]
)
def test_units_are_floored_to_the_lot(play_free, check, side, lot, units):
    (step,) = play_free([QUIET, CALM], ["long x1 stop75"], side=side, lot_size=lot)
    check(step, requested_units=1_000 / 75, entry_units=side * units, entry_fill_price=10_000)
    assert abs(step.entry_units) == units  # the decimal itself


@pytest.mark.parametrize(
    ("lot", "cap", "units"),
    # in floats 0.29 * 100 is under 29 and 0.3 / 0.1 under 3
    [
        (0.01, 0.29, 0.29),
        (0.01, 1.13, 1.13),
        (0.1, 0.3, 0.3),
        (0.1, 1.1, 1.1),
        (0.1, 0.29999, 0.2),
        (0.1, 0.35, 0.3),
    ],
)
def test_a_size_that_is_on_the_lot_stays(play_free, lot, cap, units):
    (step,) = play_free([QUIET, CALM], ["long"], lot_size=lot, max_units=cap)
    assert step.entry_units == units


@pytest.mark.parametrize(("min_units", "units"), [(10.0, 10), (10.000001, None), (9.9, 10)])
def test_under_min_units_there_is_no_order(play_free, check, side, min_units, units):
    (step,) = play_free([QUIET, CALM], ["long"], side=side, min_units=min_units)
    filled = {"entry_units": side * 10, "entry_fill_price": 10_000} if units else {}
    check(step, requested_units=10, position=side * (units or 0), heads=ALL, **filled)


def test_min_units_looks_at_the_clipped_size(play_free, check, side):
    (step,) = play_free([QUIET, CALM], ["long"], side=side, max_units=4.0, min_units=5.0)
    check(step, requested_units=10, position=0, heads=ALL)


def test_the_rounded_stop_does_not_size_the_order(play):
    # d = 100.05 sizes the order though the stop lies 100.1 away
    (step,) = play([QUIET, CALM], ["long"])
    assert step.entry_price - step.stop_price == pytest.approx(100.1, rel=1e-9)
    assert step.requested_units == pytest.approx(1_000 / 100.05, rel=1e-12)


def test_requested_units_are_unsigned_and_only_there_when_an_entry_was_wanted(play_free):
    rows = [QUIET, CALM, CALM, CALM, CALM]
    steps = play_free(rows, ["short", "short", "flat", "flat"])
    assert steps[0].requested_units == pytest.approx(10, rel=1e-12)
    assert [s.requested_units for s in steps[1:]] == [None, None, None]


@pytest.mark.parametrize(
    ("side", "entry", "stop", "target"),
    [
        # d = 10,001.23 * 1.39 % = 139.017097: 9,862.2129 down, 10,001.23 + 2 d = 10,279.2642 up
        (1, 10_001.23, 9_862.2, 10_279.3),
        # d = 9,999.77 * 1.39 % = 138.996803: 10,138.7668 up, 9,999.77 - 2 d = 9,721.7764 down
        (-1, 9_999.77, 10_138.8, 9_721.7),
    ],
)
def test_stop_and_take_profit_round_away_from_the_entry(play_free, side, entry, stop, target):
    rows = [QUIET, (entry, entry + 20, entry - 20, entry, 100)]
    ticket = f"{'long' if side == 1 else 'short'} stop139 tp2R"
    (step,) = play_free(rows, [ticket], stop_step_bps=139.0, stop_steps=1)
    assert (step.stop_price, step.take_profit_price) == (stop, target)


def test_a_short_cannot_aim_below_zero(play_free, check):
    # a stop 50 % away and a target of three times that
    rows = [QUIET, CALM, (5_000, 5_010, 0.1, 4_000, 100)]
    params = {"stop_step_bps": 500.0, "risk_pct": 50.0}
    steps = play_free(rows, ["short x1 stop5000 tp3R"] * 2, **params)
    assert steps[0].take_profit_price is None
    check(steps[1], position=-10, take_profit_price=None, equity=160_000)
