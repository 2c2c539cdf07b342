"""The rule of docs/verdict.md on findings made up for it: what decides, and what is said."""

import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.judging.findings import Against, Findings
from pipelines.judging.verdict import EDGE, NO_EDGE, NOT_ENOUGH, judge, needed_days

GOOD = Findings(
    days=730.0,
    periods=730,
    period_hours=24.0,
    trades=900.0,
    moved=True,
    total_return_fraction=0.8,
    sharpe=2.5,
    sharpe_low=0.9,
    sharpe_high=3.7,
    standard_error=0.75,
    block_periods=1.4,
    probabilistic=0.9996,
    deflated=0.96,
    trials=10,
    earlier_openings=0,
    against=[
        Against("flat", 0.0, 0.001, 2.5, 3.7, 0.75, 0.96),
        Against("buy_and_hold", 1.4, 0.004, 2.2, 3.4, 0.75, 0.955),
        Against("random", -0.7, 0.001, 2.5, 3.7, 0.75, 0.96),
        Against("always_short", -0.8, 0.001, 2.5, 3.7, 0.75, 0.96),
    ],
    seed_sharpes=[2.2, 2.4, 2.7],
    seeds_sharpe=2.4,
    seeds_low=2.2,
    seeds_high=2.7,
    overfitting=None,
)


def found(**changes):
    return dataclasses.replace(GOOD, **changes)


def against(name, **changes):
    return [
        dataclasses.replace(other, **changes) if other.baseline == name else other
        for other in GOOD.against
    ]


FAILURES = {
    "grew": {"total_return_fraction": -0.01},
    "beyond luck": {"sharpe_low": -0.1},
    "beyond the tries": {"deflated": 0.94},
    "better than flat": {"against": against("flat", p_value=0.03)},
    "better than buy-and-hold": {"against": against("buy_and_hold", p_value=0.2)},
    "whatever the seed": {"seeds_low": -0.2},
}


def test_an_edge_is_one_when_everything_holds():
    judged = judge(GOOD)
    assert judged.word == EDGE
    assert all(condition.holds for condition in judged.conditions)
    assert [condition.name for condition in judged.conditions] == [
        "grew", "beyond luck", "beyond the tries", "better than flat", "better than buy-and-hold",
        "better than random", "better than always-short", "whatever the seed",
    ]  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_one_condition_that_fails_is_enough_and_is_named(name):
    judged = judge(found(**FAILURES[name]))
    assert judged.word == NOT_ENOUGH
    (failed,) = (condition for condition in judged.conditions if not condition.holds)
    assert failed.name == name
    assert judged.reasons[0] == failed.sentence


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({"sharpe_low": 0.0}, False),
        ({"sharpe_low": 1e-9}, True),
        ({"deflated": 0.95}, True),
        ({"against": against("flat", p_value=0.02)}, True),
        ({"against": against("flat", p_value=0.0201)}, False),
        ({"seeds_low": 0.0}, False),
        ({"total_return_fraction": 0.0}, False),
    ],
)
def test_thresholds_are_where_the_page_puts_them(changes, holds):
    assert (judge(found(**changes)).word == EDGE) == holds


def test_what_is_said_of_a_condition_is_what_it_came_to():
    """Whoever reads the sentence without the word believes the same."""
    good = " ".join(judge(GOOD).reasons)
    for words in (
        "0.90, is above 0.",
        "is 0.955; 0.95 is asked",
        "It is better than flat (+0.00 %)",
    ):
        assert words in good
    bad = {"sharpe_low": -0.1, "against": against("flat", p_value=0.2, deflated=0.5), "trials": 1}
    conditions = {each.name: each.sentence for each in judge(found(**bad)).conditions}
    assert "-0.10, is not above 0." in conditions["beyond luck"]
    assert "the luck of one try is 0.500" in conditions["beyond the tries"]
    assert conditions["better than flat"].startswith("It is not shown to be better than flat")
    assert "p 0.200, at most 0.02" in conditions["better than flat"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"days": 13.9}, "13.9 days were played; at least 14 are needed."),
        ({"days": 14.0 - 1.0 / 1440.0}, "13.99 days were played; at least 14 are needed."),
        ({"periods": 99, "period_hours": 0.25}, "There are 99 returns of 15 min; at least 100"),
        ({"trades": 29.5}, "A seed made 29.5 trades; with fewer than 30 each of them decides."),
        ({"days": 0.29}, "0.29 days were played; "),  # 100 * 0.29 is 28.999999999999996
        ({"trades": 30.0 - 1 / 30}, "A seed made 29.96 trades; with fewer than 30 each of them"),
    ],
)
def test_too_little_of_anything_decides_before_the_tests(changes, words):
    for changed in (changes, changes | {"sharpe_high": -5.0}, changes | {"sharpe_low": 100.0}):
        judged = judge(found(**changed))
        assert judged.word == NOT_ENOUGH
        assert judged.reasons[0].startswith(words)


@pytest.mark.parametrize(
    ("days", "words"), [(27.31, "27.3 days"), (730.0, "730 days"), (4_388.0, "4,388 days")]
)
def test_years_of_days_are_said_in_full(days, words):
    assert f"It returned +80.00 % over {words}, after costs" in judge(found(days=days)).reasons[0]


def test_a_policy_that_never_traded_has_no_edge():
    idle = {
        "moved": False, "trades": 0.0, "total_return_fraction": 0.0, "sharpe": 0.0,
        "sharpe_low": 0.0, "sharpe_high": 0.0, "standard_error": 0.0, "deflated": 0.0,
    }  # fmt: skip
    judged = judge(found(**idle))
    assert judged.word == NO_EDGE
    assert judged.reasons == ["The policy never traded: there is nothing that it earned."]
    assert judge(found(**idle, days=3.0)).word == NOT_ENOUGH


