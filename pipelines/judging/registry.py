"""Who has looked at which held-out bars, and how many candidates a result was chosen from.

Held-out bars are held out once. Every look at them is written down before it happens, in a file
that only grows: see `pipelines.judging.chained_file`, and ``docs/verdict.md`` for what is counted.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from pipelines.judging.chained_file import BrokenChainError, ChainedFile, Line
from pipelines.judging.opening import CarriedLook, Opening, Receipt

_BEGUN, _OPENED = "begun", "opened"


@dataclass(frozen=True)
class Looks:
    """What the registry knows of some bars.

    Attributes:
        trials: tries that a result on them was chosen from, its own included: candidates that have
            looked at any of them, once for every file or market that they have looked at anywhere.
        candidates: that have looked at any of them, the one asked about included.
        openings: looks at any of them, its own included.
        earlier: openings before its own; 0: a first look.
        begun: when the registry was begun; of looks before then it knows nothing.
    """

    trials: int
    candidates: int
    openings: int
    earlier: int
    begun: str


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
        return self._origin(lines, lines[-1])

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
            known = {self._origin(lines, line) for line in lines[1:]}
            fresh = {look.origin: look for look in looks if look.origin not in known}
            for look in fresh.values():
                self.file.append(lines, {"kind": _OPENED, **look.to_plain()})
        return len(fresh)

    def carried(self) -> list[CarriedLook]:
        """All looks, for other registries, in an order that does not depend on this one.

        Raises:
            BrokenChainError: if the registry is damaged.
        """
        lines = self.verify()
        looks = [
            CarriedLook(self._opening(line), str(line.values["time"]), self._origin(lines, line))
            for line in lines[1:]
        ]
        return sorted(looks, key=lambda look: astuple(look.origin))

    def knows(self, receipt: Receipt) -> bool:
        """Whether the look of a receipt stands here, written down here or brought.

        Raises:
            BrokenChainError: if the registry is damaged.
        """
        return receipt in {look.origin for look in self.carried()}

    def looks(self, receipt: Receipt) -> Looks:
        """Count the looks at the bars of an opening.

        Later candidates count too: who comes back to an early result after they have failed has
        chosen it among all of them. So do other bars that these candidates have looked at: who
        holds one policy against ten markets, or ten cuts of one, has ten results to choose from.

        Raises:
            BrokenChainError: if the registry is damaged or does not hold the receipt.
        """
        lines = self.verify([receipt])
        line = next(line for line in lines[1:] if self._origin(lines, line) == receipt)
        number, own = line.number, self._opening(line)
        known = {line.number: self._opening(line) for line in lines[1:]}
        same = {at: other for at, other in known.items() if other.overlaps(own)}
        candidates = {other.trial for other in same.values()}
        tries = {(look.trial, look.bars) for look in known.values() if look.trial in candidates}
        return Looks(
            trials=len(tries),
            candidates=len(candidates),
            openings=len(same),
            earlier=sum(other < number for other in same),
            begun=str(lines[0].values["time"]),
        )

    def openings(self) -> list[Opening]:
        """All of them, in order.

        Raises:
            BrokenChainError: if the registry is damaged.
        """
        return [self._opening(line) for line in self.verify()[1:]]

    def verify(self, receipts: Iterable[Receipt] = ()) -> list[Line]:
        """Hold the registry to its hashes, its head, and the receipts that reports carry.

        Raises:
            BrokenChainError: naming the first line that is wrong or missing.
        """
        lines = self.file.read()
        for receipt in receipts:
            self._require(lines, receipt)
        return lines

    def _require(self, lines: Sequence[Line], receipt: Receipt) -> None:
        path, number = self.file.path, receipt.line
        if any(line.values.get("origin") == asdict(receipt) for line in lines):
            return
        if not lines or lines[0].values.get("registry") != receipt.registry:
            raise BrokenChainError(
                f"{path}: line 1 is not that of the registry which gave a receipt for line "
                f"{number}: it was begun anew"
            )
        if number > len(lines):
            raise BrokenChainError(
                f"{path}: line {len(lines) + 1} is missing: there is a receipt for line {number}"
            )
        if lines[number - 1].sha256 != receipt.sha256:
            raise BrokenChainError(f"{path}: line {number} is not the one of its receipt")

    @contextmanager
    def _growing(self) -> Iterator[list[Line]]:
        """The lines, at least the one that begins it, while nobody else may add any."""
        with self.file.growing() as lines:
            if not lines:
                begun = {"kind": _BEGUN, "registry": uuid.uuid4().hex, "time": _now()}
                self.file.append(lines, begun)
            yield lines

    def _origin(self, lines: Sequence[Line], line: Line) -> Receipt:
        """Where a look was written down first."""
        if "origin" not in line.values:
            return Receipt(str(lines[0].values["registry"]), line.number, line.sha256)
        try:
            return Receipt(**line.values["origin"])
        except TypeError as error:
            raise BrokenChainError(
                f"{self.file.path}: line {line.number} has no origin: {error}"
            ) from error

    def _opening(self, line: Line) -> Opening:
        try:
            return Opening(**{field.name: line.values[field.name] for field in fields(Opening)})
        except (KeyError, ValueError) as error:
            raise BrokenChainError(
                f"{self.file.path}: line {line.number} is no opening: {error}"
            ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
