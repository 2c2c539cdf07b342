"""Lengths of time for coarser bars: what is allowed, and how columns name them."""

import re
from collections.abc import Sequence
from itertools import pairwise

from envs.checks import require

_DAY_S = 86_400
_NS = 10**9
_ALLOWED = 'lengths of time such as "15min" or "1h", each once, the shortest first'


def require_timeframes(timeframes: Sequence[str]) -> None:
    """Refuse texts that are no lengths of time, or not in order.

    Raises:
        ValueError: naming the key, the value and what is allowed.
    """
    seconds = [timeframe_seconds(text) for text in timeframes]
    fits = all(0 < s <= _DAY_S and _DAY_S % s == 0 for s in seconds)
    ascending = all(a < b for a, b in pairwise(seconds))
    allowed = f"{_ALLOWED}, of which a day is a whole multiple"
    require(bool(seconds) and fits and ascending, "data.timeframes", list(timeframes), allowed)


def length_ns(text: str) -> int:
    """A length of time such as ``1min`` or ``1d``, in nanoseconds.

    Raises:
        ValueError: if it is none.
    """
    from pandas import Timedelta  # loads for half a second, and few command lines name a length

    # A day, as `timeframe_name` writes it; pandas wants a D and is to forget the other.
    return int(Timedelta(re.sub(r"(?<=\d)d$", "D", text)).as_unit("ns").value)


def timeframe_seconds(text: str) -> int:
    """A length of time in whole seconds; 0 if it is none."""
    try:
        seconds, rest = divmod(length_ns(text), _NS)
    except ValueError:
        return 0
    return 0 if rest else seconds


def timeframe_name(seconds: int) -> str:
    """``1d``, ``4h``, ``15min`` or ``30s``: how columns name a length of time."""
    for unit, size in (("d", _DAY_S), ("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
