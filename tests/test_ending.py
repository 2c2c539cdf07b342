"""Signals end a process in time, its last will done, whatever the main thread is doing."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from pipelines.benchmarks.faults_signals import LIMIT_S
from pipelines.source import ROOT

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


def start_busy(*prefix, program=BUSY):
    command = [*prefix, sys.executable, "-c", program.format(root=str(ROOT))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def end(process):
    """What it said until its end, which must come."""
    try:
        return process.communicate(timeout=30)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError("the signal did not end it") from None


def test_the_last_will_is_done_while_one_call_holds_the_main_thread():
    process = start_busy()
    time.sleep(4.0)
    began = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    said = end(process)
    assert time.perf_counter() - began < LIMIT_S
    assert process.returncode == 128 + signal.SIGTERM
    assert said.count("saved") == 1


LOCKED = """
import multiprocessing, sys, time
sys.path.insert(0, {root!r})
from pipelines.ending import ENDING
ENDING.take_signals()
lock = multiprocessing.get_context("spawn").Lock()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_said_of_leaks_after_the_end(number):
    process = start_busy(program=LOCKED)
    process.send_signal(number)
    said = end(process)
    assert "leaked" not in said, said


# What runs in the background of a script is born deaf to SIGINT, and so would be its children.
PLAIN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {root!r})
from pipelines.ending import end_plainly
end_plainly()
import atexit
atexit.register(exec, "pass", {{}})  # after which Python would not die of the signal
try:
    print("ready", flush=True)
    time.sleep(60)
finally:
    print("cleaned up", file=sys.stderr)
"""


def test_ctrl_c_ends_other_programs_in_one_line_after_what_cleans_up():
    process = start_busy(program=PLAIN)
    process.send_signal(signal.SIGINT)
    assert end(process) == "cleaned up\nstopped\n"
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("program", sorted(path.stem for path in (ROOT / "configs").glob("*.yaml")))
def test_every_program_looks_to_ctrl_c_before_it_imports_what_is_slow(program):
    text = (ROOT / "pipelines" / f"{program}.py").read_text("utf-8")
    _, _, code = text.split('"""', 2)  # after the docstring
    before, _, after = code.partition('if __name__ == "__main__":')
    assert after.lstrip().startswith(("ENDING.take_signals()", "end_plainly()"))
    (line,) = before.strip().splitlines()
    assert line.startswith("from pipelines.ending import")


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
    said = end(process)
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


def unheard(*words, cwd, streams=("stdout",), **variables):
    """How a program ends whose reader has left before its first line, and what it says to others.

    Args:
        words: of the interpreter.
        cwd: where it runs.
        streams: that nobody reads.
        variables: of the environment.
    """
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does, once it has its lines
    closed = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | dict.fromkeys(streams, writer)
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, timeout=120, check=False, **closed,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    )  # fmt: skip
    os.close(writer)
    return done.returncode, done.stderr


TELLS = """
from pipelines.ending import ENDING, end_plainly
from pipelines.refusal import plain_failures
import sys
{begin}()
with plain_failures():
    for i in range(3):
        print("one " * 9_999)
        print(i, file=sys.stderr)
    sys.stdout.flush()
    open("made", "w").close()
{end}
"""


@pytest.mark.parametrize("begin", ["end_plainly", "ENDING.take_signals"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_program_whose_reader_has_left_does_its_work_and_ends_as_ever(
    tmp_path, begin, unbuffered
):
    program = TELLS.format(begin=begin, end="sys.exit(7)")
    ended = unheard("-c", program, cwd=tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert ended == (7, b"0\n1\n2\n")
    assert (tmp_path / "made").exists()
    both = ("stdout", "stderr")
    assert unheard("-c", program, cwd=tmp_path, streams=both) == (7, None)


def test_another_pipe_that_is_closed_and_a_disk_that_is_full_are_errors_as_ever(tmp_path):
    lost = """
    import os
    reader, writer = os.pipe()
    os.close(reader)
    os.write(writer, b"to a worker")
"""
    ended = unheard("-c", TELLS.format(begin="end_plainly", end=lost.lstrip("\n")), cwd=tmp_path)
    assert ended[0] == 5
    assert b"Broken pipe" in ended[1]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_an_output_that_a_full_disk_takes_no_more_of_is_an_error(tmp_path):
    program = TELLS.format(begin="end_plainly", end="")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE,
            check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert done.returncode == 5
    assert b"No space left on device" in done.stderr
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("words", "code", "made"),
    [
        (["report", "--help"], 0, None),
        (["insights", "runs=."], 0, "insights.html"),
        (["check_data", "out=q"], 0, "q/BTC-USD-15-MIN.csv.html"),
        (["check_data", "out=q", "env.episode_bars=4000"], 1, "q/BTC-USD-15-MIN.csv.html"),
        (["report", "folder=nowhere"], 2, None),
    ],
)
def test_programs_are_quiet_when_nobody_reads_on(tmp_path, words, code, made):
    program, *rest = words
    ended = unheard(str(ROOT / "pipelines" / f"{program}.py"), *rest, cwd=tmp_path)
    assert ended[0] == code
    assert b"ipe" not in ended[1]
    assert made is None or (tmp_path / made).exists()
