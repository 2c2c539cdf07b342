"""The page of the evaluation and its code say the same."""

from pathlib import Path

import pytest

from pipelines.held_out import evaluation
from pipelines.held_out.baselines import BASELINES, RANDOM_ACCOUNTS
from pipelines.held_out.evaluate_config import DRAWS
from pipelines.held_out.technical_rules import MOMENTUM_Z, REVERSION_Z
from pipelines.judging.break_even import COST_MULTIPLES

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
*FIRST, LAST = (f"{multiple:g}" for multiple in COST_MULTIPLES)


@pytest.mark.parametrize(
    "text",
    [
        f"of {RANDOM_ACCOUNTS} such accounts",
        f"{DRAWS:,} accounts (`draws=`)",
        f"times {', '.join(FIRST)} and {LAST}.",
        f"long above {MOMENTUM_Z:g}, short below -{MOMENTUM_Z:g},",
        f"long below -{REVERSION_Z:g}, short above {REVERSION_Z:g},",
        f"at most {evaluation.MAX_POINTS:,} bars",
        *(f"`{name}`" for name in (evaluation.EVALUATION, evaluation.EQUITY, evaluation.RETURNS)),
    ],
)
def test_the_page_names_the_numbers_of_the_code(text):
    assert text in PAGE


def test_the_first_four_accounts_are_those_of_the_rule():
    table = PAGE.split("| account | what it does |")[1].split("\n\n")[0]
    names = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    judged = [name.replace("_", "-") for name in BASELINES]
    assert names[: len(judged)] == judged
