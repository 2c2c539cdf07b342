"""A measurement that is stopped says so in one line, however many processes it has."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import pytest

from envs.worker_lost import WorkerLostError
from measured_jobs import begin_with, end_by, wait_and_tell, what_begun
from pipelines.benchmarks.faults_workers import worker_pids
from pipelines.benchmarks.worker_pool import worker_pool
from pipelines.exit_codes import WORKER_LOST
from pipelines.non_finite_error import NonFiniteError

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
    with worker_pool(2, fresh=True) as pool:
        print(*pool.imap(work, [0, 1, 2, 3]))
"""


@contextlib.contextmanager
def program_at(stage, folder):
    """`PROGRAM` in `folder`, in a session of its own, and its processes at that stage."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    # Of three that work one follows on one that had done its task.
    wanted = 3 if stage == "working" else 2
    with subprocess.Popen(
        [sys.executable, str(program), stage], cwd=folder, env=os.environ | {"PYTHONPATH": ROOT},
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        for _ in range(3_000):
            workers = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
            if len(workers) >= wanted or process.poll() is not None:
                break
            time.sleep(0.01)
        time.sleep(0.1)
        try:
            assert len(workers) == wanted
            yield process, workers
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("stage", ["importing", "working"])
def test_ctrl_c_at_a_terminal_is_one_line_and_leaves_nobody_behind(tmp_path, stage):
    with program_at(stage, tmp_path) as (process, workers):
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=30)
        assert said == "stopped\n"
        assert process.returncode == -signal.SIGINT
        assert left_of(workers) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_program_that_is_killed_leaves_nobody_behind(tmp_path, number):
    with program_at("working", tmp_path) as (process, workers):
        process.send_signal(number)
        process.wait(timeout=30)
        for _ in range(1_000):
            if not left_of(workers):
                break
            time.sleep(0.01)
        assert left_of(workers) == []


def left_of(workers):
    """Those that live: who has nobody left waiting for it may stay in the list of processes."""
    left = []
    for pid in workers:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
            left += [pid] * (state not in "ZX")
    return left


def test_this_process_goes_on_to_hear_ctrl_c():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    with worker_pool(1) as pool:
        assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == before
        assert list(pool.imap(abs, [-3])) == [3]


@pytest.mark.parametrize(("fresh", "processes"), [(False, 2), (True, 5)])
def test_answers_come_in_the_order_of_the_jobs_from_so_many_processes(fresh, processes):
    jobs = [0.3, 0.0, 0.0, 0.1, 0.0]
    with worker_pool(2, fresh=fresh) as pool:
        told = list(pool.imap(wait_and_tell, jobs))
    assert [seconds for seconds, _ in told] == jobs
    workers = {pid for _, pid in told}
    assert len(workers) == processes
    assert [pid for pid in workers if Path(f"/proc/{pid}").exists()] == []


def test_every_process_begins_with_what_it_is_told():
    with worker_pool(2, partial(begin_with, "so"), fresh=True) as pool:
        assert list(pool.imap(what_begun, range(3))) == ["so"] * 3


@pytest.mark.parametrize(
    ("way", "kind", "words"),
    [
        ("SIGKILL", WorkerLostError, "was killed, as for want of memory, at SIGKILL"),
        ("exit", WorkerLostError, "at exit"),
        ("raise", ValueError, "^no such market$"),
        ("no number", NonFiniteError, "^loss = nan$"),
    ],
)
def test_a_job_that_never_answers_is_an_error_that_names_it(way, kind, words):
    began = time.perf_counter()
    with pytest.raises(kind, match=words), worker_pool(2) as pool:
        list(pool.imap(end_by, [way, "SIGSTOP", "SIGSTOP"]))
    assert time.perf_counter() - began < 30, "nor is the one waited for that works on"
    assert multiprocessing.active_children() == []


def test_an_answer_that_cannot_be_read_is_not_told_as_a_process_that_was_killed():
    with pytest.raises(BrokenProcessPool) as caught, worker_pool(1) as pool:
        list(pool.imap(end_by, ["unreadable"]))
    assert "missing 1 required positional argument: 'why'" in str(caught.value.__cause__)


def test_jobs_that_tell_something_go_on_when_nobody_reads(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom measured_jobs import tell\n"
        "from pipelines.benchmarks.worker_pool import worker_pool\n"
        "if __name__ == '__main__':\n"
        "    with worker_pool(1) as pool:\n"
        "        print(*pool.imap(tell, [1, 2]), file=sys.stderr)\n"
    )
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does, once it has its lines
    done = subprocess.run(
        [sys.executable, str(program)], stdout=writer, stderr=subprocess.PIPE, text=True,
        check=False, env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )  # fmt: skip
    os.close(writer)
    assert done.stderr == "1 2\n"
    assert done.returncode == 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_a_suite_whose_process_is_killed_ends_and_names_what_it_was_at(tmp_path):
    words = ["suite=tracking", "iterations=1"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "pipelines" / "benchmark.py"), *words], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        for _ in range(6_000):
            if (found := worker_pids(process.pid)) or process.poll() is not None:
                break
            time.sleep(0.01)
        os.kill(found[0], signal.SIGKILL)
        said = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert process.returncode == WORKER_LOST
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: a process of this measurement was killed")
    assert "place='W&B offline'" in line
    assert "Traceback" not in said
