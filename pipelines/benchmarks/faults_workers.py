"""Workers that are killed or hang: noticed, said, and nobody left behind."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from pipelines.benchmarks.faults_run import Victim, is_whole, percentile, row
from pipelines.exit_codes import WORKER_LOST

LIMITS_S = {"killed": 10.0, "hung": 120.0}


def hurt_workers(folder: Path, kind: str, count: int) -> dict[str, Any]:
    """Kill or stop one of two workers in the midst of training.

    Args:
        folder: for the runs.
        kind: ``killed`` or ``hung``.
        count: how many times.
    """
    seconds: list[float] = []
    held = sum(_hurt(folder / f"{kind}{i}", kind, seconds) for i in range(count))
    slowest = f"{percentile(seconds, 1.0):.1f} s"
    return row(f"worker {kind}", count, held, noticed_and_ended_within=slowest)


def _hurt(folder: Path, kind: str, seconds: list[float]) -> bool:
    victim = Victim(folder, "total_frames=1000000", "env.workers=2")
    victim.wait_for(lambda: victim.iterations >= 2)
    workers = worker_pids(victim.process.pid)
    began = time.perf_counter()
    os.kill(workers[0], signal.SIGKILL if kind == "killed" else signal.SIGSTOP)
    code = victim.finish()
    seconds.append(time.perf_counter() - began)
    time.sleep(0.5)
    orphans = [pid for pid in workers if _is_running(pid)]
    in_time = seconds[-1] <= LIMITS_S[kind]
    told = "worker" in victim.said()
    return code == WORKER_LOST and in_time and told and not orphans and is_whole(folder)


def worker_pids(parent: int) -> list[int]:
    """Processes that multiprocessing has spawned for `parent` (Linux)."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == parent and b"spawn_main" in command:
            found.append(int(status.parent.name))
    return sorted(found)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
