"""A disk that is full in the middle of a training: what was whole before stays whole."""

import random
from pathlib import Path
from typing import Any

from pipelines.benchmarks.faults_run import Victim, is_whole, row
from pipelines.exit_codes import DISK


def fill_disk(folder: Path, count: int, *, seed: int = 0) -> dict[str, Any]:
    """Let no file grow beyond a random size, which the trace reaches after some iterations.

    Args:
        folder: for the runs.
        count: how many times.
        seed: of the sizes.
    """
    rng = random.Random(seed)  # noqa: S311
    held = 0
    for i in range(count):
        size = rng.randint(600_000, 3_000_000)
        victim = Victim(folder / f"full{i}", "total_frames=100000", file_bytes=size)
        code = victim.finish()
        named = "train_actions.csv" in victim.said() or "checkpoints" in victim.said()
        held += code == DISK and named and is_whole(victim.folder)
    return row("full disk", count, held)
