"""Checks that name what they refuse: ranges of configurations (key, value, range), files."""

import json
import math
import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_FORMULA_STARTS = ("=", "+", "-", "@")


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Raise ``ValueError`` with key, value and what is allowed, unless `condition` holds."""
    if not condition:
        raise ValueError(f"{key}={value!r} is not allowed: {allowed}")


def require_between(key: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside ``[low, high]``, NaN included."""
    fits = _is_number(value) and low <= value <= high
    require(fits, key, value, f"a number from {low:g} to {high:g}")


def require_positive(key: str, value: float) -> None:
    """Refuse a number that is not finite and above zero."""
    fits = _is_number(value) and value > 0 and math.isfinite(value)
    require(fits, key, value, "a finite number above 0")


def require_at_least(key: str, value: int, low: int) -> None:
    """Refuse a whole number under `low`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    require(whole and value >= low, key, value, f"a whole number, at least {low}")


def require_cell(key: str, text: str) -> None:
    """Refuse a text that breaks a line of CSV, or that a spreadsheet would take for a formula."""
    safe = text.isprintable() and not set(text) & set(',"') and not text.startswith(_FORMULA_STARTS)
    allowed = "printable text without commas and quotes that does not start with = + - or @"
    require(bool(text.strip()) and safe, key, text, allowed)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def require_one_of(key: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a value that is not among those allowed.

    Raises:
        ValueError: naming the key, the value and what is allowed.
    """
    require(value in allowed, key, value, f"one of {', '.join(allowed)}")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is damaged, naming it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no JSON, or cut off: {error}") from error
