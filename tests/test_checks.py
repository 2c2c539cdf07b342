"""Refusals: what is not a number, or not a whole one, is refused by name like what is too small."""

import pytest

from envs.checks import require_at_least, require_between, require_cell, require_positive
from envs.config import EnvConfig


@pytest.mark.parametrize("value", ["4", 2.5, True, None, [4], 0])
def test_a_count_is_a_whole_number(value):
    with pytest.raises(ValueError, match=r"env\.paths=.* is not allowed: a whole number"):
        require_at_least("env.paths", value, 1)


@pytest.mark.parametrize("value", ["4", True, None, [4], float("nan"), float("inf"), -1.0])
def test_a_quantity_is_a_finite_number(value):
    with pytest.raises(ValueError, match=r"key=.* is not allowed: a finite number"):
        require_positive("key", value)
    with pytest.raises(ValueError, match=r"key=.* is not allowed: a number from 0 to 9"):
        require_between("key", value, 0.0, 9.0)


@pytest.mark.parametrize("text", ["", "a,b", 'a"b', "a\nb", "=SUM(A1)", "-a", "@a"])
def test_a_cell_is_text_that_neither_breaks_a_line_nor_is_a_formula(text):
    with pytest.raises(ValueError, match="printable text"):
        require_cell("run.dir", text)


@pytest.mark.parametrize(
    "changes",
    [
        {"paths": 2.5},
        {"episode_bars": 6.5},
        {"initial_cash": "100000"},
        {"risk_multiples": None},
        {"risk_multiples": [1.0, "2"]},
        {"take_profit_r": 2.0},
        {"lot_size": 1e-20},
    ],
)
def test_a_script_s_mistake_in_the_simulator_s_parameters_names_the_key(changes):
    (key,) = changes
    with pytest.raises(ValueError, match=rf"env\.{key}=.* is not allowed"):
        EnvConfig(**changes)
