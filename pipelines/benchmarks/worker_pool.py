"""Processes for measurements: a terminal's Ctrl-C is not theirs, and none dies without a word.

Nor does one outlive its program, however that ends.
"""

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnContext
from typing import Any, TypeVar

from envs.worker_lost import WorkerLostError
from pipelines.ending import go_on_unheard

T = TypeVar("T")
_CONTEXT: SpawnContext = multiprocessing.get_context("spawn")


class WorkerPool:
    """New processes, each of which does one job at a time; made by `worker_pool`.

    A thread waits for each. `multiprocessing.Pool` would put another process in the place of one
    that was killed and wait for the lost answer for ever; and a `ProcessPoolExecutor` of several
    does not tell at which job its process was lost, and may hang where each does one job alone
    (https://github.com/python/cpython/issues/115634). So each thread has one of its own.
    """

    def __init__(
        self, threads: ThreadPoolExecutor, make: Callable[[], ProcessPoolExecutor], *, fresh: bool
    ) -> None:
        self._threads, self._make, self._fresh = threads, make, fresh
        self._idle: queue.SimpleQueue[ProcessPoolExecutor] = queue.SimpleQueue()
        self._futures: list[Future[Any]] = []

    def imap(self, work: Callable[[Any], T], jobs: Iterable[Any]) -> Iterator[T]:
        """The answers to `jobs`, in their order, each as soon as it and those before it are there.

        Raises:
            WorkerLostError: if a process ends without an answer, naming its job.
            BrokenProcessPool: for an answer that cannot be unpickled, with the reason as its cause.
            Exception: what `work` has raised.
        """
        with _deaf_children():
            asked = [self._threads.submit(self._ask, work, job) for job in jobs]
        self._futures += asked
        return (future.result() for future in asked)

    def end(self) -> None:
        """Let the processes go, which have done their jobs."""
        while not self._idle.empty():
            self._idle.get().shutdown()

    def kill(self) -> None:
        """End the processes, whatever they are at."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in self._futures):
            for process in multiprocessing.active_children():
                process.kill()
            time.sleep(0.05)  # one may have been about to start
        self.end()

    def _ask(self, work: Callable[[Any], T], job: Any) -> T:
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = self._make()
        try:
            return process.submit(work, job).result()
        except BrokenProcessPool as error:
            if error.__cause__ is not None:  # an answer came, which cannot be read
                raise
            what = "a process of this measurement was killed, as for want of memory, at"
            raise WorkerLostError(f"{what} {job}") from None
        finally:
            if self._fresh:
                process.shutdown()
            else:
                self._idle.put(process)


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

    def make() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, _CONTEXT, initializer=_begin, initargs=(begin,))

    with ThreadPoolExecutor(workers) as threads:
        pool = WorkerPool(threads, make, fresh=fresh)
        try:
            yield pool
        except BaseException:
            pool.kill()
            raise
        pool.end()


def _begin(first: Callable[[], Any] | None) -> None:
    threading.Thread(target=_end_with_the_program, daemon=True).start()
    go_on_unheard()  # a job may tell something, on the output of the program
    if first is not None:
        first()


def _end_with_the_program() -> None:
    """A program that is killed ends nobody: they would compute on, or wait for jobs for ever."""
    program = multiprocessing.parent_process()
    if program is not None:
        connection.wait([program.sentinel])
        os._exit(1)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that are started in this block, or by threads that are, never hear SIGINT."""
    resource_tracker.ensure_running()  # whose start would open the ears again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
