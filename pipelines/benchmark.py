"""Measure this machine: ``python pipelines/benchmark.py suite=env``.

``suite=env`` times the environment, in this process and in workers; ``suite=recorder`` times the
trace against the training it records. Figures of one run compare with each other, and with
nothing else: every table names the machine, the versions and the commit.
"""

import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torchrl
from torchrl.collectors import Collector
from torchrl.envs import TransformedEnv

from envs.bars import DataConfig
from envs.config import EnvConfig
from envs.factory import make_env
from envs.table import BarTable, build_table
from envs.trace import TraceWriter
from modules.config import ModelConfig
from modules.policy import make_collection_policy
from pipelines.config import BenchmarkConfig, load_config
from pipelines.learner import Learner, TrainConfig
from pipelines.loss import LossConfig
from pipelines.model import make_model
from pipelines.source import git_revision

EPISODE_BARS = 96
GRIDS = ((4, 4), (16, 16), (64, 64))
WORKERS = (0, 1, 2)


def main(cfg: BenchmarkConfig) -> dict[str, Any]:
    """Run a suite, print its table, and write it as JSON if `out` names a file."""
    with tempfile.TemporaryDirectory() as folder:
        build_table(DataConfig(), window=64, episode_bars=EPISODE_BARS).save(folder)
        rows = {"env": time_environments, "recorder": time_recorder}[cfg.suite](
            Path(folder), cfg.repeats
        )
    result = {"suite": cfg.suite, "machine": _machine(), "rows": rows}
    _print(rows)
    if cfg.out is not None:
        Path(cfg.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def time_environments(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Steps a second of random actions through every transform, for lanes and workers."""
    rows = []
    for paths, accounts in GRIDS:
        for workers in WORKERS:
            cfg = EnvConfig(
                paths=paths, accounts=accounts, workers=workers, episode_bars=EPISODE_BARS
            )
            with _closing(make_env(folder, cfg)) as env:
                seconds = _seconds_a_step(env, repeats)
            rows.append(
                {
                    "lanes": cfg.lanes,
                    "paths x accounts": f"{paths} x {accounts}",
                    "workers": workers,
                    "ms a step": 1e3 * seconds,
                    "steps/s": cfg.lanes / seconds,
                }
            )
    return rows


def time_recorder(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """The default run's training at 256 lanes, with and without the trace, in turns."""
    env_cfg = EnvConfig(paths=8, accounts=32, workers=0, episode_bars=EPISODE_BARS)
    train = TrainConfig(steps=16, epochs=1, minibatch=1024)
    table = BarTable.load(folder)
    model = make_model(ModelConfig(), env_cfg, table)
    frames = env_cfg.lanes * train.steps
    collector = Collector(
        make_env(folder, env_cfg),
        make_collection_policy(model),
        frames_per_batch=frames,
        total_frames=-1,
        track_traj_ids=False,
        auto_register_policy_transforms=False,
    )
    learner = Learner(
        model,
        train,
        LossConfig(),
        lanes=env_cfg.lanes,
        accounts=env_cfg.accounts,
        iterations=repeats,
    )
    writer = TraceWriter(folder / "trace.csv", table, env_cfg, run_id="benchmark", split="train")
    training, recording = [], []
    rollouts = iter(collector)
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        rollout = next(rollouts)
        learner.update(rollout)
        trained = time.perf_counter()
        writer.write(rollout)
        writer.flush()
        training.append(trained - begin)
        recording.append(time.perf_counter() - trained)
    writer.close()
    collector.shutdown()
    seconds, extra = statistics.median(training[1:]), statistics.median(recording[1:])
    return [
        {
            "lanes": env_cfg.lanes,
            "epochs": train.epochs,
            "rows": frames,
            "training s": seconds,
            "recording s": extra,
            "recording / training": extra / seconds,
            "rows/s": frames / extra,
        }
    ]


def _seconds_a_step(env: TransformedEnv, repeats: int, steps: int = 50) -> float:
    """Median over `repeats` of the time of a step with automatic resets."""
    state = env.reset()

    def play() -> None:
        nonlocal state
        for _ in range(steps):
            _, state = env.step_and_maybe_reset(env.rand_action(state))

    return _median_seconds(play, repeats) / steps


def _median_seconds(work: Callable[[], None], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


@contextmanager
def _closing(env: TransformedEnv) -> Iterator[TransformedEnv]:
    try:
        yield env
    finally:
        env.close()


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
    """A table that pastes into Markdown."""
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---:|" * len(rows[0]))
    for row in rows:
        cells = (f"{v:,.4g}" if isinstance(v, float) else str(v) for v in row.values())
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(load_config("benchmark", sys.argv[1:]))
