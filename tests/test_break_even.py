"""The cost at which nothing is left, from results under multiples of the costs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.judging.break_even import COST_MULTIPLES, break_even


def curve(gross, cost):
    """Results of a policy whose log growth falls in a straight line with its costs."""
    return {multiple: math.expm1(gross - cost * multiple) for multiple in COST_MULTIPLES}


def test_what_loses_nearly_all_at_half_the_costs_is_on_the_line_as_well():
    """Half the costs take all but a millionth, as of who orders at every other minute."""
    found = break_even(curve(0.3, 30.0), cost_bps=10.0)
    assert found.multiple == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize(("gross", "multiple"), [(0.05, 0.5), (0.1, 1.0), (0.3, 3.0), (0.02, 0.2)])
def test_a_straight_line_meets_zero_where_it_should(gross, multiple):
    found = break_even(curve(gross, 0.1), cost_bps=10.0)
    assert found.multiple == pytest.approx(multiple)
    assert found.cost_bps == pytest.approx(10.0 * multiple)
    assert not found.earns_beyond


def test_costs_that_eat_a_profit_are_called_so():
    found = break_even(curve(0.05, 0.1), cost_bps=10.0)
    assert found.sentence == (
        "The costs eat what it earns: break-even is at 5 bps, 0.5 times the costs."
    )


def test_what_still_earns_at_four_times_the_costs_has_no_break_even_yet():
    found = break_even(curve(1.0, 0.1), cost_bps=10.0)
    assert (found.multiple, found.cost_bps, found.earns_beyond) == (4.0, 40.0, True)
    assert "still earns at 4 times the costs (40 bps)" in found.sentence


def test_what_loses_without_costs_breaks_even_nowhere():
    found = break_even(curve(-0.01, 0.1), cost_bps=10.0)
    assert (found.multiple, found.cost_bps) == (0.0, 0.0)
    assert found.sentence == "It does not earn even without costs."


def test_of_a_curve_that_comes_back_the_first_crossing_counts():
    found = break_even({0.0: 0.1, 0.5: -0.1, 1.0: 0.2, 2.0: -0.3}, 10.0)
    assert 0.0 < found.multiple < 0.5


def test_a_total_loss_is_a_result():
    found = break_even({0.0: 0.1, 1.0: -1.0}, 10.0)
    assert 0.0 < found.multiple < 0.1


@given(st.lists(st.floats(-1.0, 3.0), min_size=5, max_size=5), st.floats(0.1, 100.0))
def test_it_lies_between_a_multiple_that_earned_and_one_that_did_not(results, cost_bps):
    found = break_even(dict(zip(COST_MULTIPLES, results, strict=True)), cost_bps)
    before = [m for m, r in zip(COST_MULTIPLES, results, strict=True) if m < found.multiple]
    earned = dict(zip(COST_MULTIPLES, results, strict=True))
    assert all(earned[m] > 0 for m in before)
    assert found.earns_beyond == all(r > 0 for r in results)
    assert found.cost_bps == pytest.approx(found.multiple * cost_bps)


@pytest.mark.parametrize("results", [{}, {0.0: 0.1}, {0.5: 0.1, 1.0: 0.0}, {-1.0: 0.1, 0.0: 0.0}])
def test_a_curve_without_a_beginning_is_refused(results):
    with pytest.raises(ValueError, match="times the costs"):
        break_even(results, 10.0)


@pytest.mark.parametrize("last", [0.5, -0.1])
def test_what_was_played_for_nothing_is_not_said_to_earn_at_any_costs(last):
    """Four times nothing is nothing."""
    found = break_even({0.0: 0.5, 1.0: 0.5, 4.0: last}, 0.0)
    assert found.cost_bps == 0.0
    assert "still earns" not in found.sentence
    assert found.sentence.startswith("Its orders cost nothing here")
    lost = break_even({0.0: -0.5, 4.0: -0.5}, 0.0)
    assert lost.sentence == "It does not earn even without costs."
