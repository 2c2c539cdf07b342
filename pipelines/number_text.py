"""Numbers as a person reads them, with their units."""

import textwrap
from collections.abc import Callable
from decimal import Decimal
from typing import Any

# A growth that only a short time, taken for a year, can have.
_UNREAL = 1_000.0
NONE = "\u2013"  # a dash

Format = Callable[[Any], str]
TERMINAL_WIDTH = 100


def wrapped(text: str, begin: str = "") -> list[str]:
    """A sentence as lines of a terminal, the first behind `begin`, the others under its words.

    A word stays whole, however long: it may be the name of a file.
    """
    return textwrap.wrap(
        text, TERMINAL_WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 tile``, ``2 tiles``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def how_often(count: int) -> str:
    """``once``, ``2 times``."""
    return "once" if count == 1 else f"{count:,} times"


def percent(fraction: float | None) -> str:
    """0.0123 as ``1.23 %``."""
    return NONE if fraction is None else f"{100.0 * fraction:,.2f} %"


def share(fraction: float) -> str:
    """A share in per cent, two digits after the point; only nothing is 0 %."""
    return "under 0.01 %" if 0.0 < fraction < 0.0001 else percent(fraction)


def signed_percent(fraction: float | None) -> str:
    """20.09 as ``+2,009.00 %``."""
    return NONE if fraction is None else f"{100.0 * fraction:+,.2f} %"


def a_year(fraction: float | None) -> str:
    """Compound growth of a year; what only a short time gives has no digits worth reading."""
    if fraction is None or fraction > _UNREAL:
        return f"over {100 * _UNREAL:,.0f} %"
    return signed_percent(fraction)


def ratio(value: float | None) -> str:
    """A ratio with two digits, or three significant ones."""
    if value is None:
        return NONE
    return (
        f"{value:,.2f}"
        if abs(value) < 1_000
        else f"over {1_000:,}"
        if value > 0
        else "under -1,000"
    )


def number(value: float | None) -> str:
    """A count."""
    return NONE if value is None else f"{value:,.0f}"


def money(value: float | None) -> str:
    """Money without its cents: ``1,234``; of under ten, as bitcoins are, ``0.00123``."""
    return NONE if value is None else f"{_rounded(value, 0):,f}"


def signed_money(value: float, cents: int = 0) -> str:
    """Profit or loss, with so many digits of what is ten or more: ``+1,234``, ``-0.00123``."""
    return f"{_rounded(value, cents):+,f}"


def _rounded(value: float, cents: int) -> Decimal:
    """Money of ten or more to its cents, less to three digits; never a minus before 0."""
    return Decimal(f"{value:.{cents}f}" if abs(value) >= 10.0 else f"{value + 0.0:.3g}")


def decimal(value: float | None) -> str:
    """A number of some size, one digit."""
    return NONE if value is None else f"{value:,.1f}"


def days(value: float | None) -> str:
    """Days, or a shorter unit."""
    return NONE if value is None else duration(86_400.0 * value)


def days_played(value: float) -> str:
    """Days with their noun, three digits or all before the point: ``1.5 days``, ``4,388 days``."""
    return f"{value:,.0f} days" if value >= 100.0 else f"{value:.3g} days"


def hours(value: float | None) -> str:
    """Hours, or a unit that suits."""
    return NONE if value is None else duration(3_600.0 * value)


def duration(seconds: float, digits: int = 3) -> str:
    """A time in the largest unit of which it is at least two, or one whole: ``90 min``, ``1 h``."""
    for size, unit in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= 2.0 * size or seconds == size:
            return f"{float(f'{seconds / size:.{digits}g}'):,g} {unit}"
    return f"{seconds:.3g} s"


def probability(value: float) -> str:
    """A p-value; none is 0."""
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


def minute(time: str) -> str:
    """An ISO time to the minute."""
    return str(time)[:16].replace("T", " ")
