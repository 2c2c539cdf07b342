"""Measure this machine: ``python pipelines/benchmark.py suite=env``.

``suite=env`` times the environment, ``suite=speed`` training and what time and memory grow with,
``suite=replay`` a year of minutes, ``suite=recorder`` the trace against the training that it
records, ``suite=tracking`` places for its curves likewise; ``suite=learning`` finds out who learns
known markets, and how soon, ``suite=faults`` what a training survives, ``suite=verdict`` how often
luck is called an edge. Times of one run compare with each other, and with nothing else: every table
names the machine, the versions and the commit.
"""

from pipelines.ending import end_plainly

if __name__ == "__main__":
    end_plainly()

import sys

from pipelines.config import BenchmarkConfig, load_config

if __name__ == "__main__":
    # Before what loads for seconds: --help and a mistake are answered at once.
    CONFIG = load_config("benchmark", sys.argv[1:])

import itertools
import logging
import platform
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torchrl

from envs.data_config import DataConfig
from envs.durable import make_writable, write_file
from envs.table import build_table
from pipelines.benchmarks import calibration
from pipelines.benchmarks.benchmark_env import EPISODE_BARS, time_environments
from pipelines.benchmarks.benchmark_faults import try_faults
from pipelines.benchmarks.benchmark_growth import time_growth
from pipelines.benchmarks.benchmark_learning import (
    as_values,
    plan,
    require_packages,
    run_jobs,
    summarise,
)
from pipelines.benchmarks.benchmark_page import as_json, cell_text, write_page
from pipelines.benchmarks.benchmark_recorder import time_recorder
from pipelines.benchmarks.benchmark_replay import time_replays
from pipelines.benchmarks.benchmark_speed import plan_cells, time_speed
from pipelines.benchmarks.benchmark_tracking import time_places
from pipelines.benchmarks.benchmark_verdict import try_verdicts
from pipelines.benchmarks.learning_figure import draw_curves
from pipelines.benchmarks.speed_figure import draw_speed
from pipelines.config import load_config
from pipelines.refusal import plain_failures, plain_refusals
from pipelines.source import git_revision

Rows = list[dict[str, Any]]


def main(cfg: BenchmarkConfig) -> dict[str, Any]:
    """Run a suite and print its tables; write them as JSON, and some as a page, beside `out`."""
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    with plain_refusals():
        if cfg.suite == "learning":
            require_packages(cfg.learners)
        if cfg.out is not None:
            _make_room(Path(cfg.out))
    if cfg.quick:
        print("A quick look: little of everything. Nothing here is a result.")
    rows, details = _measure(cfg)
    result = {"suite": cfg.suite, "machine": _machine(), "rows": rows, **details}
    _print(rows)
    if cfg.out is not None:
        path = Path(cfg.out)
        _write(path, result)
        _write_page(path.with_suffix(".html"), cfg.suite, result)
    return result


def _write(path: Path, result: dict[str, Any]) -> None:
    write_file(path.resolve(), f"{as_json(result)}\n".encode())  # the last one stays, if killed


def _make_room(path: Path) -> None:
    """Refuse a place for the result now, not after an hour of measuring."""
    make_writable(path.parent)
    is_new = not path.exists()
    with path.open("a", encoding="utf-8"):
        pass
    if is_new:  # a file without a result would be none
        path.unlink()


def _measure(cfg: BenchmarkConfig) -> tuple[Rows, dict[str, Any]]:
    """The rows of a suite, and what else it wants to be kept."""
    if cfg.suite == "learning":
        outcomes = []
        for outcome in run_jobs(plan(cfg), cfg.workers):
            outcomes.append(outcome)
            _keep(cfg, summarise(outcomes), as_values(outcomes))
        return summarise(outcomes), as_values(outcomes)
    if cfg.suite == "verdict" and cfg.full:
        jobs = calibration.plan(cfg.driftless, cfg.planted)
        rows = _keep_each(cfg, calibration.try_trainings(jobs, cfg.workers))
        return rows + calibration.count_words(rows), {}
    if cfg.suite == "verdict":
        return try_verdicts(cfg.matrices, cfg.workers), {}
    if cfg.suite == "replay":
        return time_replays(cfg.networks, cfg.bars, cfg.compared), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if cfg.suite == "faults":
            return try_faults(cfg, folder), {}
        if cfg.suite == "tracking":
            return time_places(folder, cfg.iterations), {}
        build_table(DataConfig(), window=64, episode_bars=EPISODE_BARS).save(folder)
        if cfg.suite == "env":
            return time_environments(folder, cfg.repeats), {}
        if cfg.suite == "recorder":
            return time_recorder(folder, cfg.repeats, cfg.epochs), {}
        return _speed(cfg, folder)


def _speed(cfg: BenchmarkConfig, folder: Path) -> tuple[Rows, dict[str, Any]]:
    """The cells that fit, and then what time and memory grow with."""
    with plain_refusals((ValueError,)):
        cells, left_out = plan_cells(cfg)
    print(
        f"{len(cells)} cells; {left_out} would take over {cfg.limit_s:g} s of this machine's peak"
    )
    measured = time_speed(folder, cells, cfg.repeats, cfg.epochs)
    if cfg.growth and not cfg.quick:
        measured = itertools.chain(measured, time_growth(folder, cfg.repeats))
    return _keep_each(cfg, measured), {"cells_left_out": left_out}


def _keep_each(cfg: BenchmarkConfig, measured: Iterable[dict[str, Any]]) -> Rows:
    rows: Rows = []
    for row in measured:
        rows.append(row)
        _keep(cfg, rows)
    return rows


def _keep(cfg: BenchmarkConfig, rows: Rows, details: dict[str, Any] | None = None) -> None:
    """Write what is done so far: an hour's measurements outlive whatever stops the next one."""
    if cfg.out is not None:
        so_far = {"suite": cfg.suite, "machine": _machine(), "rows": rows, **(details or {})}
        _write(Path(cfg.out), so_far | {"unfinished": True})


def _write_page(path: Path, suite: str, result: dict[str, Any]) -> None:
    """The page of the suites that have one."""
    if suite == "learning":
        about = f"{len(result['runs'])} runs of one thread each. Deterministic policies on "
        about += "held-out tiles, net of costs; 1 is what the best policy earns on the same tiles. "
        about += "A target that was never reached counts as infinitely many frames."
        title = "Known markets: who learns them, and how soon"
        write_page(path, title, about, result, draw_curves(result["runs"]))
    if suite == "speed":
        about = "Frames a second of the environment, with the policy, and with training; K "
        about += "accounts share a window. Every cell ran in a process of its own."
        title = "Speed: what this machine does in a second"
        write_page(path, title, about, result, draw_speed(result["rows"]))


def _machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchrl": torchrl.__version__,
        "commit": git_revision(),
    }


def _processor() -> str:
    """The name that the processor gives itself, where the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text("utf-8").splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _print(rows: list[dict[str, Any]]) -> None:
    """Tables that paste into Markdown, one for each set of columns."""
    shown: tuple[str, ...] = ()
    for row in rows:
        if tuple(row) != shown:
            shown = tuple(row)
            print("\n| " + " | ".join(shown) + " |")
            print("|" + "---:|" * len(shown))
        print("| " + " | ".join(cell_text(value) for value in row.values()) + " |")


if __name__ == "__main__":
    with plain_failures():
        main(CONFIG)
