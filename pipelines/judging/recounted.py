"""A verdict with the tries of today: candidates that have looked at its bars since count too.

Who comes back to an early result after others have failed has chosen it among all of them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.judging.findings import Against, Findings, recount
from pipelines.judging.known_looks import KnownLooks
from pipelines.judging.opening import Receipt
from pipelines.judging.registry import Registry
from pipelines.judging.verdict import judge


@dataclass(frozen=True)
class Recounted:
    """The verdict as it is by now.

    Attributes:
        word: of the verdict.
        trials: candidates that have looked at the bars by now.
        before: that were counted when the evaluation was made.
    """

    word: str
    trials: int
    before: int

    @property
    def sentence(self) -> str:
        """What that means."""
        return (
            f"{self.trials:,} candidates have looked at these bars by now, {self.before:,} when "
            f"this was found: all of them counted, the verdict is: {self.word}."
        )


class Recounter:
    """Recounts verdicts; a registry that many of them name is read once, as it is by then."""

    def __init__(self) -> None:
        self._known: dict[str, KnownLooks | None] = {}

    def recounted(self, folder: Path, values: Mapping[str, Any]) -> Recounted | None:
        """The verdict of an evaluation with all looks that its registry knows by now.

        Args:
            folder: of the evaluation.
            values: of its ``evaluation.json``; nothing of it is trusted.

        Returns:
            None if nobody else has looked since, or the registry cannot be read or knows nothing
            of it.
        """
        try:
            receipt = dict(values["receipt"])
            known = self._read(folder / receipt.pop("file"))
            if known is None:
                return None
            trials = known.looks(Receipt(**receipt)).trials
            plain = dict(values["verdict"]["findings"])
            against = [Against(**each) for each in plain.pop("against")]
            findings = Findings(**plain, against=against)
            if trials <= findings.trials:
                return None
            word = judge(recount(findings, trials)).word
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, OSError):
            return None
        return Recounted(word, trials, findings.trials)

    def _read(self, path: Path) -> KnownLooks | None:
        place = os.path.realpath(path)
        if place not in self._known:
            self._known[place] = None
            registry = Registry(path)
            # A device would be read for ever, and what is large and no registry fill the memory.
            if registry.file.path.is_file() and registry.file.head.is_file():
                self._known[place] = registry.known()
        return self._known[place]


def recounted(folder: Path, values: Mapping[str, Any]) -> Recounted | None:
    """The verdict of one evaluation with all looks until now: see `Recounter.recounted`."""
    return Recounter().recounted(folder, values)
