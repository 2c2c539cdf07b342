"""A place where curves go to besides the run's own file, and how a training never waits for it."""

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pipelines.refusal import first_line
from pipelines.tracking.alerts import Alert
from pipelines.tracking.artifacts import Artifact
from pipelines.tracking.evaluated import Evaluated

_LOG = logging.getLogger(__name__)
# Calls that may wait; what comes while so many do is dropped, but for the files at the end.
MOST_WAITING = 1000
# Calls without which the curves are still worth having.
_OPTIONAL = ("log_counts", "show", "alert", "keep")
# Seconds for an outlet that keeps to its time by itself.
_GRACE_S = 2.0
_MOMENT_S = 1.0


class Outlet(Protocol):
    """What a place for curves can be told. Any of it may raise, and may take its time."""

    def log(self, values: Mapping[str, float], frames: int) -> None:
        """Scalars at a number of frames."""

    def log_counts(self, counts: Mapping[str, Sequence[int]], frames: int) -> None:
        """Histograms over the whole numbers from 0."""

    def show(self, evaluated: Evaluated, frames: int) -> None:
        """The trades of an evaluation, as far as this place can show them."""

    def alert(self, alert: Alert) -> None:
        """Tell a person."""

    def keep(self, artifacts: Sequence[Artifact]) -> None:
        """Files, as far as this place keeps any; they stay where they are until `close`."""

    def close(self, *, failed: bool) -> None:
        """Send what is left, and say whether the training came to its end."""


class BackgroundOutlet:
    """An outlet whose calls are made in order by a thread of its own: none returns late or raises.

    A failure is said once: without curves nothing more is sent; of anything else, no more of it.

    Args:
        name: for messages.
        start: makes the outlet; called by the thread, since it may take long.
        finish_s: the most seconds that `close` waits, and `_GRACE_S` more.
        abandon: ends what has failed, or was not done in time, so that the process can end.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Outlet],
        *,
        finish_s: float,
        abandon: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.finish_s, self._abandon = name, finish_s, abandon
        self._calls: queue.Queue[tuple[str, tuple[Any, ...], dict[str, Any]]] = queue.Queue()
        self._dropped = 0
        self._is_abandoned = False
        self._closed = False
        self._thread = threading.Thread(
            target=self._work, args=(start,), name=f"outlet {name}", daemon=True
        )
        self._thread.start()

    def log(self, values: Mapping[str, float], frames: int) -> None:
        """Scalars at a number of frames."""
        self._put("log", values, frames)

    def log_counts(self, counts: Mapping[str, Sequence[int]], frames: int) -> None:
        """Histograms over the whole numbers from 0."""
        self._put("log_counts", counts, frames)

    def show(self, evaluated: Evaluated, frames: int) -> None:
        """The trades of an evaluation."""
        self._put("show", evaluated, frames)

    def alert(self, alert: Alert) -> None:
        """Tell a person."""
        self._put("alert", alert)

    def keep(self, artifacts: Sequence[Artifact]) -> None:
        """Files, which must stay where they are until `close`."""
        self._put("keep", artifacts)

    def close(self, *, failed: bool = False) -> None:
        """End, and wait for it a while; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._calls.put(("close", (), {"failed": failed}))
        self._thread.join(self.finish_s + _GRACE_S)
        if self._thread.is_alive():
            _LOG.warning("%s is not done after %g s: it is left alone", self.name, self.finish_s)
            self._is_abandoned = True
            self._abandon()
        if self._dropped:
            _LOG.warning("%s was too slow: %d calls were dropped", self.name, self._dropped)

    def leave(self) -> None:
        """End as far as that takes a moment, since the process is about to be gone."""
        if not self._closed:
            self._closed = True
            self._calls.put(("close", (), {"failed": True}))
            self._thread.join(_MOMENT_S)

    def _put(self, method: str, *args: Any) -> None:
        if self._closed or not self._thread.is_alive():
            return
        if self._calls.qsize() >= MOST_WAITING and method != "keep":
            self._dropped += 1
        else:
            self._calls.put((method, args, {}))

    def _work(self, start: Callable[[], Outlet]) -> None:
        try:
            outlet = start()
        except Exception as error:  # whatever it is, it must not stop the run
            self._give_up("start", error)
            return
        broken: set[str] = set()
        method = "start"
        while method != "close":
            method, args, words = self._calls.get()
            if method in broken:
                continue
            try:
                getattr(outlet, method)(*args, **words)
            except Exception as error:  # as above
                if method not in _OPTIONAL or self._is_abandoned:
                    self._give_up(method, error)
                    return
                _LOG.warning("%s: no more %s: %s", self.name, method, first_line(error))
                broken.add(method)

    def _give_up(self, method: str, error: Exception) -> None:
        if not self._is_abandoned:
            text = "%s failed (%s), going on without it: %s"
            _LOG.warning(text, self.name, method, first_line(error))
            self._abandon()
