"""Measure this machine: ``python pipelines/benchmark.py suite=env``.

``suite=env`` times the environment, ``suite=speed`` training and what bounds it, ``suite=recorder``
the trace against the training it records; ``suite=learning`` finds out who learns known markets,
and how soon, ``suite=faults`` what a training survives, ``suite=verdict`` how often luck is called
an edge. Times of one run compare with each other, and with nothing else: every table names the
machine, the versions and the commit.
"""

import json
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchrl

from envs.bars import DataConfig
from envs.table import build_table
from pipelines.benchmark_config import BenchmarkConfig
from pipelines.benchmark_env import EPISODE_BARS, time_environments
from pipelines.benchmark_faults import try_faults
from pipelines.benchmark_learning import as_values, plan, run_jobs, summarise
from pipelines.benchmark_recorder import time_recorder
from pipelines.benchmark_speed import time_speed
from pipelines.benchmark_verdict import try_verdicts
from pipelines.config import load_config
from pipelines.learning_page import cell_text, write_learning_page
from pipelines.source import git_revision

_SUITES: dict[str, Callable[[BenchmarkConfig, Path], list[dict[str, Any]]]] = {
    "env": lambda cfg, bars: time_environments(bars, cfg.repeats),
    "speed": lambda cfg, bars: time_speed(bars, cfg.repeats, cfg.epochs),
    "recorder": lambda cfg, bars: time_recorder(bars, cfg.repeats),
}


def main(cfg: BenchmarkConfig) -> dict[str, Any]:
    """Run a suite and print its table; write it as JSON, and learning as a page, beside `out`."""
    details: dict[str, Any] = {}
    if cfg.suite == "learning":
        outcomes = run_jobs(plan(cfg), cfg.workers)
        rows, details = summarise(outcomes), as_values(outcomes)
    elif cfg.suite == "verdict":
        rows = try_verdicts(cfg.matrices, cfg.workers)
    elif cfg.suite == "faults":
        with tempfile.TemporaryDirectory() as folder:
            rows = try_faults(cfg, Path(folder))
    else:
        with tempfile.TemporaryDirectory() as folder:
            build_table(DataConfig(), window=64, episode_bars=EPISODE_BARS).save(folder)
            rows = _SUITES[cfg.suite](cfg, Path(folder))
    result = {"suite": cfg.suite, "machine": _machine(), "rows": rows, **details}
    if cfg.quick:
        print("A quick look: few markets, seeds and frames. Nothing here is a result.")
    _print(rows)
    if cfg.out is not None:
        path = Path(cfg.out)
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        if cfg.suite == "learning":
            write_learning_page(path.with_suffix(".html"), result)
    return result


def _machine() -> dict[str, Any]:
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchrl": torchrl.__version__,
        "commit": git_revision(),
    }


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
    main(load_config("benchmark", sys.argv[1:]))
