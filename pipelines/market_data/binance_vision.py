"""Binance's public archive of spot candles: a zip file a month, or a day, with its checksum.

Laid out as https://github.com/binance/binance-public-data describes. A month is published some
days after it has ended; until then its days are, each one some hours after it has ended.
"""

import re
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import quote

import pandas as pd

from pipelines.market_data.download_config import DownloadConfig
from pipelines.market_data.fresh_bars import FreshBars, Span, check_fresh, no_bars, within
from pipelines.market_data.http_client import HttpClient
from pipelines.market_data.kline_archive import parse_klines, size_limit, unpack, verify
from pipelines.market_data.patience import BadAnswerError, BadDataError, Patience

ADDRESS = "https://data.binance.vision"
TIMEFRAMES = (
    *("1s", "1m", "3m", "5m", "15m", "30m"),
    *("1h", "2h", "4h", "6h", "8h", "12h", "1d"),
)
_SYMBOL = re.compile(r"[A-Z0-9]{2,30}")
_CHECKSUM_LIMIT = 4096
_DAY_NS = 86_400 * 10**9
# A month that ended longer ago has been published as a whole, or never will be.
_UNPUBLISHED_NS = 45 * _DAY_NS


class BinanceVision:
    """One market in the archive.

    Args:
        cfg: market, timeframe and address.
        patience: paces and repeats the requests.

    Raises:
        ValueError: for a market or a timeframe that the archive cannot have.
    """

    def __init__(self, cfg: DownloadConfig, patience: Patience) -> None:
        if cfg.timeframe not in TIMEFRAMES:
            raise ValueError(
                f"timeframe={cfg.timeframe!r} is not allowed: the archive has "
                f"{', '.join(TIMEFRAMES)}"
            )
        self._symbol = cfg.symbol.replace("/", "").upper()
        if not _SYMBOL.fullmatch(self._symbol):
            raise ValueError(f"symbol={cfg.symbol!r} is not allowed: a spot market, BTC/USDT")
        self._timeframe, self._interval_ns = cfg.timeframe, cfg.interval_s * 10**9
        self._address = (cfg.url or ADDRESS).rstrip("/")
        self._patience = patience
        self._client = HttpClient(cfg.http, patience)

    def now_ns(self, first: str) -> tuple[int | None, int]:
        """The server's clock, None if it tells none, and ours; ns since 1970 UTC.

        Args:
            first: a month that may be asked for, ``"2025-01"``.

        Raises:
            SourceError: if the server cannot be reached.
        """
        self._client.get(self._url("monthly", first) + ".CHECKSUM", limit=_CHECKSUM_LIMIT)
        return self._client.server_ns, time.time_ns()

    def fetch(
        self, month: str, span: Span, since: int, now_ns: int, advance: Callable[[int], None]
    ) -> FreshBars:
        """All bars of a span within a month, from the archive of the month or those of its days.

        Args:
            month: ``"2025-01"``.
            span: what is wanted of it, no later than now.
            since: what opened before needs not be fetched again.
            now_ns: the time.
            advance: is told for how many bars of what is fetched the source has been asked.

        Raises:
            SourceError: if the server cannot be reached; a `BadDataError` if it can, but what it
                sends stays wrong.
        """
        whole = _period(month)
        archive = self._archive("monthly", month, whole)
        if archive is not None:
            frame, origin, found = archive
            return FreshBars(within(frame, span), span.start, span.end, [origin], found)
        if now_ns - whole.end > _UNPUBLISHED_NS:
            return FreshBars(no_bars(), span.start, span.start)
        part = Span(max(since, span.start), span.end)
        return self._fetch_days(part, advance, goes_on=part != span)

    def _fetch_days(
        self, span: Span, advance: Callable[[int], None], *, goes_on: bool
    ) -> FreshBars:
        """The days of a span until the first one that is not there.

        Args:
            span: within a month.
            advance: see `fetch`.
            goes_on: after bars of the same month.
        """
        frames, found, until = [no_bars()], Counter[str](), span.start
        origins: list[str] = []
        for begin in range(span.start - span.start % _DAY_NS, span.end, _DAY_NS):
            archive = self._archive("daily", _day(begin), Span(begin, begin + _DAY_NS))
            advance((begin + _DAY_NS - span.start) // self._interval_ns)
            # A market that was listed within the month lacks its first days.
            if archive is None and (origins or goes_on):
                break
            if archive is not None:
                frame, origin, counts = archive
                frames.append(within(frame, span))
                origins.append(origin)
                found += counts
                until = min(begin + _DAY_NS, span.end)
        return FreshBars(pd.concat(frames, ignore_index=True), span.start, until, origins, found)

    def _archive(
        self, kind: str, name: str, period: Span
    ) -> tuple[pd.DataFrame, str, Counter[str]] | None:
        """Bars, origin and counts of one archive; None if there is none."""
        url = self._url(kind, name)
        file = url.rpartition("/")[2]
        limit = size_limit((period.end - period.start) // self._interval_ns)
        verified = self._patience.ask(url, lambda: self._fetch_verified(url, file, limit))
        if verified is None:
            return None
        archive, sha256 = verified
        try:
            text = unpack(archive, file, limit)
            rows, cut = parse_klines(text, file, self._interval_ns // 10**9)
            frame, found = check_fresh(rows, self._interval_ns, file)
            found += Counter({"cut_bars": cut})
        except ValueError as error:
            raise BadDataError(str(error)) from error
        outside = len(frame) - len(within(frame, period))
        if outside:
            raise BadDataError(f"{file}: {outside} bars outside {period.text}")
        return frame, f"{url} sha256 {sha256}", found

    def _fetch_verified(self, url: str, file: str, limit: int) -> tuple[bytes, str] | None:
        """An archive and its hash; None if there is none."""
        checksum = self._client.get(url + ".CHECKSUM", limit=_CHECKSUM_LIMIT)
        if checksum is None:
            return None
        archive = self._client.get(url, limit=limit)
        if archive is None:
            raise BadAnswerError("its checksum is there, the archive is not", last=BadDataError)
        try:
            return archive, verify(archive, checksum, file)
        except ValueError as error:
            # It may have been replaced between the two requests.
            raise BadAnswerError(str(error), last=BadDataError) from error

    def _url(self, kind: str, name: str) -> str:
        """Address of the archive of a month or a day."""
        symbol, length = quote(self._symbol), self._timeframe
        folder = f"{self._address}/data/spot/{kind}/klines/{symbol}/{length}"
        return f"{folder}/{symbol}-{length}-{name}.zip"


def _period(month: str) -> Span:
    """The whole of a month."""
    begin = pd.Timestamp(f"{month}-01", tz="UTC")
    end = begin + pd.offsets.MonthBegin(1)
    return Span(begin.as_unit("ns").value, end.as_unit("ns").value)


def _day(begin_ns: int) -> str:
    return pd.Timestamp(begin_ns, tz="UTC").strftime("%Y-%m-%d")
