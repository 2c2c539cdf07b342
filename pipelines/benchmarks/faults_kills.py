"""kill -9 at random times, a good part of them inside a save; and what the resumed run becomes."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from envs.durable import UNFINISHED
from pipelines.benchmarks.faults_run import Victim, fingerprint, row

_FRAMES = 60 * 256
# Of the kills: so many before the first iteration, and of the others so many inside a save.
_EARLY_SHARE, _IN_SAVE_SHARE = 0.1, 0.5


def kill_at_random(
    folder: Path, kills: int, *, workers: int, seed: int = 0, frames: int = _FRAMES
) -> dict[str, Any]:
    """Kill trainings until `kills` are dead, resuming each to its end, and compare with one unhurt.

    Args:
        folder: for the runs.
        kills: how many.
        workers: processes of the environment.
        seed: of the times.
        frames: of a training.
    """
    rng = random.Random(seed)  # noqa: S311
    words = (f"total_frames={frames}", f"env.workers={workers}")
    Victim(folder / "unhurt", *words).finish()
    expected = fingerprint(folder / "unhurt")
    done = held = in_save = chain = 0
    while done < kills:
        run = folder / f"run{chain}"
        dead = 0
        while done + dead < kills:
            victim = Victim(run, *words)
            if not _kill_somewhere(victim, rng):
                break  # it came to its end first
            dead += 1
            in_save += was_in_save(run)
        finished = Victim(run, *words).finish() == 0
        done += dead
        held += dead * (finished and fingerprint(run) == expected)
        chain += 1
    return row(f"kill -9, {workers} workers", done, held, inside_a_save=in_save, runs=chain)


def _kill_somewhere(victim: Victim, rng: random.Random) -> bool:
    """Kill it a few iterations on: in the middle of a save if that can be seen, or anywhere."""
    if rng.random() < _EARLY_SHARE:
        time.sleep(rng.uniform(0.0, 8.0))
        victim.kill()
        return victim.process.returncode == -9
    begun = victim.iterations
    wait = rng.randint(1, 8)
    if not victim.wait_for(lambda: victim.iterations >= begun + wait):
        return False
    if rng.random() < _IN_SAVE_SHARE:
        seen = victim.wait_for(lambda: was_in_save(victim.folder), poll_s=0.0)
    else:
        moment = rng.uniform(0.0, 0.3)
        seen = victim.wait_for(_after(moment), poll_s=0.005)
    if seen:
        victim.kill()
    return seen and victim.process.returncode == -9


def _after(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def was_in_save(run: Path) -> bool:
    """Whether a checkpoint has been begun there and not finished."""
    checkpoints = run / "checkpoints"
    return checkpoints.is_dir() and any(p.name.endswith(UNFINISHED) for p in checkpoints.iterdir())
