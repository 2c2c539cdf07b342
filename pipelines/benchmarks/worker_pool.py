"""Processes for measurements: a terminal's Ctrl-C is not theirs, and none dies without a word."""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from envs.worker_lost import WorkerLostError

T = TypeVar("T")
_CONTEXT: SpawnContext = multiprocessing.get_context("spawn")
_LEAST_S = 5.0  # that an idle process is given to end by itself


class WorkerPool:
    """New processes, each of which does one job at a time.

    `multiprocessing.Pool` puts another process in the place of one that was killed, as for memory,
    and waits for the lost answer for ever; here that is an error.

    Args:
        workers: processes.
        begin: what each does first.
        fresh: whether every job has a process of its own.
    """

    def __init__(self, workers: int, begin: Callable[[], Any] | None, *, fresh: bool) -> None:
        self._workers, self._begin, self._fresh = workers, begin, fresh
        self._processes: dict[Connection, BaseProcess] = {}
        self._idle: list[Connection] = []

    def imap(self, work: Callable[[Any], T], jobs: Iterable[Any]) -> Iterator[T]:
        """The answers to `jobs`, in their order, each as soon as it and those before it are there.

        Raises:
            WorkerLostError: if a process ends without an answer, naming it, its end and its job.
            Exception: what `work` has raised, with where it did so as a note.
        """
        waiting, busy = list(enumerate(jobs))[::-1], dict[Connection, tuple[int, Any]]()
        answers: dict[int, T] = {}
        for number in range(len(waiting)):
            while number not in answers:
                while waiting and len(busy) < self._workers:
                    connection = self._idle.pop() if self._idle else self._start()
                    busy[connection] = waiting.pop()
                    self._ask(connection, work, busy[connection][1])
                ready = wait(list(busy))
                for connection in [each for each in busy if each in ready]:
                    at, job = busy.pop(connection)
                    answers[at] = self._answer(connection, job)
            yield answers.pop(number)

    def stop(self, *, at_once: bool) -> None:
        """End all processes: `at_once` those that work too; else they may clean up."""
        for connection, process in self._processes.items():
            connection.close()  # at which one that is idle ends
            if at_once:
                process.kill()
        for process in self._processes.values():
            process.join(_LEAST_S)
            process.kill()
            process.join()
        self._processes.clear()

    def _start(self) -> Connection:
        mine, its = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_serve, args=(its, self._begin), daemon=True)
        with _deaf_children():
            process.start()
        its.close()  # so that its end is heard of
        self._processes[mine] = process
        return mine

    def _ask(self, connection: Connection, work: Callable[[Any], T], job: Any) -> None:
        try:
            connection.send((work, job))
        except BrokenPipeError:
            raise self._lost(connection, job) from None

    def _answer(self, connection: Connection, job: Any) -> Any:
        try:
            is_done, answer = connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._lost(connection, job) from None
        if not is_done:
            raise answer
        if self._fresh:
            connection.close()
            self._processes.pop(connection).join()
        else:
            self._idle.append(connection)
        return answer

    def _lost(self, connection: Connection, job: Any) -> WorkerLostError:
        process = self._processes[connection]
        process.join()
        return WorkerLostError(
            f"process {process.pid} of this measurement {_how_it_ended(process)} at {job}"
        )


@contextmanager
def worker_pool(
    workers: int, begin: Callable[[], Any] | None = None, *, fresh: bool = False
) -> Iterator[WorkerPool]:
    """A pool of new processes, ended with the block, in which Ctrl-C is told once.

    A terminal sends SIGINT to all processes of a program, and each would die of it with a traceback
    of its own, those that are still importing too. So they are born deaf to it.

    Args:
        workers: processes, at most.
        begin: what each does first.
        fresh: whether every job has a process of its own.
    """
    pool = WorkerPool(workers, begin, fresh=fresh)
    try:
        yield pool
    except BaseException:
        pool.stop(at_once=True)
        raise
    pool.stop(at_once=False)


def _serve(connection: Connection, begin: Callable[[], Any] | None) -> None:
    """Do jobs until there are no more."""
    if begin is not None:
        begin()
    while True:
        try:
            work, job = connection.recv()
        except EOFError:
            return
        try:
            answer = True, work(job)
        except Exception as error:  # whatever it is, who asked is told
            error.add_note(traceback.format_exc())
            answer = False, error
        connection.send(answer)


def _how_it_ended(process: BaseProcess) -> str:
    code = process.exitcode
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    memory = ", as for want of memory," if -code == signal.SIGKILL else ""
    return f"was ended by {name}{memory}"


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that are started in this block, or by threads that are, never hear SIGINT."""
    resource_tracker.ensure_running()  # whose start would open the ears again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
