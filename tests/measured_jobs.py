"""What processes of a measurement do in tests: they import it by its name."""

import os
import signal
import time

from pipelines.non_finite_error import NonFiniteError


class UnreadableError(Exception):
    """Pickle makes it anew of its arguments alone, which are too few."""

    def __init__(self, what, why):
        super().__init__(what)
        self.why = why


def wait_and_tell(seconds):
    """Who did it, when that is over."""
    time.sleep(seconds)
    return seconds, os.getpid()


def begin_with(value):
    """Leave a mark in this process."""
    os.environ["BEGUN"] = value


def what_begun(_):
    """The mark that is there."""
    return os.environ["BEGUN"]


def end_by(way):
    """Never answer, in some way."""
    if way == "raise":
        raise ValueError("no such market")
    if way == "no number":
        raise NonFiniteError("loss = nan", {"loss": [float("nan")]})
    if way == "unreadable":
        raise UnreadableError("no", "reason")
    if way == "exit":
        os._exit(7)
    os.kill(os.getpid(), getattr(signal, way))
    time.sleep(60)


def tell(what):
    """Print it, and answer it."""
    print(what, flush=True)
    return what
