"""Flipped bits, cut and missing files: every one noticed, and the checkpoint before it found."""

import logging
import random
import shutil
from pathlib import Path
from typing import Any

from pipelines.benchmarks.faults_run import Victim, row
from pipelines.checkpoint import is_whole
from pipelines.checkpoint_store import load_newest
from pipelines.run_folder import list_checkpoints

KINDS = ("flipped bit", "cut", "deleted", "zeros")


def damage_at_random(folder: Path, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Hurt the newest checkpoint of a finished run `count` times, each time another way.

    Args:
        folder: for the run.
        count: of damages, shared evenly among `KINDS`.
        seed: of files and places.
    """
    run = folder / "damaged"
    Victim(run, "total_frames=1024").finish()
    *_, before, newest = list_checkpoints(run / "checkpoints")
    whole = folder / "whole"
    shutil.copytree(newest, whole)
    rng = random.Random(seed)  # noqa: S311
    rows = []
    logging.getLogger("pipelines.checkpoint_store").setLevel(logging.ERROR)  # a line for each
    for number, kind in enumerate(KINDS):
        tried = count // len(KINDS) + (number < count % len(KINDS))
        held = 0
        for _ in range(tried):
            file = rng.choice(sorted(newest.iterdir()))
            _hurt(file, kind, rng)
            held += not is_whole(newest) and load_newest(run / "checkpoints").folder == before
            shutil.rmtree(newest)
            shutil.copytree(whole, newest)
        rows.append(row(f"{kind} in a checkpoint", tried, held))
    return rows


def _hurt(file: Path, kind: str, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    place = rng.randrange(len(data))
    if kind == "deleted":
        file.unlink()
        return
    if kind == "flipped bit":
        data[place] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[place:]
    else:
        # What a lost page of a disk reads as; a byte that was none before makes it a damage.
        data[place : place + 512] = bytes(len(data[place : place + 512]))
        data[place] = 1 if file.read_bytes()[place] != 1 else 2
    file.write_bytes(data)
