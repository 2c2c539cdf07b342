"""Bars of any exchange that the library ccxt knows, page by page."""

import difflib
import importlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import pandas as pd

from envs.bar_files import OHLCV, plain_bars
from pipelines.market_data.download_config import DownloadConfig
from pipelines.market_data.fresh_bars import FreshBars, Span, check_fresh, no_bars, within
from pipelines.market_data.http_client import http_date_ns, wait_s
from pipelines.market_data.patience import BadAnswerError, BadDataError, Patience
from pipelines.source_error import SourceError

T = TypeVar("T")
# Bars to step over when an answer is empty and the exchange does not say how long its pages are.
_SHORT_PAGE = 100
# An exchange may need a moment before it serves the last bars that have closed.
_SETTLING_BARS = 10
_MS = 1_000_000


class CcxtSource:
    """One market of one exchange.

    Args:
        cfg: exchange, market, timeframe and address.
        patience: paces and repeats the requests; ccxt paces them too.

    Raises:
        ValueError: without ccxt; for an exchange, a market or a timeframe that there is not.
        SourceError: if the exchange cannot be reached.
    """

    def __init__(self, cfg: DownloadConfig, patience: Patience) -> None:
        self._ccxt = _import_ccxt()
        self._cfg, self._patience = cfg, patience
        self._interval_ns = cfg.interval_s * 10**9
        self._exchange = _make_exchange(self._ccxt, cfg)
        _require_timeframe(self._exchange, cfg.timeframe)
        markets = self._ask("its markets", self._load_markets)
        if cfg.symbol not in markets:
            raise ValueError(
                f"symbol={cfg.symbol!r} is not allowed: {cfg.exchange} has {len(markets):,} "
                f"markets, such as {', '.join(_alike(cfg.symbol, markets))}"
            )
        # Whether a bar has come: from then on an empty answer may be a slip.
        self._has_begun = False
        self._page_bars = self._exchange.feature_value(cfg.symbol, "fetchOHLCV", "limit", None)

    def now_ns(self, first: str) -> tuple[int | None, int]:
        """The exchange's clock, None if it tells none, and ours; ns since 1970 UTC.

        Args:
            first: a month that may be asked for; not needed here.

        Raises:
            SourceError: if the exchange cannot be reached.
        """
        if self._exchange.has["fetchTime"]:
            told = self._ask("the time", self._exchange.fetch_time)
            if told is not None:
                return int(told) * _MS, time.time_ns()
        return http_date_ns(self._headers().get("Date")), time.time_ns()

    def fetch(
        self, month: str, span: Span, since: int, now_ns: int, advance: Callable[[int], None]
    ) -> FreshBars:
        """All bars of a span within a month, from `since` on.

        Args:
            month: ``"2025-01"``, for messages.
            span: what is wanted of it, no later than now.
            since: what opened before needs not be fetched again.
            now_ns: the time.
            advance: is told for how many bars of what is fetched the exchange has been asked.

        Raises:
            SourceError: if the exchange cannot be reached; a `BadDataError` if it can, but what it
                sends stays wrong.
        """
        wanted = Span(max(since, span.start), span.end)
        pages, found = [no_bars()], Counter[str]()
        for frame, counts, at in self._pages(wanted):
            pages.append(frame)
            found += counts
            advance((at - wanted.start) // self._interval_ns)
        frame = pd.concat(pages, ignore_index=True)
        until = wanted.end
        if now_ns - until < _SETTLING_BARS * self._interval_ns:
            last = int(frame["time_ns"].iloc[-1]) + self._interval_ns if len(frame) else since
            until = max(min(until, last), wanted.start)
        begin = int(frame["time_ns"].iloc[0]) if len(frame) else until
        origin = f"ccxt {self._ccxt.__version__} {self._cfg.exchange} {self._cfg.symbol}"
        return FreshBars(frame, begin, until, [origin], found)

    def _load_markets(self) -> Mapping[str, Any]:
        """The markets by name; a fresh object, since exchanges keep a bad answer for a while."""
        self._exchange = _make_exchange(self._ccxt, self._cfg)
        return self._exchange.load_markets()

    def _pages(self, span: Span) -> Iterator[tuple[pd.DataFrame, Counter[str], int]]:
        """New bars of one page after the other, their counts, and how far has been asked."""
        at = span.start
        while at < span.end:
            frame, counts = self._ask_page(at)
            if not len(frame) and self._has_begun:
                # Stepped over it would be a hole, which is never asked about again.
                frame, counts = self._ask_page(at)
            self._has_begun |= bool(len(frame))
            new = within(frame, Span(at, span.end))
            if len(new):
                at = int(new["time_ns"].iloc[-1]) + self._interval_ns
            elif len(frame) and frame["time_ns"].iloc[-1] >= span.end:
                # The exchange begins with its first bar after the time asked for.
                at = span.end
            else:
                at += (self._page_bars or _SHORT_PAGE) * self._interval_ns
            yield new, counts, min(at, span.end)

    def _ask_page(self, since: int) -> tuple[pd.DataFrame, Counter[str]]:
        what = f"bars from {pd.Timestamp(since, tz='UTC').isoformat()}"
        return self._ask(what, lambda: self._fetch_page(since))

    def _fetch_page(self, since: int) -> tuple[pd.DataFrame, Counter[str]]:
        candles = self._exchange.fetch_ohlcv(
            self._cfg.symbol, self._cfg.timeframe, since // _MS, self._page_bars
        )
        if not candles:
            return no_bars(), Counter()
        try:
            frame = pd.DataFrame([row[:6] for row in candles], columns=["timestamp", *OHLCV])
            return check_fresh(plain_bars(frame, "the answer"), self._interval_ns, "the answer")
        except (ValueError, TypeError) as error:
            raise BadAnswerError(str(error), last=BadDataError) from error

    def _ask(self, what: str, request: Callable[[], T]) -> T:
        return self._patience.ask(f"{self._cfg.exchange}: {what}", lambda: self._told(request))

    def _told(self, request: Callable[[], T]) -> T:
        """Make a request; what may go better next time becomes a `BadAnswerError`."""
        try:
            answer = request()
        except self._ccxt.BaseError as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            if not _may_pass(self._ccxt, error):
                raise SourceError(f"{self._cfg.exchange}: {reason}") from error
            wait = wait_s(self._headers().get("Retry-After"))
            raise BadAnswerError(reason, wait) from error
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            # ccxt takes an answer apart without looking whether it is one.
            raise BadAnswerError(f"the answer makes no sense: {error!r}") from error
        # Of a page of HTML, say, ccxt makes a market without bars.
        if self._exchange.last_json_response is None:
            raise BadAnswerError("the answer is no JSON")
        return answer

    def _headers(self) -> Mapping[str, str]:
        return self._exchange.last_response_headers or {}


def _import_ccxt() -> ModuleType:
    try:
        return importlib.import_module("ccxt")
    except ModuleNotFoundError:
        raise ValueError(
            "source=ccxt needs the library ccxt: pip install -e '.[download]'"
        ) from None


def _make_exchange(ccxt: ModuleType, cfg: DownloadConfig) -> Any:
    if cfg.exchange not in ccxt.exchanges:
        raise ValueError(
            f"exchange={cfg.exchange!r} is not allowed: ccxt {ccxt.__version__} knows "
            f"{len(ccxt.exchanges)}, such as {', '.join(_alike(str(cfg.exchange), ccxt.exchanges))}"
        )
    options = {"timeout": int(1000 * cfg.http.timeout_s), "enableLastJsonResponse": True}
    exchange = getattr(ccxt, str(cfg.exchange))({"enableRateLimit": True, **options})
    if not exchange.has["fetchOHLCV"] or exchange.has["fetchOHLCV"] == "emulated":
        raise ValueError(f"exchange={cfg.exchange!r} is not allowed: it serves no bars")
    if cfg.url is not None:
        exchange.urls["api"] = _moved(exchange.urls["api"], cfg.url)
    return exchange


def _moved(addresses: Any, to: str) -> Any:
    """The same paths on another server."""
    if isinstance(addresses, Mapping):
        return {name: _moved(address, to) for name, address in addresses.items()}
    base, own = urlsplit(to.rstrip("/")), urlsplit(addresses)
    return urlunsplit((base.scheme, base.netloc, base.path + own.path, own.query, ""))


def _require_timeframe(exchange: Any, timeframe: str) -> None:
    known = exchange.timeframes or {}
    if timeframe not in known:
        raise ValueError(
            f"timeframe={timeframe!r} is not allowed: {exchange.id} has {', '.join(known)}"
        )


def _may_pass(ccxt: ModuleType, error: Exception) -> bool:
    """Whether a request that failed so may succeed when it is made again.

    A cut connection is an ExchangeError to ccxt, like many a refusal; its cause tells it apart.
    """
    return isinstance(error, ccxt.OperationFailed) or isinstance(error.__cause__, OSError)


def _alike(name: str, known: Any) -> list[str]:
    """A few names that are near, else the first ones."""
    return difflib.get_close_matches(name, list(known), n=4, cutoff=0.4) or sorted(known)[:4]
