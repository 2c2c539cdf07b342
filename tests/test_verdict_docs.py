"""The page of the verdict and its code say the same."""

from pathlib import Path

import pytest

from pipelines.judging import verdict

PAGE = Path(__file__).resolve().parents[1] / "docs" / "verdict.md"


@pytest.mark.parametrize(
    "number",
    [
        f"days played | {verdict.MIN_DAYS:g} ",
        f"aggregated returns | {verdict.MIN_PERIODS} ",
        f"trades, mean of the seeds | {verdict.MIN_TRADES:g} ",
        f"at least {verdict.MIN_DEFLATED:g} ",
        f"p at most {verdict.MAX_P_VALUE:g} ",
        f"interval is under {verdict.WORTH_HAVING:g},",
        "above 0, one-sided 98 %",
        "upper end (one-sided 95 %)",
        "2,000 draws",
    ],
)
def test_the_page_names_the_thresholds_of_the_code(number):
    assert number in PAGE.read_text(encoding="utf-8")
