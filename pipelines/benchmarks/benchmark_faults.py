"""``suite=faults``: what a run survives: kills, signals, damage, bad numbers, a full disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipelines.benchmarks.benchmark_config import BenchmarkConfig
from pipelines.benchmarks.faults_damage import damage_at_random
from pipelines.benchmarks.faults_disk import fill_disk
from pipelines.benchmarks.faults_kills import kill_at_random
from pipelines.benchmarks.faults_numbers import inject_numbers
from pipelines.benchmarks.faults_signals import signal_at_random
from pipelines.benchmarks.faults_workers import hurt_workers


def try_faults(cfg: BenchmarkConfig, folder: Path) -> list[dict[str, Any]]:
    """A row for each kind of fault: how often it was tried, and how often the run held.

    Args:
        cfg: `kills` counts the kills; the rest is tried in proportion.
        folder: for the runs, some hundred MB.
    """
    trials = _trials(cfg, folder)
    return [row for rows in tqdm(trials, unit="fault", total=7) for row in rows]


def _trials(cfg: BenchmarkConfig, folder: Path) -> Iterator[list[dict[str, Any]]]:
    share = cfg.kills / 100
    for workers, kills in ((0, cfg.kills - cfg.kills // 2), (2, cfg.kills // 2)):
        if kills:
            runs = folder / f"kills{workers}"
            runs.mkdir()
            yield [kill_at_random(runs, kills, workers=workers)]
    yield damage_at_random(folder, _at_least(320 * share, 4))
    yield inject_numbers(folder, _at_least(64 * share, 8))
    yield signal_at_random(folder, _at_least(50 * share, 2))
    yield [
        hurt_workers(folder, "killed", _at_least(10 * share, 1)),
        hurt_workers(folder, "hung", _at_least(3 * share, 1)),
    ]
    yield [fill_disk(folder, _at_least(10 * share, 1))]


def _at_least(count: float, low: int) -> int:
    return max(low, round(count))
