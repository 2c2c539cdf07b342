"""The time that weights have seen: what they were trained on and chosen on, in whatever run."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from envs.bar_files import time_text
from envs.bar_table import BarTable

# First and last bar of each span, opening times, ISO 8601; of bars that were drawn a third text
# says which: they know nothing of others at the same times.
Seen = dict[str, list[list[str]]]
_DRAWN = "synthetic/"  # no file's name has a slash
_SPLITS = {"trained": "train", "chosen": "val"}


def seen_times(
    table: BarTable, before: Mapping[str, Sequence[Sequence[str]]] | None = None
) -> Seen:
    """What weights have seen that are trained on a table.

    Of several markets the time that any of them has: markets move together.

    Args:
        table: the bars.
        before: what they had seen when they began.

    Returns:
        Spans by ``trained`` and ``chosen``.
    """
    seen: Seen = {}
    for how, split in _SPLITS.items():
        spans = [list(span) for span in (before or {}).get(how, ())]
        parts = table.meta.assets or (table.meta,)
        ranges = [part.splits[split] for part in parts]
        rows = torch.cat([torch.arange(first, end) for first, end in ranges])
        if len(rows):
            times = table.timestamp[rows]
            own = [time_text(int(times.min())), time_text(int(times.max())), *_drawn(table)]
            spans += [own] if own not in spans else []
        seen[how] = spans
    return seen


def require_seen(seen: Any) -> None:
    """Refuse what cannot have come from `seen_times`, before anybody reckons with it.

    Raises:
        TypeError: naming it.
    """
    try:
        for how in _SPLITS:
            for first, last, *_ in seen[how]:
                _ns(first), _ns(last)
    except (KeyError, TypeError, ValueError) as error:
        raise TypeError(f"seen: {seen!r} is not allowed: spans of times") from error


def count_seen(seen: Seen, table: BarTable, bounds: Tensor) -> dict[str, int]:
    """How many bars of tiles lie in the time that a policy was trained, or chosen, on.

    Whatever the file: markets move together.

    Args:
        seen: by the policy.
        table: the bars of the tiles.
        bounds: int64 [tiles, 2], first and last bar of every tile.

    Returns:
        Counts for ``trained`` and ``chosen``.
    """
    return {how: int(inside.sum()) for how, inside in _lie_in(seen, table, bounds).items()}


def has_unseen(seen: Seen, table: BarTable, bounds: Tensor) -> bool:
    """Whether a bar of tiles lies in no time that a policy was trained or chosen on.

    Args:
        seen: by the policy.
        table: the bars of the tiles.
        bounds: int64 [tiles, 2], first and last bar of every tile.
    """
    known = torch.stack([*_lie_in(seen, table, bounds).values()])  # a bar may be both
    return not bool(known.any(dim=0).all())


def _lie_in(seen: Seen, table: BarTable, bounds: Tensor) -> dict[str, Tensor]:
    """Of every bar of tiles, whether a policy was trained, or chosen, on its time: bool [bars]."""
    bars = torch.cat([torch.arange(a + 1, b + 1) for a, b in bounds.tolist()])
    times, found = table.timestamp[bars], {}
    for how in _SPLITS:
        inside = torch.zeros_like(times, dtype=torch.bool)
        for first, last, *drawn in seen[how]:
            if drawn == _drawn(table):
                inside |= (times >= _ns(first)) & (times <= _ns(last))
        found[how] = inside
    return found


def _drawn(table: BarTable) -> list[str]:
    """Which market was drawn; nothing for bars of a file."""
    return [name for name in [table.meta.source_name] if name.startswith(_DRAWN)]


def _ns(text: str) -> int:
    return int(pd.Timestamp(text).as_unit("ns").value)
