"""Worker processes that may die or hang: noticed, and said in words."""

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import active_children
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from weakref import WeakSet

from torchrl.envs import EnvBase, ParallelEnv, TransformedEnv

from envs.worker_lost import WorkerLostError

# A step takes milliseconds; torchrl's own limit is 10,000 s.
HUNG_AFTER_S = 100.0
_DEAD, _HUNG = re.compile(r"worker \d+ dead"), "Failed to run all workers within"
_given_up: set[int | None] = set()  # processes that were killed since one of them did not answer


def limit_waiting(env: ParallelEnv, seconds: float = HUNG_AFTER_S) -> None:
    """Wait at most so long for the workers of a started environment to make a step."""
    # An attribute of the parent: the same limit in a worker would end it during a long update.
    env.BATCHED_PIPE_TIMEOUT = seconds


def end_with_program(env: ParallelEnv) -> None:
    """End the workers of a started environment with the program, if nobody has closed it.

    Python would ask them to by SIGTERM, which they leave to their parent, and wait for ever.
    """
    # Not of `env`: it would come before torchrl's own end of one that is let go of, which waits
    # for their answer.
    Finalize(None, _kill, (WeakSet(env._workers),), exitpriority=0)


@contextmanager
def limit_answering(env: EnvBase) -> Iterator[None]:
    """Wait as long as for a step, and no longer, for what workers send through their pipes.

    torchrl waits for ever there, in a call that nothing but the end of the worker ends: one that
    does not answer in time is killed.

    Raises:
        WorkerLostError: if a worker has died or does not answer.
    """
    if not isinstance(env, ParallelEnv):
        yield
        return
    late = threading.Event()

    def give_up() -> None:
        late.set()
        _give_up_workers()

    timer = threading.Timer(env.BATCHED_PIPE_TIMEOUT, give_up)
    timer.daemon = True
    timer.start()
    try:
        with name_lost_workers():
            yield
    except WorkerLostError as error:
        if not late.is_set():
            raise
        limit = f"nothing came within {env.BATCHED_PIPE_TIMEOUT:g} s"
        raise WorkerLostError(f"a worker of the environment does not answer: {limit}") from error
    finally:
        timer.cancel()


@contextmanager
def watch_workers(env: EnvBase, on_loss: Callable[[str], None]) -> Iterator[None]:
    """Call `on_loss`, on a thread of its own, as soon as a worker dies, whatever main is doing."""
    base = env.base_env if isinstance(env, TransformedEnv) else env
    if not isinstance(base, ParallelEnv):
        yield
        return
    pids = {process.sentinel: process.pid for process in base._workers}
    reader, writer = os.pipe()

    def watch() -> None:
        ready = wait([*pids, reader])
        if reader in ready:
            return
        died = [pids[sentinel] for sentinel in ready if pids[sentinel] not in _given_up]
        if died:
            # torchrl itself ends the others of one that did not make its step in time.
            on_loss(
                f"worker process {died[0]} of the environment has died, "
                "or was ended as another did not answer"
            )
        else:
            on_loss("a worker of the environment does not answer")

    thread = threading.Thread(target=watch, name="workers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.write(writer, b"x")
        thread.join()
        os.close(reader)
        os.close(writer)


@contextmanager
def name_lost_workers() -> Iterator[None]:
    """Turn torchrl's errors about a worker into one of their own, and leave no process behind.

    Raises:
        WorkerLostError: instead of them.
    """
    try:
        yield
    except (EOFError, ConnectionError) as error:
        _kill_workers()
        raise WorkerLostError(f"a worker of the environment has died: {error!r}") from error
    except RuntimeError as error:
        text = str(error)
        if _DEAD.search(text):
            what = "has died"
            _kill_workers()
        elif _HUNG in text:
            what = "does not answer"
            _give_up_workers()
        else:
            raise
        raise WorkerLostError(f"a worker of the environment {what}: {text}") from error


def _give_up_workers() -> None:
    _given_up.update(process.pid for process in active_children())
    _kill_workers()


def _kill_workers() -> None:
    _kill(active_children())


def _kill(processes: Iterable[BaseProcess]) -> None:
    for process in processes:
        process.kill()
