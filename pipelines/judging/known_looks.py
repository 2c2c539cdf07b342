"""The looks that a registry holds, read once, and how many of them were at the same bars."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pipelines.judging.chained_file import BrokenChainError, Line
from pipelines.judging.opening import CarriedLook, Opening, Receipt


@dataclass(frozen=True)
class Looks:
    """What the registry knows of some bars.

    Attributes:
        trials: tries that a result on them was chosen from, its own included: candidates that have
            looked at any of them, once for every file or market that they have looked at anywhere.
        candidates: that have looked at any of them, the one asked about included.
        openings: looks at any of them, its own included.
        earlier: openings before its own; 0: a first look.
        apart: candidates that have looked at none of them, and are no tries here.
        begun: when the registry was begun; of looks before then it knows nothing.
    """

    trials: int
    candidates: int
    openings: int
    earlier: int
    apart: int
    begun: str


class KnownLooks:
    """The looks of a registry as it was when it was read.

    Args:
        path: of the registry, for what is said of it.
        lines: of its file, each held to its hash.

    Raises:
        BrokenChainError: if a line is no look.
    """

    def __init__(self, path: Path, lines: Sequence[Line]) -> None:
        self.path, self._lines = path, lines
        begun = lines[0].values if lines else {"registry": "", "time": ""}
        if not all(isinstance(begun.get(name), str) for name in ("registry", "time")):
            raise BrokenChainError(f"{path}: line 1 begins no registry")
        self.carried = [self._look(line) for line in lines[1:]]
        self._places = {look.origin: place for place, look in enumerate(self.carried)}
        # Most looks are at the same bars: whether these overlap others is asked once for all.
        self._at: dict[tuple[str, ...], list[int]] = defaultdict(list)
        self._held_against: dict[tuple[str, str], set[str]] = defaultdict(set)
        for place, look in enumerate(self.carried):
            own = look.opening
            self._at[own.asset, own.source_sha256, own.first_bar, own.last_bar].append(place)
            self._held_against[own.trial].add(own.bars)

    def __contains__(self, receipt: Receipt) -> bool:
        """Whether the look of a receipt stands here, written down here or brought."""
        return receipt in self._places

    def looks(self, receipt: Receipt) -> Looks:
        """Count the looks at the bars of an opening.

        Later candidates count too: who comes back to an early result after they have failed has
        chosen it among all of them. So do other bars that these candidates have looked at: who
        holds one policy against ten markets, or ten cuts of one, has ten results to choose from.

        Raises:
            BrokenChainError: if the registry does not hold the receipt.
        """
        self.require(receipt)
        own = self._places[receipt]
        bars = self.carried[own].opening
        same = [place for places in self._at.values()
                if self.carried[places[0]].opening.overlaps(bars) for place in places]  # fmt: skip
        candidates = {self.carried[place].opening.trial for place in same}
        return Looks(
            trials=sum(len(self._held_against[each]) for each in candidates),
            candidates=len(candidates),
            openings=len(same),
            earlier=sum(place < own for place in same),
            apart=len(self._held_against.keys() - candidates),
            begun=str(self._lines[0].values["time"]),
        )

    def require(self, receipt: Receipt) -> None:
        """Hold the registry to a receipt that a report carries.

        Raises:
            BrokenChainError: saying how the registry is another one than that of the receipt.
        """
        if receipt in self:
            return
        lines, number = self._lines, receipt.line
        if not lines or lines[0].values.get("registry") != receipt.registry:
            raise BrokenChainError(
                f"{self.path}: line 1 is not that of the registry which gave a receipt for line "
                f"{number}: it was begun anew"
            )
        if number > len(lines):
            raise BrokenChainError(
                f"{self.path}: line {len(lines) + 1} is missing: there is a receipt for line "
                f"{number}"
            )
        raise BrokenChainError(f"{self.path}: line {number} is not the one of its receipt")

    def _look(self, line: Line) -> CarriedLook:
        try:
            texts = {each.name: line.values[each.name] for each in fields(Opening)}
            _require_types(texts.values(), str)
            opening = Opening(**texts)
        except (KeyError, TypeError, ValueError) as error:
            raise BrokenChainError(
                f"{self.path}: line {line.number} is no opening: {error}"
            ) from error
        return CarriedLook(opening, str(line.values["time"]), self._origin(line))

    def _origin(self, line: Line) -> Receipt:
        """Where a look was written down first."""
        if "origin" not in line.values:
            return Receipt(str(self._lines[0].values["registry"]), line.number, line.sha256)
        try:
            origin = Receipt(**line.values["origin"])
            _require_types((origin.registry, origin.sha256), str)
            _require_types((origin.line,), int)
            return origin
        except TypeError as error:
            raise BrokenChainError(
                f"{self.path}: line {line.number} has no origin: {error}"
            ) from error


def _require_types(values: Iterable[Any], kind: type) -> None:
    wrong = [value for value in values if type(value) is not kind]
    if wrong:
        raise TypeError(f"{wrong[0]!r} is not of type {kind.__name__}")
