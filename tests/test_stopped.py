"""Signals: the last boundary is on the disk and the process gone in time, whatever it was doing."""

import signal
import time

import pytest

from pipelines.benchmarks.faults_run import Victim
from pipelines.benchmarks.faults_signals import LIMIT_S
from pipelines.checkpoint_store import load_newest
from pipelines.run_folder import list_checkpoints

# A gradient step of the mission's network on these windows lasts longer than the limit.
LONG = ("model=mission", "train.minibatch=256", "total_frames=1024", "checkpoint.val_episodes=4")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_midst_of_a_long_step_ends_with_a_checkpoint(tmp_path, number):
    victim = Victim(tmp_path / "run", *LONG)
    assert victim.wait_for(lambda: (victim.folder / "train_actions.json").exists()), victim.said()
    time.sleep(2.0)
    began = time.perf_counter()
    victim.process.send_signal(number)
    victim.process.send_signal(number)  # the second one does no harm
    assert victim.finish() == 128 + number, victim.said()
    assert time.perf_counter() - began < LIMIT_S
    assert load_newest(victim.folder / "checkpoints").values["iteration"] >= 0
    assert f"{number.name}: writing the last checkpoint" in victim.said()
    assert "checkpoint: " in victim.said()


def test_a_stopped_run_with_workers_goes_on_and_leaves_nobody_behind(tmp_path):
    victim = Victim(tmp_path / "run", "total_frames=100000", "env.workers=2")
    assert victim.wait_for(lambda: victim.iterations >= 3), victim.said()
    victim.process.send_signal(signal.SIGTERM)
    assert victim.finish() == 128 + signal.SIGTERM
    newest = list_checkpoints(victim.folder / "checkpoints")[-1]
    again = Victim(victim.folder, "total_frames=100000", "env.workers=2")
    assert again.wait_for(lambda: f"going on from {newest}" in again.said())
    again.process.send_signal(signal.SIGINT)
    assert again.finish() == 128 + signal.SIGINT
