"""Who has looked at which held-out bars, and how many candidates a result was chosen from.

Held-out bars are held out once. Every look at them is written down before it happens, in a file
that only grows: see `pipelines.judging.chained_file`, and ``docs/verdict.md`` for what is counted.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.judging.chained_file import BrokenChainError, ChainedFile, Line

_BEGUN, _OPENED = "begun", "opened"


@dataclass(frozen=True)
class Opening:
    """One look at held-out bars. Times are ISO 8601, UTC.

    Attributes:
        asset: the market's name.
        source_sha256: of the file of bars; empty for bars without one.
        first_bar: opening time of the first bar that is looked at.
        last_bar: of the last.
        split: ``val`` or ``test``, or what the program calls it.
        run: name of the run, or of the evaluation.
        config_sha256: of the configuration that was trained.
        checkpoint_sha256: of the checkpoint that looks; where several are judged together, such as
            the seeds and folds of one configuration, of their hashes in order of size.
        purpose: why, in a word: ``evaluate``, ``replay``.

    Raises:
        ValueError: for a time that is none, or a last bar before the first.
    """

    asset: str
    source_sha256: str
    first_bar: str
    last_bar: str
    split: str
    run: str
    config_sha256: str
    checkpoint_sha256: str
    purpose: str

    def __post_init__(self) -> None:
        if _time(self.last_bar) < _time(self.first_bar):
            raise ValueError(f"last_bar={self.last_bar!r} is before first_bar={self.first_bar!r}")

    @property
    def trial(self) -> tuple[str, str]:
        """What is one candidate, however often it looks."""
        return self.config_sha256, self.checkpoint_sha256

    def overlaps(self, other: "Opening") -> bool:
        """Whether both look at the same bars: one market, or one file, at the same time."""
        same_file = bool(self.source_sha256) and self.source_sha256 == other.source_sha256
        return (
            (same_file or self.asset == other.asset)
            and _time(self.first_bar) <= _time(other.last_bar)
            and _time(other.first_bar) <= _time(self.last_bar)
        )


@dataclass(frozen=True)
class Receipt:
    """Proof of an opening, to be kept in its report.

    Attributes:
        registry: which registry: a number drawn when it was begun.
        line: the opening's, from 1.
        sha256: of that line.
    """

    registry: str
    line: int
    sha256: str


@dataclass(frozen=True)
class Looks:
    """What the registry knows of some bars.

    Attributes:
        trials: candidates that have looked at any of them, the one asked about included.
        openings: looks at any of them, its own included.
        earlier: openings before its own; 0: a first look.
        begun: when the registry was begun; of looks before then it knows nothing.
    """

    trials: int
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
        with self.file.growing() as lines:
            if not lines:
                begun = {"kind": _BEGUN, "registry": uuid.uuid4().hex, "time": _now()}
                self.file.append(lines, begun)
            self.file.append(lines, {"kind": _OPENED, "time": _now(), **asdict(opening)})
        return Receipt(lines[0].values["registry"], lines[-1].number, lines[-1].sha256)

    def looks(self, receipt: Receipt) -> Looks:
        """Count the looks at the bars of an opening.

        Later candidates count too: who comes back to an early result after they have failed has
        chosen it among all of them.

        Raises:
            BrokenChainError: if the registry is damaged or does not hold the receipt.
        """
        lines = self.verify([receipt])
        own = self._opening(lines[receipt.line - 1])
        same = {
            line.number: other for line in lines[1:] if (other := self._opening(line)).overlaps(own)
        }
        return Looks(
            trials=len({other.trial for other in same.values()}),
            openings=len(same),
            earlier=sum(number < receipt.line for number in same),
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

    def _opening(self, line: Line) -> Opening:
        try:
            return Opening(**{field.name: line.values[field.name] for field in fields(Opening)})
        except (KeyError, ValueError) as error:
            raise BrokenChainError(
                f"{self.file.path}: line {line.number} is no opening: {error}"
            ) from error


def _time(text: str) -> pd.Timestamp:
    time: Any = pd.Timestamp(text)
    if pd.isna(time):
        raise ValueError(f"{text!r} is not a time")
    return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
