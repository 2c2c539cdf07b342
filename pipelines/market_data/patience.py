"""Asking a server politely: not too often, again if it fails, and not for ever."""

import time
from collections.abc import Callable
from typing import TypeVar

from pipelines.market_data.download_config import HttpConfig
from pipelines.source_error import SourceError

T = TypeVar("T")
_LONGEST_BACKOFF_S = 60.0
# A server that asks for a longer wait is not waited for.
_LONGEST_WAIT_S = 600.0


class BadDataError(SourceError):
    """The source can be reached, but what it sends for a month cannot be its bars."""


class BadAnswerError(Exception):
    """An answer that may be better next time.

    Attributes:
        wait_s: seconds for which the server asks to be left alone.
        last: what is raised if it does not get better.
    """

    def __init__(
        self, reason: str, wait_s: float = 0.0, last: type[SourceError] = SourceError
    ) -> None:
        super().__init__(reason)
        self.wait_s, self.last = wait_s, last


class Patience:
    """Paces requests and repeats those that fail.

    Args:
        cfg: how often and how long.
        sleep: waits for so many seconds.
        clock: seconds on a clock that never goes back.
    """

    def __init__(
        self,
        cfg: HttpConfig,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cfg, self._sleep, self._clock = cfg, sleep, clock
        self._last: float | None = None

    def ask(self, what: str, request: Callable[[], T]) -> T:
        """Make a request until it succeeds.

        Args:
            what: names the request in an error.
            request: makes it, and raises `BadAnswerError` if it should be made again.

        Raises:
            SourceError: when it has failed `retries` times more than once (of the kind that the
                last answer asks for), or the server asks for a wait that nobody would sit through.
        """
        for attempt in range(self._cfg.retries + 1):
            self._pace()
            try:
                return request()
            except BadAnswerError as error:
                if attempt == self._cfg.retries:
                    times = f"asked {attempt + 1} times" if attempt else "asked once"
                    raise error.last(f"{what}: {error}; {times}") from error
                if error.wait_s > _LONGEST_WAIT_S:
                    raise SourceError(
                        f"{what}: {error}; it asks for a wait of {error.wait_s:,.0f} s"
                    ) from error
                backoff = min(self._cfg.backoff_s * 2**attempt, _LONGEST_BACKOFF_S)
                self._sleep(max(backoff, error.wait_s))
        raise AssertionError("unreachable")

    def _pace(self) -> None:
        if self._last is not None:
            wait = self._last + self._cfg.pause_s - self._clock()
            if wait > 0:
                self._sleep(wait)
        self._last = self._clock()
