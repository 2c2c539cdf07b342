"""Range checks that the configuration dataclasses share: every refusal names key, value, range."""

import math


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Raise ``ValueError`` with key, value and what is allowed, unless `condition` holds."""
    if not condition:
        raise ValueError(f"{key}={value!r} is not allowed: {allowed}")


def require_between(key: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside ``[low, high]``, NaN included."""
    require(low <= value <= high, key, value, f"a number from {low:g} to {high:g}")


def require_positive(key: str, value: float) -> None:
    """Refuse a number that is not finite and above zero."""
    require(value > 0 and math.isfinite(value), key, value, "a finite number above 0")


def require_at_least(key: str, value: int, low: int) -> None:
    """Refuse a whole number under `low`."""
    require(value >= low, key, value, f"a whole number, at least {low}")
