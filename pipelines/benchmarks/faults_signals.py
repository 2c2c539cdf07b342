"""SIGTERM and SIGINT at any moment: how soon the process has ended, and what it has left."""

import random
import signal
import time
from pathlib import Path
from typing import Any

from pipelines.benchmarks.faults_run import Victim, percentile, row
from pipelines.checkpoint_store import load_newest
from pipelines.run_folder import list_checkpoints

LIMIT_S = 3.0
# One gradient step of the mission's network on so many windows takes longer than the limit.
_LONG_STEPS = (
    *("model=mission", "train.minibatch=256", "total_frames=1024"),
    "checkpoint.val_episodes=4",
)
_SHORT_STEPS = ("total_frames=100000", "env.workers=2")


def signal_at_random(folder: Path, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Stop trainings with a signal, twice in a row, in the middle of whatever they do.

    Half of them step the mission's network, half a small one with workers and a save in every
    iteration.

    Args:
        folder: for the runs.
        count: of signals.
        seed: of the times.
    """
    rng = random.Random(seed)  # noqa: S311
    rows = []
    for name, words in (("the mission's network", _LONG_STEPS), ("workers, saves", _SHORT_STEPS)):
        tried = count // 2
        seconds: list[float] = []
        held = sum(
            _stop(Victim(folder / f"{words[0][6:]}-{i}", *words), rng, seconds)
            for i in range(tried)
        )
        slowest, p99 = f"{max(seconds):.2f} s", f"{percentile(seconds, 0.99):.2f} s"
        rows.append(row(f"signal, {name}", tried, held, p99=p99, slowest=slowest))
    return rows


def _stop(victim: Victim, rng: random.Random, seconds: list[float]) -> bool:
    """Whether the signal ended it in time, with its code and a checkpoint that is whole."""
    number = rng.choice((signal.SIGTERM, signal.SIGINT))
    victim.wait_for(lambda: (victim.folder / "config.json").exists())
    time.sleep(rng.uniform(0.2, 8.0))
    began = time.perf_counter()
    victim.process.send_signal(number)
    time.sleep(0.05)
    victim.process.send_signal(number)  # a second one does no harm
    code = victim.finish()
    seconds.append(time.perf_counter() - began)
    checkpoints = victim.folder / "checkpoints"
    whole = bool(list_checkpoints(checkpoints)) and bool(load_newest(checkpoints))
    return code == 128 + number and whole and seconds[-1] <= LIMIT_S
