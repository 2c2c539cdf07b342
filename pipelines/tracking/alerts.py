"""What a person should be told at once: numbers that are none, and a training that goes astray."""

import math
import statistics
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipelines.tracking.tracking_config import AlertConfig

# Iterations in a row that must be slow: one alone may have written and judged a checkpoint.
SLOW_IN_A_ROW = 3
_SPEED = "time/sps"


@dataclass(frozen=True)
class Alert:
    """A message: a short title, a sentence, and whether the training is over."""

    title: str
    text: str
    is_fatal: bool = False


class AlertWatch:
    """Looks at the metrics of every iteration; says a thing when it begins, not while it lasts.

    Args:
        cfg: the limits.
    """

    def __init__(self, cfg: AlertConfig) -> None:
        self.cfg = cfg
        self._lasting: set[str] = set()
        self._none: set[str] = set()
        self._speeds: deque[float] = deque(maxlen=cfg.slowdown_after)
        self._slow = 0

    def look(self, values: Mapping[str, float], frames: int) -> list[Alert]:
        """What has begun with these metrics.

        Args:
            values: by name; what is not among them is neither better nor worse than before.
            frames: trained on so far.
        """
        found = self._no_numbers(values, frames)
        for title, text in self._wrongs(values):
            if text is None:
                self._lasting.discard(title)
            elif title not in self._lasting:
                self._lasting.add(title)
                found.append(Alert(title, f"{text} at frame {frames:,}"))
        return found

    def _no_numbers(self, values: Mapping[str, float], frames: int) -> list[Alert]:
        """One alert of all metrics that have become no number, each of which lasts by itself."""
        none = {name for name, value in values.items() if not math.isfinite(value)}
        begun = [name for name in values if name in none - self._none]
        self._none = (self._none - values.keys()) | none
        text = f"{', '.join(begun)}: not a number at frame {frames:,}"
        return [Alert("not a number", text)] if begun else []

    def _wrongs(self, values: Mapping[str, float]) -> Iterator[tuple[str, str | None]]:
        """Every condition that these metrics speak of: its title, and what is wrong, if it is."""
        cfg = self.cfg
        limits = (
            ("KL divergence", "train/approx_kl", cfg.kl, 1.0),
            ("entropy collapse", "train/entropy_direction", cfg.entropy, -1.0),
            ("ruin", "rollout/ruin_share", cfg.ruin_share, 1.0),
        )
        for title, name, limit, sign in limits:
            value = values.get(name, math.nan)
            if limit is not None and math.isfinite(value):
                side = "above" if sign > 0 else "below"
                text = f"{name} is {value:.4g}, {side} {limit:g}"
                yield title, text if sign * value > sign * limit else None
        if cfg.slowdown is not None and math.isfinite(values.get(_SPEED, math.nan)):
            yield "slowdown", self._slowdown(values[_SPEED], cfg.slowdown)

    def _slowdown(self, speed: float, share: float) -> str | None:
        """What is usual is learned from speeds that are not slow themselves."""
        known = len(self._speeds) == self._speeds.maxlen
        usual = statistics.median(self._speeds) if known else 0.0
        if speed >= share * usual:
            self._slow = 0
            self._speeds.append(speed)
            return None
        self._slow += 1
        if self._slow < SLOW_IN_A_ROW:
            return None
        return f"{_SPEED} is {speed:,.0f}, of {usual:,.0f} usually,"
