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
from pipelines.judging.registry import Registry, nearest_registry
from pipelines.judging.verdict import EDGE, judge


@dataclass(frozen=True)
class Recounted:
    """The verdict as it is by now.

    Attributes:
        word: of the verdict; an edge, as it was, if nobody can tell how many tries there were.
        trials: tries that are known by now; None: the registry that counted them is gone, damaged,
            or does not hold the evaluation's receipt.
        before: that were counted when the evaluation was made.
    """

    word: str
    trials: int | None
    before: int

    @property
    def short(self) -> str:
        """The word, and whether the tries behind it are known."""
        return f"{self.word}, tries unknown" if self.trials is None else self.word

    @property
    def title(self) -> str:
        """The same in few words."""
        return "Not to be counted any more" if self.trials is None else f"By now: {self.word}"

    @property
    def sentence(self) -> str:
        """What that means."""
        if self.trials is None:
            return (
                f"The registry that counted {self.before:,} {_tries(self.before)} when this was "
                "found is gone, damaged, or not the one that gave the receipt: whether the verdict "
                f"still is {self.word}, nobody can tell."
            )
        return (
            f"{self.trials:,} tries are known by now, {self.before:,} when this was found, one for "
            "each file of bars that a candidate has looked at: all of them counted, the verdict "
            f"is: {self.word}."
        )


def _tries(number: int) -> str:
    return "try" if number == 1 else "tries"


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
            None if nobody else has looked since, the values are those of no evaluation, or there is
            no edge that further tries could take away and they cannot be counted.
        """
        try:
            receipt = dict(values["receipt"])
            path, own = folder / receipt.pop("file"), Receipt(**receipt)
            plain = dict(values["verdict"]["findings"])
            against = [Against(**each) for each in plain.pop("against")]
            findings = Findings(**plain, against=against)
            before = judge(findings).word
            known = self._find(own, path, folder)
            if known is None:
                # Tries take an edge away, and make none of anything else.
                return Recounted(EDGE, None, findings.trials) if before == EDGE else None
            trials = known.looks(own).trials
            if trials <= findings.trials:
                return None
            word = judge(recount(findings, trials)).word
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
            return None
        return Recounted(word, trials, findings.trials)

    def _find(self, receipt: Receipt, path: Path, folder: Path) -> KnownLooks | None:
        """What knows a look: the registry that gave the receipt, or one above, to which it came."""
        for place in (path, nearest_registry(folder.resolve().parent)):
            known = None if place is None else self._read(place)
            if known is not None and receipt in known:
                return known
        return None

    def _read(self, path: Path) -> KnownLooks | None:
        """None for a registry that is gone, damaged, or none."""
        place = os.path.realpath(path)
        if place not in self._known:
            self._known[place] = Registry(path).known_if_whole()
        return self._known[place]


def recounted(folder: Path, values: Mapping[str, Any]) -> Recounted | None:
    """The verdict of one evaluation with all looks until now: see `Recounter.recounted`."""
    return Recounter().recounted(folder, values)
