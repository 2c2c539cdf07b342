"""Processes for measurements, which leave Ctrl-C to the process that started them."""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext
from multiprocessing.pool import Pool
from typing import Any

_CONTEXT: SpawnContext = multiprocessing.get_context("spawn")


@contextmanager
def worker_pool(workers: int, **words: Any) -> Iterator[Pool]:
    """A pool of new processes, ended with the block, in which Ctrl-C is told once.

    A terminal sends SIGINT to all processes of a program, and each would die of it with a traceback
    of its own, those that are still importing too. So they are born deaf to it.

    Args:
        workers: processes.
        words: others of ``multiprocessing.Pool``.
    """
    with _deaf_children():
        pool = _CONTEXT.Pool(workers, **words)
    with pool:
        yield pool
        pool.close()
        pool.join()


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that are started in this block, or by threads that are, never hear SIGINT."""
    resource_tracker.ensure_running()  # whose start would open the ears again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
