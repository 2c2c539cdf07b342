"""Who has looked at which held-out bars, and how many candidates a result was chosen from.

Held-out bars are held out once. Every look at them is written down before it happens, in a file
that only grows: see `pipelines.judging.chained_file`, and ``docs/verdict.md`` for what is counted.
"""

import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple
from datetime import UTC, datetime
from pathlib import Path

from pipelines.judging.chained_file import BrokenChainError, ChainedFile, Line
from pipelines.judging.known_looks import KnownLooks, Looks
from pipelines.judging.opening import CarriedLook, Opening, Receipt

FILE = "openings.jsonl"
LEVELS = 4  # folders in which a registry is looked for: that of the runs, and those above
_BEGUN, _OPENED = "begun", "opened"


def nearest_registry(folder: Path) -> Path | None:
    """The registry in a folder or above it."""
    above = [folder, *folder.parents][:LEVELS]
    return next((place / FILE for place in above if (place / FILE).exists()), None)


def find_registry(runs: Sequence[Path]) -> Path:
    """The registry of runs: the nearest one above all of them, or a new one beside them.

    Args:
        runs: their folders.

    Raises:
        ValueError: if a run lies under another registry than the others.
    """
    parents = [run.resolve().parent for run in runs]
    holder = Path(os.path.commonpath(parents))
    common = nearest_registry(holder)
    for run, parent in zip(runs, parents, strict=True):
        own = nearest_registry(parent)
        if own != common:
            raise ValueError(
                f"{run} lies under the registry {own}, the runs together under {common or 'none'}: "
                "say where looks at these bars are counted, registry=PATH"
            )
    return common or holder / FILE


class Registry:
    """The openings of held-out bars.

    Args:
        path: the file, ``*.jsonl``; it is begun by the first opening.
    """

    def __init__(self, path: str | Path) -> None:
        self.file = ChainedFile(path)

    @property
    def identity(self) -> str | None:
        """The number that was drawn when it was begun; None before the first opening."""
        lines = self.file.read()
        return str(lines[0].values["registry"]) if lines else None

    def open(self, opening: Opening) -> Receipt:
        """Write an opening down, on the disk, before the bars are looked at.

        Any number of processes may do so at a time.

        Raises:
            BrokenChainError: if the registry is damaged; nothing is added to it.
            OSError: if the disk refuses, or others keep the registry locked.
        """
        with self._growing() as lines:
            self.file.append(lines, {"kind": _OPENED, "time": _now(), **asdict(opening)})
        last = lines[-1]
        return Receipt(str(lines[0].values["registry"]), last.number, last.sha256)

    def bring(self, looks: Iterable[CarriedLook]) -> int:
        """Add the looks of other registries that this one does not know, and say how many.

        A look counts wherever it happened, and once, however often and by whatever way it comes.

        Raises:
            BrokenChainError: if the registry is damaged; nothing is added to it.
            OSError: if the disk refuses, or others keep the registry locked.
        """
        looks = list(looks)
        if not looks:
            return 0
        with self._growing() as lines:
            known = KnownLooks(self.file.path, lines)
            fresh = {look.origin: look for look in looks if look.origin not in known}
            brought = [{"kind": _OPENED, **look.to_plain()} for look in fresh.values()]
            self.file.extend(lines, brought)
        return len(fresh)

    def require_writable(self) -> None:
        """Refuse what takes no look, before one is written down elsewhere as well.

        Raises:
            BrokenChainError: if the registry is damaged.
            OSError: if nothing can be written where it lies, or others keep it locked.
        """
        with self.file.growing():
            pass

    def carried(self) -> list[CarriedLook]:
        """All looks, for other registries, in an order that does not depend on this one.

        Raises:
            BrokenChainError: if the registry is damaged.
        """
        return sorted(self.known().carried, key=lambda look: astuple(look.origin))

    def knows(self, receipt: Receipt) -> bool:
        """Whether the look of a receipt stands here, written down here or brought.

        Raises:
            BrokenChainError: if the registry is damaged.
        """
        return receipt in self.known()

    def looks(self, receipt: Receipt) -> Looks:
        """Count the looks at the bars of an opening: see `KnownLooks.looks`.

        Raises:
            BrokenChainError: if the registry is damaged or does not hold the receipt.
        """
        return self.known().looks(receipt)

    def verify(self, receipts: Iterable[Receipt] = ()) -> list[Line]:
        """Hold the registry to its hashes, its head, and the receipts that reports carry.

        Raises:
            BrokenChainError: naming the first line that is wrong or missing.
        """
        lines = self.file.read()
        for receipt in receipts:
            KnownLooks(self.file.path, lines).require(receipt)
        return lines

    def known(self) -> KnownLooks:
        """All looks as they are now, to be counted any number of times.

        Raises:
            BrokenChainError: if the registry is damaged.
        """
        return KnownLooks(self.file.path, self.file.read())

    def known_if_whole(self) -> KnownLooks | None:
        """The same; None for a registry that is gone, damaged, cannot be read, or is none."""
        try:
            # A device would be read for ever, and a large file that is none would fill the memory.
            if not (self.file.path.is_file() and self.file.head.is_file()):
                return None
            return self.known()
        except (BrokenChainError, OSError):
            return None

    @contextmanager
    def _growing(self) -> Iterator[list[Line]]:
        """The lines, at least the one that begins it, while nobody else may add any."""
        with self.file.growing() as lines:
            if not lines:
                begun = {"kind": _BEGUN, "registry": uuid.uuid4().hex, "time": _now()}
                self.file.append(lines, begun)
            yield lines


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