def test_a_ratio_of_one_that_can_be_excluded_is_no_edge():
    lost = {"sharpe": -0.5, "sharpe_low": -2.0, "total_return_fraction": -0.2, "deflated": 0.2}
    judged = judge(found(**lost, sharpe_high=0.99))
    assert judged.word == NO_EDGE
    assert judged.reasons[0].startswith("An annual Sharpe ratio of 1 can be excluded")
    assert judge(found(**lost, sharpe_high=1.0)).word == NOT_ENOUGH


def test_tries_count_against_what_is_left_of_the_market_too():
    judged = judge(found(against=against("buy_and_hold", deflated=0.7)))
    assert judged.word == NOT_ENOUGH
    assert "what it earned beside buy-and-hold is more than the luck of the best of 10 tries is " \
           "0.700" in judged.reasons[0]  # fmt: skip


def test_an_account_that_lost_nearly_all_is_no_edge_whatever_its_ratio():
    judged = judge(found(total_return_fraction=-0.999))
    assert judged.word == NO_EDGE
    assert judged.reasons[0].startswith("It lost 99.90 % of its cash")
    assert judge(found(total_return_fraction=-0.9)).word == NO_EDGE  # nine tenths, or more
    assert judge(found(total_return_fraction=-0.899)).word == NOT_ENOUGH


def test_what_the_market_explains_is_no_edge_though_it_earned():
    left = against("buy_and_hold", p_value=0.6, sharpe=-0.3, sharpe_high=0.4)
    judged = judge(found(against=left))
    assert judged.word == NO_EDGE
    assert "What it earned is what buy-and-hold earns" in judged.reasons[0]
    for high, word in ((0.99, NO_EDGE), (1.0, NOT_ENOUGH)):
        left = against("buy_and_hold", p_value=0.6, sharpe=-0.3, sharpe_high=high)
        assert judge(found(against=left)).word == word


def test_an_edge_that_is_sure_but_small_is_an_edge():
    small = {"sharpe": 0.6, "sharpe_low": 0.1, "sharpe_high": 0.95, "deflated": 0.99}
    assert judge(found(**small)).word == EDGE


def test_the_days_that_are_needed_are_said():
    judged = judge(found(sharpe=1.5, standard_error=1.0, sharpe_low=-0.6, deflated=0.3))
    days = needed_days(judged.findings)
    assert judged.reasons[-1].endswith(f"about {days:,.0f} days would tell.")
    assert 730 < days < 10_000
    hopeless = judge(found(sharpe=-0.1, sharpe_low=-2.0, sharpe_high=1.5, deflated=0.1))
    assert hopeless.reasons[-1].endswith("excludes neither 0 nor 1.")


def test_a_luckless_policy_is_not_held_against_every_baseline_as_well():
    everything = {
        "sharpe_low": -0.1,
        "against": [dataclasses.replace(other, p_value=0.3) for other in GOOD.against],
    }
    judged = judge(found(**everything))
    assert not any("better than" in reason for reason in judged.reasons)
    assert sum(not condition.holds for condition in judged.conditions) == 5


def test_an_earlier_look_and_overfitting_are_said_whatever_the_word():
    for changes in ({}, {"days": 1.0}, {"sharpe_low": -1.0, "sharpe_high": 0.1}):
        judged = judge(found(earlier_openings=3, overfitting=0.4, **changes))
        assert "had been opened 3 times before" in judged.reasons[-2]
        assert judged.reasons[-1].endswith("with probability 0.40.")
    assert "had been opened once before" in judge(found(earlier_openings=1)).reasons[-1]


def test_notes_qualify_and_do_not_decide():
    note = "It still earns at 4 times the costs (40 bps)."
    noted = judge(found(earlier_openings=1), [note])
    assert noted.word == EDGE
    assert noted.reasons[-1] == note


def test_a_verdict_is_plain_json():
    judged = judge(GOOD).to_json()
    again = json.loads(json.dumps(judged, allow_nan=False))
    assert again["word"] == EDGE
    assert again["conditions"][1] == {
        "name": "beyond luck", "holds": True, "value": 0.9, "threshold": 0.0,
        "sentence": again["reasons"][1],
    }  # fmt: skip
    assert again["findings"]["against"][1]["baseline"] == "buy_and_hold"


def test_reasons_are_sentences():
    for changes in ({}, *FAILURES.values(), {"sharpe_low": -1.0, "sharpe_high": 0.0}):
        for reason in judge(found(**changes)).reasons:
            assert re.fullmatch(r"[A-Z].*\.", reason), reason


@given(
    st.floats(-5, 5), st.floats(-8, 5), st.floats(-5, 8), st.floats(0, 1), st.floats(0, 1),
    st.floats(-1, 3), st.floats(-3, 3), st.integers(1, 2000),
)  # fmt: skip
def test_there_are_three_words_and_an_edge_needs_all_conditions(
    sharpe, low, high, deflated, p_value, total, seeds_low, days
):
    judged = judge(
        found(
            sharpe=sharpe, sharpe_low=low, sharpe_high=high, deflated=deflated,
            against=against("flat", p_value=p_value), total_return_fraction=total,
            seeds_low=seeds_low, days=float(days), periods=days,
        )
    )  # fmt: skip
    assert judged.word in (EDGE, NO_EDGE, NOT_ENOUGH)
    assert judged.reasons
    if judged.word == EDGE:
        assert all(condition.holds for condition in judged.conditions)
        assert total > 0
        assert low > 0
        assert days >= 100
