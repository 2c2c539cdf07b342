"""The end of a program, however it comes: a signal, a lost worker, an error of its own.

Imported before everything else that takes time: as the first process of a container a program
that has not asked for SIGTERM never gets it. Nothing heavy is imported here for the same reason.
"""

import atexit
import contextlib
import io
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from pipelines.exit_codes import DISK, ERROR

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# The tracker of multiprocessing, which inherits this, clears away the semaphores of a process that
# was ended, and would then tell a person of leaks that are none.
_NO_LEAK = "ignore:resource_tracker:UserWarning"


class Ending:
    """Ends the process once, with its last will done, from whichever thread asks first.

    A signal is taken by a thread of its own, because the main thread may be inside one call of the
    update for half a minute, and Python tells it of signals only between calls. The exit code is
    then 128 + the signal's number, as shells have it.
    """

    def __init__(self) -> None:
        self._once = threading.Lock()
        self._last_will: Callable[[], str | None] | None = None

    def take_signals(self) -> None:
        """From now on SIGTERM and SIGINT end the process by way of `end`; main thread only.

        Nor does a reader who has read enough (``| head``) end it.
        """
        go_on_unheard()
        sys.warnoptions.append(_NO_LEAK)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, _leave_it_to_the_thread)
        threading.Thread(target=self._wait, args=(reader,), name="signals", daemon=True).start()

    def set_last_will(self, action: Callable[[], str | None] | None) -> None:
        """What to do before the end: it returns what there is to tell, and may raise OSError."""
        self._last_will = action

    def end(self, code: int, message: str) -> NoReturn:
        """Say why, do the last will, kill the workers and exit. Whoever comes second waits."""
        self._once.acquire()  # for ever
        _say(message)
        try:
            if self._last_will is not None and (told := self._last_will()):
                _say(told)
        except OSError as error:
            _say(f"error: the checkpoint could not be written: {error}")
            code = DISK
        except Exception as error:  # whatever it is, the process must end now
            _say(f"error: no checkpoint was written: {error!r}")
            code = ERROR
        for worker in multiprocessing.active_children():
            worker.kill()
        leave(code)

    def _wait(self, reader: int) -> None:
        while True:
            for number in os.read(reader, 64):
                if number in _SIGNALS:
                    name = signal.Signals(number).name
                    self.end(128 + number, f"{name}: writing the last checkpoint and stopping")


def leave(code: int) -> NoReturn:
    """End the process at once, whatever its other threads do: what was told is written, no more.

    Python itself ends a thread when that next comes back to Python, and a thread of a C++ library
    then takes the process along: "terminate called", SIGABRT.
    """
    _flush()
    os._exit(code)


def end_plainly() -> None:
    """From now on Ctrl-C ends a program in one line, for the programs that write no checkpoint.

    What cleans up still does, and the process still dies of the signal, as shells want to see it.
    A reader who has read enough (``| head``) ends nothing.
    """
    go_on_unheard()
    before, stopped = sys.excepthook, threading.Event()

    def hook(
        kind: type[BaseException], error: BaseException, where: types.TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            _say("stopped")
            stopped.set()
        else:
            before(kind, error, where)

    def die() -> None:
        if stopped.is_set():
            _flush()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)

    sys.excepthook = hook
    # After what others clean up, who come later. Python itself would die so, too, but forgets it
    # where what cleans up executes a text: once tensordict is imported, the exit code would be 1,
    # which means something else.
    atexit.register(die)


class _MaybeUnheard(io.FileIO):
    """Where a stream writes to, until nobody reads on: then nowhere.

    Only here it is known that it was the reader who left. A `BrokenPipeError` of anything else, as
    of a pipe to a worker, is an error.
    """

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


def go_on_unheard() -> None:
    """From now on what is told is lost, and nothing else, once nobody reads standard output.

    What a program makes is files, and its exit code: both are there as if it had been heard.
    """
    for name in ("stdout", "stderr"):
        old = getattr(sys, name)
        if type(old) is io.TextIOWrapper:  # None, if it was closed before the start
            raw = _MaybeUnheard(old.fileno(), "w", closefd=False)
            new = io.TextIOWrapper(
                raw if old.write_through else io.BufferedWriter(raw),
                old.encoding, old.errors, None, old.line_buffering, old.write_through,
            )  # fmt: skip
            setattr(sys, name, new)


def _leave_it_to_the_thread(_: int, __: FrameType | None) -> None:
    """Python's own handler would raise KeyboardInterrupt in the main thread."""


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _say(text: str) -> None:
    """Straight to the terminal: the main thread may hold the lock of ``sys.stderr``."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())


ENDING = Ending()
