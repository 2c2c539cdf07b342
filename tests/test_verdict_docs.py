"""The page of the verdict and its code say the same."""

from pathlib import Path

import pytest

from pipelines.judging import bootstrap, findings, verdict

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
        f"above 0, one-sided {100 * findings.EDGE_LEVEL:g} %",
        f"upper end (one-sided {100 * findings.NO_EDGE_LEVEL:g} %)",
        f"{bootstrap.DRAWS:,} draws",
    ],
)
def test_the_page_names_the_thresholds_of_the_code(number):
    assert number in PAGE.read_text(encoding="utf-8")
