"""What to measure, and how much of it."""

from collections.abc import Collection
from dataclasses import dataclass, field

from envs.checks import (
    require,
    require_at_least,
    require_between,
    require_one_of,
    require_positive,
)
from envs.known_config import MARKETS
from pipelines.benchmarks.learning_learners import COMPARED, LEARNERS

NETWORKS = ("mission", "aligned", "mlp", "streaming")
SHARING = (1, 4, 16, 64)
LANES = (16, 256, 4_096, 65_536)
SUITES = ("env", "speed", "replay", "recorder", "tracking", "learning", "faults", "verdict")


@dataclass
class BenchmarkConfig:
    """One measurement of this machine: ``python pipelines/benchmark.py suite=env``.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # What to measure: env, speed, replay, recorder, tracking, learning, faults, verdict.
    suite: str = "env"
    # Repetitions of a timing, of which the median counts.
    repeats: int = 5
    # JSON file for the result, and an HTML page beside it for speed and learning; null: only print.
    # Of speed, every finished row is in the file at once.
    out: str | None = None
    # Of speed and learning: a look in minutes instead of everything. Of learning: one short run
    # for each learner, on two markets unless `markets` says which.
    quick: bool = False
    # Of learning: markets, learners, seeds (0, 1, ...) and frames of a run.
    markets: list[str] = field(default_factory=lambda: list(MARKETS))
    learners: list[str] = field(default_factory=lambda: list(COMPARED))
    seeds: int = 5
    frames: int = 65_536
    # How often a run is judged in its course, on held-out bars.
    evaluations: int = 24
    # Of learning and verdict: runs at a time, of one thread each.
    workers: int = 2

    # Of speed: networks, accounts that share a window, lanes; epochs of an update, reckoned from a
    # timed one (of recorder: as many); and seconds of this machine's peak above which a cell is
    # left out.
    networks: list[str] = field(default_factory=lambda: list(NETWORKS))
    sharing: list[int] = field(default_factory=lambda: list(SHARING))
    lanes: list[int] = field(default_factory=lambda: list(LANES))
    epochs: int = 4
    limit_s: float = 60.0
    # Of speed: measure what time and memory grow with, too.
    growth: bool = True
    # Of replay: one-minute bars to replay with each of `networks`; and how many of them step by
    # step too.
    bars: int = 525_600
    compared: int = 4_800
    # Of tracking: iterations that are measured, after as many others.
    iterations: int = 100
    # Of faults: trainings killed; every other fault is tried in proportion to 100 kills.
    kills: int = 100
    # Of verdict: matrices of returns without an edge, of every kind; or, in full, whole trainings
    # on markets without an edge, and on markets with one.
    matrices: int = 200
    full: bool = False
    driftless: int = 20
    planted: int = 5

    def __post_init__(self) -> None:
        require_one_of("suite", self.suite, SUITES)
        fits = self.out is None or self.out.endswith(".json")
        require(fits, "out", self.out, "a name in .json; the page lies beside it")
        for key in ("repeats", "seeds", "workers", "epochs", "kills", "matrices", "iterations"):
            require_at_least(key, getattr(self, key), 1)
        for key in ("driftless", "planted"):
            require_at_least(key, getattr(self, key), 0)
        require_at_least("frames", self.frames, 8_192)
        require_between("evaluations", self.evaluations, 3, 256)
        require_positive("limit_s", self.limit_s)
        for key in ("bars", "compared"):
            require_at_least(key, getattr(self, key), 240)
        for key in ("sharing", "lanes"):
            require(bool(getattr(self, key)), key, getattr(self, key), "at least one number")
            for value in getattr(self, key):
                require_at_least(key, value, 1)
        choices: dict[str, Collection[str]] = {
            "markets": MARKETS,
            "learners": LEARNERS,
            "networks": NETWORKS,
        }
        for key, allowed in choices.items():
            require(bool(getattr(self, key)), key, getattr(self, key), "at least one")
            for value in getattr(self, key):
                require_one_of(key, value, list(allowed))
