"""``suite=tracking``: what a place for curves costs a small training, reachable or not."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pipelines.source import ROOT

# A training of many quick iterations: beside a large network a log costs less.
WORDS = (
    *("data=synthetic/planted", "data.synthetic.bars=24576", "model=mlp", "env.window=8"),
    *("train.steps=16", "train.minibatch=256", "replay.enabled=false", "checkpoint.val_episodes=0"),
)
FRAMES_AN_ITERATION = 1024
# Nobody listens there; the key is of nobody.
_NOWHERE = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
PLACES: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "metrics.jsonl alone": (("logger=none",), {}),
    "W&B offline": (("wandb.mode=offline",), {}),
    "W&B unreachable": (("wandb.mode=online",), _NOWHERE),
    "CSV": (("logger=csv",), {}),
}


def time_tracking(folder: Path, repeats: int, iterations: int = 120) -> list[dict[str, Any]]:
    """Trainings in processes of their own, the places in turns.

    Args:
        folder: for their files.
        repeats: trainings for each place.
        iterations: of each training.

    Returns:
        A row a place: medians over the trainings of the frames a second of the iterations together,
        of what it is of the first place's in the same turn, and of the seconds of the process.
    """
    speeds: dict[str, list[float]] = {name: [] for name in PLACES}
    seconds: dict[str, list[float]] = {name: [] for name in PLACES}
    for turn in range(repeats):
        for number, name in enumerate(PLACES):
            run = folder / f"{turn}-{number}"
            begin = time.perf_counter()
            _train(run, name, iterations)
            seconds[name].append(time.perf_counter() - begin)
            speeds[name].append(_speed(run))
    bare = next(iter(PLACES))
    return [
        {
            "curves go to": name,
            "trainings": repeats,
            "iterations": iterations,
            "frames/s": statistics.median(speeds[name]),
            "of the first": statistics.median(
                mine / first for mine, first in zip(speeds[name], speeds[bare], strict=True)
            ),
            "process, s": statistics.median(seconds[name]),
        }
        for name in PLACES
    ]


def _train(run: Path, place: str, iterations: int) -> None:
    words, variables = PLACES[place]
    command = [sys.executable, str(ROOT / "pipelines" / "ppo_transformer.py"), *WORDS, *words]
    command += [f"total_frames={iterations * FRAMES_AN_ITERATION}", f"run.dir={run}"]
    done = subprocess.run(  # noqa: S603 (our own program)
        command, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")


def _speed(run: Path) -> float:
    """Frames a second of all iterations, the first ones too, during which a place starts."""
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    speeds = [json.loads(line)["time/sps"] for line in lines]
    return statistics.harmonic_mean(speeds)
