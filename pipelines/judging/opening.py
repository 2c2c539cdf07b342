"""One look at held-out bars, the proof of it, and how it is carried to another registry."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import pandas as pd

_NUMBER, _HASH = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{64}")


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
        if time_of(self.last_bar) < time_of(self.first_bar):
            raise ValueError(f"last_bar={self.last_bar!r} is before first_bar={self.first_bar!r}")

    @property
    def trial(self) -> tuple[str, str]:
        """What is one candidate, however often it looks."""
        return self.config_sha256, self.checkpoint_sha256

    @property
    def bars(self) -> str:
        """What its bars are told apart by: the file, or the market of bars without one."""
        return self.source_sha256 or self.asset

    def overlaps(self, other: "Opening") -> bool:
        """Whether both look at the same bars: one market, or one file, at the same time."""
        same_file = bool(self.source_sha256) and self.source_sha256 == other.source_sha256
        return (
            (same_file or self.asset == other.asset)
            and time_of(self.first_bar) <= time_of(other.last_bar)
            and time_of(other.first_bar) <= time_of(self.last_bar)
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
class CarriedLook:
    """A look on its way from one registry to another.

    Attributes:
        opening: who looked at what.
        time: when, ISO 8601, UTC.
        origin: where it was written down first, however often it has been carried since.
    """

    opening: Opening
    time: str
    origin: Receipt

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self.opening), "time": self.time, "origin": asdict(self.origin)}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "CarriedLook":
        """Read and check one; nothing of it is trusted.

        Raises:
            ValueError: if it is none.
        """
        try:
            plain = dict(values)
            time, origin = plain.pop("time"), Receipt(**plain.pop("origin"))
            texts = (time, origin.registry, origin.sha256, *plain.values())
            fits = all(type(text) is str for text in texts) and type(origin.line) is int
            if not (fits and _NUMBER.fullmatch(origin.registry) and _HASH.fullmatch(origin.sha256)):
                raise ValueError("text, and the receipt of a registry, were expected")
            time_of(time)
            return cls(Opening(**plain), time, origin)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"no look at held-out bars: {error}") from error


@lru_cache(4_096)  # most looks are at the same bars, and a page of many verdicts counts them all
def time_of(text: str) -> pd.Timestamp:
    """A time in ISO 8601 as UTC.

    Raises:
        ValueError: if it is none.
    """
    time: Any = pd.Timestamp(text)
    if pd.isna(time):
        raise ValueError(f"{text!r} is not a time")
    return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
