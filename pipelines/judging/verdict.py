"""The verdict on a held-out result: edge, no edge or not enough data, and why.

The rule is ``docs/verdict.md``; the thresholds are here.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from pipelines.judging.findings import EDGE_LEVEL, Findings
from pipelines.judging.period_returns import ENOUGH_PERIODS
from pipelines.judging.sharpe import expected_maximum
from pipelines.number_text import days_played, how_often, signed_percent

EDGE, NO_EDGE, NOT_ENOUGH = "edge", "no edge", "not enough data"
MIN_DAYS = 14.0
MIN_PERIODS = ENOUGH_PERIODS
MIN_TRADES = 30.0
MIN_DEFLATED = 0.95
MAX_P_VALUE = 0.02
LOST = -0.9  # total return from which on nothing else is looked at
WORTH_HAVING = 1.0  # an annual Sharpe ratio
_SMALLEST_Z = 0.01  # that more days could ever make something of
_FOUR_OF_FIVE = 0.8
LUCK, BETTER = "beyond luck", "better than "


@dataclass(frozen=True)
class Condition:
    """One thing that must hold for an edge: `value` against `threshold`."""

    name: str
    holds: bool
    value: float
    threshold: float
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """A word, and everything it rests on.

    Attributes:
        word: ``edge``, ``no edge`` or ``not enough data``.
        reasons: plain sentences, the deciding ones first.
        conditions: of an edge, whether they hold or not.
        findings: the numbers behind them.
    """

    word: str
    reasons: list[str]
    conditions: list[Condition]
    findings: Findings

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return dataclasses.asdict(self)


def judge(findings: Findings, notes: Sequence[str] = ()) -> Verdict:
    """Apply the rule to what was found.

    Args:
        findings: from `pipelines.judging.findings.find`.
        notes: sentences that qualify the answer without deciding it, such as those of break-even
            costs and of participation; the last of the reasons.
    """
    conditions = _conditions(findings)
    word, deciding = _decide(findings, conditions)
    reasons = [*deciding, *_qualifying(findings), *notes]
    return Verdict(word, reasons, conditions, findings)


def _decide(findings: Findings, conditions: list[Condition]) -> tuple[str, list[str]]:
    short = _too_little(findings)
    if short:
        return NOT_ENOUGH, short
    if not findings.moved:
        return NO_EDGE, ["The policy never traded: there is nothing that it earned."]
    if all(condition.holds for condition in conditions):
        return EDGE, [condition.sentence for condition in conditions]
    failed = _failed(conditions)
    excluded = _excluded(findings)
    if excluded:
        return NO_EDGE, [*excluded, *failed]
    return NOT_ENOUGH, [*failed, _how_much_more(findings)]


def _failed(conditions: list[Condition]) -> list[str]:
    """What did not hold; where luck explains everything, no baseline is named as well."""
    failed = [condition for condition in conditions if not condition.holds]
    if any(condition.name == LUCK for condition in failed):
        failed = [condition for condition in failed if not condition.name.startswith(BETTER)]
    return [condition.sentence for condition in failed]


def _too_little(findings: Findings) -> list[str]:
    """What there is too little of to test anything."""
    found = []
    if findings.days < MIN_DAYS:
        found.append(f"{_under(findings.days)} days were played; at least {MIN_DAYS:g} are needed.")
    if findings.periods < MIN_PERIODS:
        found.append(
            f"There are {findings.periods} returns of {_length(findings)}; at least "
            f"{MIN_PERIODS} are needed."
        )
    if findings.moved and findings.trades < MIN_TRADES:
        found.append(
            f"A seed made {_under(findings.trades)} trades; with fewer than {MIN_TRADES:g} each of "
            "them decides."
        )
    return found


def _under(value: float) -> str:
    """Rounded down to two digits after the point: what is under a threshold stays under it."""
    return f"{math.floor(round(100.0 * value, 6)) / 100.0:g}"


def _conditions(findings: Findings) -> list[Condition]:
    return [
        _grew(findings),
        _beyond_luck(findings),
        _beyond_tries(findings),
        *_superior(findings),
        _every_seed(findings),
    ]


def _grew(found: Findings) -> Condition:
    value = found.total_return_fraction
    sentence = (
        f"It returned {signed_percent(value)} over {days_played(found.days)}, after costs, in "
        f"{found.trades:,.0f} trades."
    )
    return Condition("grew", value > 0.0, value, 0.0, sentence)


def _beyond_luck(found: Findings) -> Condition:
    holds = found.sharpe_low > 0.0
    end = "above" if holds else "not above"
    sentence = (
        f"Its annual Sharpe ratio is {found.sharpe:.2f}; the lower end of the one-sided 98 % "
        f"interval, {found.sharpe_low:.2f}, is {end} 0."
    )
    return Condition(LUCK, holds, found.sharpe_low, 0.0, sentence)


def _beyond_tries(found: Findings) -> Condition:
    value, what = found.deflated, "this"
    for against in found.against:
        if against.deflated < value:
            name = against.baseline.replace("_", "-")
            value, what = against.deflated, f"what it earned beside {name}"
    tries = "one try" if found.trials == 1 else f"the best of {found.trials:,} tries"
    sentence = (
        f"The probability that {what} is more than the luck of {tries} is {value:.3f}; "
        f"{MIN_DEFLATED:g} is asked for."
    )
    return Condition("beyond the tries", value >= MIN_DEFLATED, value, MIN_DEFLATED, sentence)


def _superior(found: Findings) -> list[Condition]:
    conditions = []
    for against in found.against:
        name = against.baseline.replace("_", "-")
        holds = against.p_value <= MAX_P_VALUE
        verb = "It is" if holds else "It is not shown to be"
        earned = signed_percent(against.baseline_return_fraction)
        sentence = (
            f"{verb} better than {name} ({earned}) at the same "
            f"exposure to it: p {against.p_value:.3f}, at most {MAX_P_VALUE:g} is asked for."
        )
        conditions.append(
            Condition(f"{BETTER}{name}", holds, against.p_value, MAX_P_VALUE, sentence)
        )
    return conditions


def _every_seed(found: Findings) -> Condition:
    holds = found.seeds_low > 0.0
    count = len(found.seed_sharpes)
    if count == 1:
        sentence = f"One seed was judged, with a Sharpe ratio of {found.seeds_sharpe:.2f}."
    else:
        sentence = (
            f"The interquartile mean of {count} seeds' Sharpe ratios is {found.seeds_sharpe:.2f}, "
            f"its 95 % interval {found.seeds_low:.2f} to {found.seeds_high:.2f}."
        )
    return Condition("whatever the seed", holds, found.seeds_low, 0.0, sentence)


def _excluded(found: Findings) -> list[str]:
    """Why an edge worth having can be excluded; empty if it cannot."""
    if found.total_return_fraction <= LOST:
        return [
            f"It lost {signed_percent(-found.total_return_fraction)[1:]} of its cash: a mean that "
            "compounding eats up is no edge, whatever its ratio."
        ]
    if found.sharpe_high < WORTH_HAVING:
        return [
            f"An annual Sharpe ratio of {WORTH_HAVING:g} can be excluded: the upper end of the "
            f"one-sided 95 % interval is {found.sharpe_high:.2f}, around {found.sharpe:.2f}."
        ]
    return [
        f"What it earned is what {against.baseline.replace('_', '-')} earns: at the same exposure "
        f"to it the Sharpe ratio of the rest is {against.sharpe:.2f}, and {WORTH_HAVING:g} can be "
        f"excluded (upper end {against.sharpe_high:.2f})."
        for against in found.against
        if against.sharpe_high < WORTH_HAVING
    ]


def _how_much_more(found: Findings) -> str:
    days = needed_days(found)
    wide = (
        f"The interval of the Sharpe ratio, {found.sharpe_low:.2f} to {found.sharpe_high:.2f}, "
        f"excludes neither 0 nor {WORTH_HAVING:g}"
    )
    if found.sharpe_low > 0.0:
        wide = f"An annual Sharpe ratio of {WORTH_HAVING:g} cannot be excluded either"
    if days is None or days <= found.days:
        return f"{wide}."
    return f"{wide}; were the estimate the truth, about {days:,.0f} days would tell."


def needed_days(found: Findings) -> float | None:
    """Days after which a ratio as large as the estimate would pass, four times out of five.

    Its ratio over its standard error grows with the root of the days, and has to come to what the
    interval and the deflated ratio ask for.

    Returns:
        None if the estimate is not above 0, or too small for any number of days.
    """
    has = found.sharpe / found.standard_error if found.standard_error > 0.0 else 0.0
    if has < _SMALLEST_Z:
        return None
    quantile = NormalDist().inv_cdf
    tries = expected_maximum(found.trials) + quantile(MIN_DEFLATED)
    asked = max(quantile(EDGE_LEVEL), tries) + quantile(_FOUR_OF_FIVE)
    return found.days * (asked / has) ** 2


def _qualifying(found: Findings) -> list[str]:
    """What is to be known beside the deciding sentences."""
    sentences = []
    if found.earlier_openings:
        sentences.append(
            "Not a first look: these bars had been opened "
            f"{how_often(found.earlier_openings)} before."
        )
    if found.overfitting is not None:
        sentences.append(
            "Among the trials at hand, the best of one half of the time was no better than the "
            f"median in the other with probability {found.overfitting:.2f}."
        )
    return sentences


def _length(found: Findings) -> str:
    hours = found.period_hours
    return f"{hours:g} h" if hours >= 1.0 else f"{60.0 * hours:g} min"
