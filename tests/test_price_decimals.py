"""Units are written in full, however many of a cheap coin are held."""

import pytest

from pipelines.price_decimals import units_text


@pytest.mark.parametrize(
    ("units", "text"),
    [
        (3_649_635_036.5, "+3,649,640,000"),
        (-1.66667e-5, "-0.0000166667"),
        (2.0, "+2"),
        (-1234.5, "-1,234.5"),
        (0.0, "+0"),
    ],
)
def test_units_have_no_exponent_and_six_digits(units, text):
    assert units_text(units) == text
