"""The learning curves of a run, from its ``metrics.jsonl``, and fewer points of them."""

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipelines.run_insights.run_files import METRICS, finite, read_text

FRAMES, SPEED = "frames", "time/sps"
_SECONDS_AN_HOUR = 3_600.0


@dataclass(frozen=True)
class Curves:
    """What a run logged.

    Attributes:
        frames: trained on at the last line.
        points: frames and values of each curve, float64 [n] each, by its name; what was not a
            number is left out.
    """

    frames: int = 0
    points: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def speed(self) -> float | None:
        """Median frames/s over whole iterations; None without a line."""
        _, values = self.points.get(SPEED, (None, ()))
        return float(np.median(values)) if len(values) else None

    @property
    def hours(self) -> float | None:
        """Wall-clock hours of all iterations: their frames over their frames/s; None without any.

        What lies between a stop and the next start does not count, nor do the start and the replay.
        """
        if SPEED not in self.points:
            return None
        frames, speed = self.points[SPEED]
        moving = speed > 0
        new = np.diff(frames, prepend=0.0)
        with np.errstate(over="ignore"):  # a frames/s near 0 that a damaged line names
            hours = float(np.sum(new[moving] / speed[moving])) / _SECONDS_AN_HOUR
        return finite(hours)


def read_curves(folder: Path, problems: list[str]) -> Curves:
    """The curves of a run; lines that are none are counted in `problems`, and left out."""
    text = read_text(folder / METRICS, problems)
    if not text:
        return Curves()
    *lines, rest = text.split("\n")
    if rest:
        problems.append(f"{METRICS}: the last line is half-written")
    frames, damaged = 0, 0
    points: dict[str, tuple[list[float], list[float]]] = {}
    for line in lines:
        values = _numbers(line)
        if values is None:
            damaged += 1
            continue
        frames = int(values.pop(FRAMES))
        for name, value in values.items():
            xs, ys = points.setdefault(name, ([], []))
            xs.append(frames)
            ys.append(value)
    if damaged:
        problems.append(f"{METRICS}: {damaged} of {len(lines)} lines are damaged")
    arrays = {name: (np.array(xs, float), np.array(ys)) for name, (xs, ys) in points.items()}
    return Curves(frames, arrays)


def _numbers(line: str) -> dict[str, float] | None:
    """The finite numbers of a line by name, the frames among them; None for another line."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or type(values.get(FRAMES)) is not int:
        return None
    found = {
        name: number for name, value in values.items() if (number := finite(value)) is not None
    }
    return found if found.get(FRAMES, -1.0) >= 0.0 else None


def thin(values: np.ndarray, most: int) -> np.ndarray:
    """Places of at most `most` values, in order: the ends, and the extremes of equal parts.

    Args:
        values: float [n], all finite.
        most: at least 4.
    """
    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), (most - 2) // 2 + 1).astype(int)
    kept = {0, len(values) - 1}
    for first, end in itertools.pairwise(edges):
        part = values[first:end]
        kept |= {first + int(part.argmin()), first + int(part.argmax())}
    return np.array(sorted(kept))
