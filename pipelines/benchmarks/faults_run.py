"""A small training in a process of its own, to be hurt, and what is left of it."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.checkpoint_store import load_newest
from pipelines.run_folder import list_checkpoints
from pipelines.source import ROOT

# Sixteen lanes and a network that trains an iteration in a tenth of a second.
SMALL = (
    *("model=tiny", "env.paths=4", "env.accounts=4", "train.steps=16", "train.epochs=2"),
    *("train.minibatch=128", "wandb.mode=disabled", "replay.enabled=false"),
    *("checkpoint.every_s=0", "checkpoint.val_episodes=1", "resume=auto"),
)
PATIENCE_S = 300.0
# Metrics that no two runs share.
_OF_THE_CLOCK = ("time/", "perf/")


class Victim:
    """A training that writes to `folder`, and its process.

    Args:
        folder: the run's folder; what it prints goes beside it.
        words: of the command line, after those of a small training.
        file_bytes: the size beyond which the system refuses to let a file grow; None: none.
    """

    def __init__(self, folder: Path, *words: str, file_bytes: int | None = None) -> None:
        self.folder = folder
        self.log = folder.with_suffix(".log")
        command = [sys.executable, str(ROOT / "pipelines" / "ppo_transformer.py")]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 (our own program)
                [*command, *SMALL, f"run.dir={folder}", *words],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                preexec_fn=None if file_bytes is None else _limited(file_bytes),
            )

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    @property
    def iterations(self) -> int:
        """Iterations that it has logged."""
        path = self.folder / "metrics.jsonl"
        return path.read_bytes().count(b'"time/sps"') if path.exists() else 0

    def wait_for(self, condition: Callable[[], bool], *, poll_s: float = 0.01) -> bool:
        """Wait until `condition` holds; False if the process ended, or patience did, before."""
        until = time.monotonic() + PATIENCE_S
        while self.is_alive and time.monotonic() < until:
            if condition():
                return True
            time.sleep(poll_s)
        return False

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def finish(self) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait(PATIENCE_S)

    def said(self) -> str:
        """Everything that was printed in this folder's name."""
        return self.log.read_text("utf-8", errors="replace")


def fingerprint(folder: Path) -> dict[str, str]:
    """Hashes of everything that a finished run of this folder consists of, but for times."""
    checkpoint = list_checkpoints(folder / "checkpoints")[-1]
    found = {"trace": _sha256((folder / "train_actions.csv").read_bytes())}
    for path in sorted(checkpoint.glob("*.safetensors")):
        found[path.stem] = _sha256(path.read_bytes())
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    timeless = [
        {k: v for k, v in json.loads(line).items() if not k.startswith(_OF_THE_CLOCK)}
        for line in lines
    ]
    found["metrics"] = _sha256(json.dumps(timeless).encode())
    return found


def is_whole(folder: Path) -> bool:
    """Whether the run can be gone on with, and its trace ends with a whole line."""
    load_newest(folder / "checkpoints")
    trace = (folder / "train_actions.csv").read_bytes()
    return trace.endswith(b"\n")


def row(fault: str, tried: int, held: int, **details: Any) -> dict[str, Any]:
    """A line of the table."""
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in details.items())
    return {"fault": fault, "tried": tried, "held": held, "details": told}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _limited(file_bytes: int) -> Callable[[], None]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    return limit


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
