"""A measurement that is stopped says so in one line, however many processes it has."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.benchmarks.worker_pool import worker_pool

ROOT = Path(__file__).parents[1]
# What runs in the background of a script is born deaf to SIGINT, and so would be its children. The
# first process is slow to hear it, so that whatever the others have to say is said.
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
if __name__ == "__main__":
    def late(*args):
        time.sleep(1)
        raise KeyboardInterrupt
    signal.signal(signal.SIGINT, late)
    from pipelines.ending import end_plainly
    end_plainly()
elif sys.argv[1] == "importing":
    Path(str(os.getpid())).touch()
    time.sleep(60)
from pipelines.benchmarks.worker_pool import worker_pool

def work(number):
    Path(str(os.getpid())).touch()
    if number > 0:
        time.sleep(60)
    return number

if __name__ == "__main__":
    with worker_pool(2, maxtasksperchild=1) as pool:
        print(*pool.imap(work, [0, 1, 2, 3]))
"""


@pytest.mark.parametrize("stage", ["importing", "working"])
def test_ctrl_c_at_a_terminal_is_one_line_and_leaves_nobody_behind(tmp_path, stage):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(program), stage], cwd=tmp_path, env=os.environ | {"PYTHONPATH": ROOT},
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    # Of three that work one follows on one that had done its task.
    wanted = 3 if stage == "working" else 2
    for _ in range(3_000):
        workers = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]
        if len(workers) >= wanted or process.poll() is not None:
            break
        time.sleep(0.01)
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert said == "stopped\n"
    assert process.returncode == -signal.SIGINT
    assert len(workers) == wanted
    assert [pid for pid in workers if Path(f"/proc/{pid}").exists()] == []


def test_this_process_goes_on_to_hear_ctrl_c():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    with worker_pool(1) as pool:
        assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == before
        assert pool.apply(abs, (-3,)) == 3
