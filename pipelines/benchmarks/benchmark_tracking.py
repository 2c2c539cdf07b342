"""``suite=tracking``: what a place for curves costs a small training, reachable or not."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

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
}


def time_tracking(folder: Path, repeats: int, iterations: int = 120) -> list[dict[str, Any]]:
    """Trainings in processes of their own, the places in turns.

    Args:
        folder: for their files.
        repeats: trainings for each place.
        iterations: of each training.

    Returns:
        A row a place, with medians over its trainings: of the frames a second of an iteration, of
        what that is of the first place's in the same turn, of the seconds of the whole process, and
        of the processor's seconds of it and all that it has started.
    """
    found: dict[str, list[_Cost]] = {name: [] for name in PLACES}
    for turn in range(repeats):
        for number, name in enumerate(PLACES):
            found[name].append(_train(folder / f"{turn}-{number}", name, iterations))
    bare = found[next(iter(PLACES))]
    return [
        {
            "curves go to": name,
            "trainings": repeats,
            "iterations": iterations,
            "frames/s": statistics.median(cost.speed for cost in costs),
            "of the first": statistics.median(
                mine.speed / first.speed for mine, first in zip(costs, bare, strict=True)
            ),
            "process, s": statistics.median(cost.seconds for cost in costs),
            "processor, s": statistics.median(cost.processor_s for cost in costs),
        }
        for name, costs in found.items()
    ]


class _Cost(NamedTuple):
    """Of one training."""

    speed: float  # frames a second of the median iteration
    seconds: float
    processor_s: float


def _train(run: Path, place: str, iterations: int) -> _Cost:
    words, variables = PLACES[place]
    command = [sys.executable, str(ROOT / "pipelines" / "ppo_transformer.py"), *WORDS, *words]
    command += [f"total_frames={iterations * FRAMES_AN_ITERATION}", f"run.dir={run}"]
    begin, used = time.perf_counter(), _processor_s()
    done = subprocess.run(  # noqa: S603 (our own program)
        command, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    speeds = [json.loads(line)["time/sps"] for line in lines]
    return _Cost(statistics.median(speeds), time.perf_counter() - begin, _processor_s() - used)


def _processor_s() -> float:
    """Of all processes that this one has started, and they, once they have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
