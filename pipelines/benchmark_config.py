"""What to measure, and how much of it."""

from dataclasses import dataclass, field

from envs.checks import require, require_at_least, require_one_of
from envs.known_config import MARKETS
from pipelines.learning_learners import COMPARED, LEARNERS

SUITES = ("env", "speed", "recorder", "learning", "faults", "verdict")


@dataclass
class BenchmarkConfig:
    """One measurement of this machine: ``python pipelines/benchmark.py suite=env``.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # What to measure: env, speed, recorder, learning, faults or verdict.
    suite: str = "env"
    # Repetitions of a timing, of which the median counts.
    repeats: int = 5
    # JSON file for the result, and an HTML page beside it for learning; null: only print it.
    out: str | None = None
    # Of learning: a look at two markets in minutes instead of everything.
    quick: bool = False
    # Of learning: markets, learners, seeds (0, 1, ...) and frames of a run.
    markets: list[str] = field(default_factory=lambda: list(MARKETS))
    learners: list[str] = field(default_factory=lambda: list(COMPARED))
    seeds: int = 5
    frames: int = 65_536
    # Of learning and verdict: runs at a time, of one thread each.
    workers: int = 2

    # Of speed: epochs of an update.
    epochs: int = 4
    # Of faults: trainings killed; every other fault is tried in proportion to 100 kills.
    kills: int = 100
    # Of verdict: matrices of returns without an edge, of every kind.
    matrices: int = 200

    def __post_init__(self) -> None:
        require_one_of("suite", self.suite, SUITES)
        for key in ("repeats", "seeds", "workers", "epochs", "kills", "matrices"):
            require_at_least(key, getattr(self, key), 1)
        require_at_least("frames", self.frames, 8_192)
        for key, allowed in (("markets", MARKETS), ("learners", LEARNERS)):
            require(bool(getattr(self, key)), key, getattr(self, key), "at least one")
            for value in getattr(self, key):
                require_one_of(key, value, list(allowed))
