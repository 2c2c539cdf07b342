"""Candidates at the same bars that registries near by know, and that nobody counts from here."""

from pathlib import Path

from pipelines.judging.opening import Opening
from pipelines.judging.registry import FILE, LEVELS, Registry


def candidates_beside(registry: Registry, opening: Opening) -> int:
    """How many more candidates at the bars of an opening are known beside a registry.

    Runs in folders of their own, ``runs/first/a`` and ``runs/second/b``, begin a registry each, and
    a look in one of them is no look in the other.

    Args:
        registry: that counted the look.
        opening: the look.
    """
    own = _candidates(registry, opening)
    near = (_candidates(Registry(path), opening) for path in _near(registry.file.path.resolve()))
    return len(set[tuple[str, str]]().union(*near) - own)


def _near(registry: Path) -> list[Path]:
    """Other registries: in the folders below that of a registry, in those beside it, and above."""
    holder = registry.parent
    places = {*_entries(holder), *_entries(holder.parent), *[*holder.parents][: LEVELS - 1]}
    return sorted({place / FILE for place in places} - {registry})


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, asked nothing: one may be a mount whose machine is gone."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _candidates(registry: Registry, opening: Opening) -> set[tuple[str, str]]:
    """Those at the bars of an opening; none of a registry that is gone, damaged, or none."""
    known = registry.known_if_whole()
    looks = [] if known is None else [look.opening for look in known.carried]
    return {look.trial for look in looks if look.overlaps(opening)}
