"""The faults that a training must survive, a few of each kind; `suite=faults` tries hundreds."""

import os
import resource
import signal
import time
from functools import partial
from pathlib import Path
from queue import Queue

import pytest
import torch

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.env_state import get_env_state
from envs.factory import make_env
from envs.worker_lost import WorkerLostError
from envs.workers import limit_waiting, name_lost_workers, watch_workers
from pipelines.benchmarks.benchmark_config import BenchmarkConfig
from pipelines.benchmarks.benchmark_faults import try_faults
from pipelines.benchmarks.faults_damage import damage_at_random
from pipelines.benchmarks.faults_disk import fill_disk
from pipelines.benchmarks.faults_run import Victim
from pipelines.benchmarks.faults_workers import hurt_workers


def assert_all_held(rows):
    assert [row for row in rows if row["held"] != row["tried"]] == []
    assert all(row["tried"] for row in rows)


def test_damage_is_noticed_and_the_checkpoint_before_is_found(tmp_path):
    assert_all_held(damage_at_random(tmp_path, 40))


def test_a_killed_worker_is_noticed_at_once(tmp_path):
    assert_all_held([hurt_workers(tmp_path, "killed", 1)])


def test_a_full_disk_leaves_whole_lines_and_the_last_checkpoint(tmp_path):
    assert_all_held([fill_disk(tmp_path, 1)])


@pytest.mark.parametrize("asked_for", ["a step", "its state"])
def test_a_hung_worker_is_noticed_in_the_time_that_is_set(tmp_path, asked_for):
    """Torchrl has a limit for steps and none for states, of which a training takes as many."""
    table = BarTable.from_arrays(torch.full((200, 5), 60_000.0))
    table.save(tmp_path / "bars")
    cfg = EnvConfig(paths=2, accounts=1, workers=2, window=8, episode_bars=20)
    env = make_env(tmp_path / "bars", cfg)
    assert env.base_env.BATCHED_PIPE_TIMEOUT <= 110.0
    limit_waiting(env.base_env, 2.0)
    state = env.reset()
    step = partial(env.step_and_maybe_reset, env.rand_action(state))
    ask = {"a step": step, "its state": partial(get_env_state, env)}[asked_for]
    os.kill(env.base_env._workers[0].pid, signal.SIGSTOP)
    began = time.monotonic()
    told = Queue()
    with watch_workers(env, told.put):
        with pytest.raises(WorkerLostError, match="does not answer"), name_lost_workers():
            ask()
        assert 1.5 < time.monotonic() - began < 30.0
        assert told.get(timeout=10.0) == "a worker of the environment does not answer"
    for process in env.base_env._workers:
        process.join(20)  # it was killed, and may still be about to end
    assert not any(process.is_alive() for process in env.base_env._workers)


def test_an_error_of_one_s_own_is_not_taken_for_a_lost_worker():
    with pytest.raises(RuntimeError, match="mine") as caught, name_lost_workers():
        raise RuntimeError("mine")
    assert not isinstance(caught.value, WorkerLostError)


def test_memory_stays_flat(tmp_path):
    victim = Victim(
        tmp_path / "run", "total_frames=1000000", "recorder.lanes=1", "checkpoint.every_s=5"
    )
    assert victim.wait_for(lambda: victim.iterations >= 40), victim.said()
    early = resident_mb(victim.process.pid)
    assert victim.wait_for(lambda: victim.iterations >= 160), victim.said()
    late = resident_mb(victim.process.pid)
    victim.kill()
    # A rollout kept by mistake is 16 lanes x 16 steps x 200 B = 50 kB, a snapshot more than that.
    assert late - early < 120 * 0.05, (early, late)


def resident_mb(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@pytest.mark.long
def test_the_whole_suite_in_small(tmp_path):
    assert_all_held(try_faults(BenchmarkConfig(suite="faults", kills=10), tmp_path))
