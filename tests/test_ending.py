"""Signals: the last boundary is on the disk and the process gone in time, whatever it was doing."""

import shutil
import signal
import subprocess
import sys
import time

import pytest

from pipelines.checkpoint_store import list_checkpoints, load_newest
from pipelines.faults_run import Victim
from pipelines.faults_signals import LIMIT_S
from pipelines.source import ROOT

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


# Whatever holds the interpreter's main thread: the thread of the signals does not wait for it.
BUSY = """
import sys, time
sys.path.insert(0, {root!r})
from pipelines.ending import ENDING
ENDING.take_signals()
ENDING.set_last_will(lambda: "saved")
print("ready", flush=True)
import torch
a = torch.rand(3000, 3000)
while True:
    a = torch.linalg.svd(a)[0]
"""


def start_busy(*prefix):
    command = [*prefix, sys.executable, "-c", BUSY.format(root=str(ROOT))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def test_the_last_will_is_done_while_one_call_holds_the_main_thread():
    process = start_busy()
    time.sleep(4.0)
    began = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert time.perf_counter() - began < LIMIT_S
    assert process.returncode == 128 + signal.SIGTERM
    assert said.count("saved") == 1


def can_unshare():
    unshare = shutil.which("unshare")
    words = [unshare, "--pid", "--fork", "--mount-proc", "true"]
    return unshare and subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="no right to a process namespace of one's own")
def test_the_first_process_of_a_container_hears_signals_too():
    process = start_busy("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
    )
    first = int(children.stdout)
    subprocess.run(["kill", "-TERM", str(first)], check=True)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "saved" in said


@pytest.mark.parametrize(
    ("will", "code", "words"),
    [
        ("lambda: None", 7, "because"),
        ("lambda: (_ for _ in ()).throw(OSError(28, 'No space left', 'a/b'))", 5, "a/b"),
        ("lambda: 1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_the_exit_code_says_whether_the_last_will_was_done(will, code, words):
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pipelines.ending import ENDING
ENDING.set_last_will({will})
ENDING.end(7, "because")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert words in done.stderr
