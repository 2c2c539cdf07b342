"""Looks at held-out bars: where they are counted, and a replay's, which counts like any other."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipelines.held_out.candidate import SPLIT, Candidate
from pipelines.held_out.evaluation_files import EVALUATION
from pipelines.held_out.replay_inputs import Inputs
from pipelines.judging.chained_file import BrokenChainError
from pipelines.judging.opening import Opening, Receipt
from pipelines.judging.registry import FILE, LEVELS, Registry, find_registry, nearest_registry
from pipelines.number_text import how_often
from pipelines.seen_times import has_unseen


def open_everywhere(
    opening: Opening, registry: Path, places: Sequence[Path], elsewhere: Sequence[Registry] = ()
) -> tuple[Registry, Receipt]:
    """Write a look down, also where others who look with these runs would search for it.

    A registry of its own is no way around the one above the runs: that one keeps the
    look, with all that either knows, and the named one gets it too. Where there are several above
    the runs the named one keeps it.

    Args:
        opening: the look.
        registry: the file.
        places: folders above which the registry of those who look is searched for: their runs, or
            the walk-forward.
        elsewhere: other registries, whose looks count as well and which stay as they are.

    Returns:
        The registry that keeps it, and its receipt.

    Raises:
        BrokenChainError: if a registry is damaged; nobody has looked then.
        OSError: if one cannot be written; likewise.
    """
    above = {found for place in places if (found := nearest_registry(place.resolve().parent))}
    named = Registry(registry)
    homes = [Registry(path) for path in sorted(above - {registry.resolve()})]
    keeper, others = (homes[0], [named]) if homes and len(above) == 1 else (named, homes)
    for other in others:
        other.require_writable()
        keeper.bring(other.carried())
    for known in elsewhere:
        keeper.bring(known.carried())
    receipt = keeper.open(opening)
    for other in others:
        other.bring([look for look in keeper.carried() if look.origin == receipt])
    return keeper, receipt


def is_above(registry: Path, places: Sequence[Path]) -> bool:
    """Whether looks that a registry knows are known to who looks with any of these folders."""
    holder = registry.resolve().parent
    above = all(holder in [*place.resolve().parents][:LEVELS] for place in places)
    return (registry.name == FILE and above) or all(
        nearest_registry(place.resolve().parent) for place in places
    )


def open_replay(played: Sequence[Inputs], registry: Path) -> list[str]:
    """Write down that policies are replayed, before they are, if the bars are held out for them.

    Test bars are, and so is whatever else they were neither trained nor chosen on.

    Args:
        played: a run each, over the same bars.
        registry: the file.

    Returns:
        What is to be said of it: whether the bars had been looked at before.

    Raises:
        BrokenChainError: if the registry is damaged.
        OSError: if it cannot be written.
    """
    looking = [each for each in played if each.split == SPLIT or _is_unseen(each)]
    if not looking:
        return []
    kept = []
    for each in looking:
        opening = Candidate(each.run.name, {"": [each]}).opening("replay")
        kept.append(open_everywhere(opening, registry, [each.run.path]))
    first, looks = (book.looks(receipt) for book, receipt in (kept[0], kept[-1]))
    earlier = first.earlier
    if not earlier:
        return []
    return [
        f"Not a first look: these bars had been opened {how_often(earlier)} before; "
        f"{looks.candidates:,} {'candidate has' if looks.candidates == 1 else 'candidates have'} "
        "seen them by now."
    ]


def _is_unseen(part: Inputs) -> bool:
    """Whether it plays bars that its policy was neither trained nor chosen on, as far as known."""
    return part.seen is None or has_unseen(part.seen, part.table, part.bounds)


def verify_registry(run: Path) -> None:
    """Refuse a damaged registry before a training whose end will look at test bars.

    Args:
        run: the folder of the run, there or not.

    Raises:
        BrokenChainError: naming the first line that is wrong.
    """
    Registry(find_registry([run])).verify()


def verify_receipts(folders: Sequence[Path], registry: Path) -> list[Registry]:
    """Hold a registry to the receipts of evaluations that are to be replaced, or were rivals.

    Args:
        folders: of evaluations; one that holds none is passed over.
        registry: that is going to be written.

    Returns:
        Other registries, which counted some of them.

    Raises:
        ValueError: if an evaluation cannot be read, or its registry is neither this one nor where
            it was.
        BrokenChainError: if a registry is damaged, or was begun anew.
    """
    book, elsewhere = Registry(registry), []
    for folder in folders:
        known = _receipt(folder)
        if known is None:
            continue
        receipt, file = known
        if receipt.registry == book.identity or book.knows(receipt):
            book.verify([receipt])
        elif file == registry.resolve():
            raise BrokenChainError(
                f"{folder / EVALUATION}: {registry} did not count this look. Either that was begun "
                "anew, or the run was made on another machine: then bring its registry, "
                "registry=PATH, or the run in an archive, which carries its looks; or look with "
                "this one and leave that result where it is, out=PATH"
            )
        elif file.exists():
            elsewhere.append(Registry(file))
            elsewhere[-1].verify([receipt])
        else:
            raise BrokenChainError(
                f"{folder / EVALUATION}: the registry that counted this look, {file}, is gone; "
                "name the place it was moved to, registry=PATH, or another folder, out=PATH"
            )
    return elsewhere


def _receipt(folder: Path) -> tuple[Receipt, Path] | None:
    """That of the evaluation in a folder, and the registry that gave it."""
    path = folder / EVALUATION
    if not path.is_file():
        return None
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["receipt"]
        file = (folder / known.pop("file")).resolve()
        return Receipt(**known), file
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no evaluation, it holds no receipt ({error!r})") from error
