"""``suite=tracking``: what a place for curves costs a small training, reachable or not.

Counted in seconds of the processor, thread by thread: what else runs on the machine does not count.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from envs.factory import make_env
from envs.table import build_table
from pipelines.benchmarks.worker_pool import worker_pool
from pipelines.config import RunConfig, compose_config
from pipelines.model import make_model
from pipelines.run_folder import RunFolder
from pipelines.tracking.rollout_metrics import rollout_metrics
from pipelines.tracking.tracker import Tracker
from pipelines.training import Training

# A training of many quick iterations: beside a large network a log costs less.
WORDS = (
    *("data=synthetic/planted", "data.synthetic.bars=24576", "model=mlp", "env.window=8"),
    *("env.workers=0", "train.steps=16", "train.minibatch=256", "device=cpu"),
)
# Nobody listens there; the key is of nobody.
_NOWHERE = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
PLACES: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "W&B offline": (("wandb.mode=offline",), {}),
    "W&B unreachable": (("wandb.mode=online",), _NOWHERE),
    "CSV": (("logger=csv",), {}),
    "metrics.jsonl alone": (("logger=none",), {}),
}
_SERVICE = "wandb-core"


class Job(NamedTuple):
    """One training: where its files go, and which of `PLACES` its curves.

    So many iterations are measured, and as many before them are not: in those the place may start.
    """

    folder: Path
    place: str
    iterations: int


class _Used(NamedTuple):
    """Seconds of the processor."""

    training: float  # the main thread, without its logs
    logs: float  # what the training waits for
    threads: float  # all other threads of Python
    service: float  # W&B's own process


def time_places(folder: Path, iterations: int) -> list[dict[str, Any]]:
    """A row a place, each measured in a process of its own."""
    jobs = [Job(folder / str(number), place, iterations) for number, place in enumerate(PLACES)]
    with worker_pool(1, fresh=True) as pool:
        return list(pool.imap(time_tracking, jobs))


def time_tracking(job: Job) -> dict[str, Any]:
    """One training in this process, which should be a new one: W&B reads its variables once.

    Returns:
        Milliseconds of the processor an iteration, what all but the training itself is of the
        training, and the seconds of the processor that the start took.
    """
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    folder, place, iterations = job
    words, variables = PLACES[place]
    os.environ.update(variables)
    cfg: RunConfig = compose_config("ppo_transformer", [*WORDS, *words])
    run = RunFolder.create(str(folder), str(folder / "run"), "tracking")
    with _training(cfg, run) as training:
        rollouts = iter(training)
        next(rollouts)  # what is slow once
        with Tracker(run, cfg, total_frames=training.total_frames) as tracker:
            first = _train(rollouts, tracker, iterations)
            used = _train(rollouts, tracker, iterations)
    milli = 1e3 / iterations
    return {
        "curves go to": place,
        "iterations": iterations,
        "training, ms": milli * used.training,
        "its logs, ms": milli * used.logs,
        "other threads, ms": milli * used.threads,
        "W&B's process, ms": milli * used.service,
        "logs / training": used.logs / used.training,
        "all / training": (used.logs + used.threads + used.service) / used.training,
        "start, s": first.threads + first.service - used.threads - used.service,
    }


def _train(rollouts: Iterator[Any], tracker: Tracker, iterations: int) -> _Used:
    training = logs = 0.0
    others, service = _other_threads_s(), _service_s()
    for _ in range(iterations):
        begin = time.thread_time()
        iteration = next(rollouts)
        trained = time.thread_time()
        tracker.log({**rollout_metrics(iteration.rollout), **iteration.stats}, iteration.frames)
        tracker.log_actions(iteration.rollout, iteration.frames)
        training += trained - begin
        logs += time.thread_time() - trained
    return _Used(training, logs, _other_threads_s() - others, _service_s() - service)


@contextmanager
def _training(cfg: RunConfig, run: RunFolder) -> Iterator[Training]:
    cfg.total_frames = 10**9
    table = build_table(cfg.data, window=cfg.env.window, episode_bars=cfg.env.episode_bars)
    table.save(run.bars)
    env = make_env(run.bars, cfg.env, seed=cfg.seed)
    training = Training(cfg, table, env, make_model(cfg.model, cfg.env, table))
    try:
        yield training
    finally:
        training.close()


def _other_threads_s() -> float:
    """Of the threads of Python that are alive, but for this one."""
    mine = threading.get_ident()
    idents = [thread.ident for thread in threading.enumerate()]
    return sum(
        time.clock_gettime(time.pthread_getcpuclockid(ident))
        for ident in idents
        if ident not in (None, mine)
    )


def _service_s() -> float:
    """Of W&B's process, where the system tells it; 0 if there is none."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text("utf-8").partition("(")[2].rpartition(")")
        except OSError:  # it has ended
            continue
        fields = rest.split()
        if name == _SERVICE and int(fields[1]) == os.getpid():
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
