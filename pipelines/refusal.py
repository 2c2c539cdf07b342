"""How a program says that it cannot work with what it was given, or cannot go on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from envs.durable import DISK_ERRORS, UnwritableError
from envs.worker_lost import WorkerLostError
from pipelines.exit_codes import DISK, NETWORK, NON_FINITE, REFUSED, WORKER_LOST
from pipelines.non_finite_error import NonFiniteError
from pipelines.source_error import SourceError


@contextmanager
def plain_refusals(
    kinds: tuple[type[Exception], ...] = (ValueError, OSError),
) -> Iterator[None]:
    """Print what is wrong with the user's input in one line and exit with 2.

    For the steps that look at input; an error in the program itself keeps its traceback. A disk
    that is full, fails, or takes nothing is nobody's input: the exit code is that of
    `plain_failures`.

    Args:
        kinds: of errors that are the input's fault.
    """
    try:
        yield
    except kinds as error:
        print(f"error: {_words(error)}", file=sys.stderr)
        is_disk = isinstance(error, OSError) and error.errno in DISK_ERRORS
        is_disk |= isinstance(error, UnwritableError)
        raise SystemExit(DISK if is_disk else REFUSED) from None


@contextmanager
def plain_failures() -> Iterator[None]:
    """Print why a program could not go on and exit with the code of that reason.

    For what the world does to a program; an error of its own keeps its traceback, and exits with 1.
    """
    try:
        yield
    except tuple(_CODES) as error:
        print(
            f"error: {_words(error)}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr
        )
        raise SystemExit(_CODES[_kind(error)]) from None


def first_line(error: Exception) -> str:
    """What an error says first; its kind, if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


_CODES: dict[type[Exception], int] = {
    NonFiniteError: NON_FINITE,
    WorkerLostError: WORKER_LOST,
    SourceError: NETWORK,
    OSError: DISK,
}


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"  # without "[Errno 17]"
    return str(error)


def _kind(error: Exception) -> type[Exception]:
    return next(kind for kind in _CODES if isinstance(error, kind))
