"""What a download is told."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from envs.checks import require, require_between, require_one_of
from envs.data_config import utc_ns

SOURCES = ("binance_vision", "ccxt")
_SYMBOL = re.compile(r"[A-Za-z0-9]+([/:_.-][A-Za-z0-9]+)*")
_TIMEFRAME = re.compile(r"([1-9]\d{0,3})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DAY_S = 86_400
_END_NS = 4_102_444_800 * 10**9  # 2100-01-01
_EXCHANGE = re.compile(r"[a-z0-9]{1,40}")


@dataclass
class HttpConfig:
    """How patient, and how polite, a download is.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # Seconds without a byte after which a request has failed.
    timeout_s: float = 30.0
    # Times that a failed request is made again.
    retries: int = 5
    # Seconds before the first of them; doubled each time, up to a minute.
    backoff_s: float = 1.0
    # Least seconds between two requests; an exchange of ccxt has a limit of its own besides.
    pause_s: float = 0.1

    def __post_init__(self) -> None:
        require_between("http.timeout_s", self.timeout_s, 0.1, 600.0)
        require_between("http.retries", self.retries, 0, 100)
        require_between("http.backoff_s", self.backoff_s, 0.0, 60.0)
        require_between("http.pause_s", self.pause_s, 0.0, 60.0)


@dataclass
class DownloadConfig:
    """One download: ``python pipelines/download.py start=2024-01-01``.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # binance_vision (monthly archives with checksums) or ccxt (any exchange that it knows).
    source: str = "binance_vision"
    # Of source=ccxt: the exchange, as ccxt calls it: kraken, bitstamp, coinbase, ...
    exchange: str | None = None
    # The market, BASE/QUOTE.
    symbol: str = "BTC/USDT"
    # Length of a bar: 1m, 5m, 15m, 1h, ..., as the source has it.
    timeframe: str = "1m"
    # Opening time of the first bar, UTC: a date such as 2024-01-01, or a date and a time.
    start: str | None = None
    # First time that is not wanted any more; null: now, up to the last bar that has closed.
    end: str | None = None
    # Folder of the bars; what it has already is not fetched again.
    # null: bars/<exchange>_<symbol>_<timeframe>.
    out: str | None = None
    # Address to ask instead of the source's own: a mirror, or a server of yours.
    url: str | None = None
    http: HttpConfig = field(default_factory=HttpConfig)

    def __post_init__(self) -> None:
        require_one_of("source", self.source, SOURCES)
        self._check_exchange()
        named = bool(_SYMBOL.fullmatch(self.symbol)) and len(self.symbol) <= 60
        require(named, "symbol", self.symbol, "a market's name such as BTC/USDT")
        self._check_timeframe()
        require(self.start is not None, "start", self.start, "a date in UTC, start=2024-01-01")
        self._check_times()
        if self.url is not None:
            self._check_url(self.url)

    @property
    def interval_s(self) -> int:
        """Length of a bar in seconds."""
        return _length_s(self.timeframe)

    @property
    def start_ns(self) -> int:
        """Start, as ns since 1970 UTC."""
        return _time_ns("start", str(self.start))

    @property
    def end_ns(self) -> int | None:
        """End, as ns since 1970 UTC; None: now."""
        return None if self.end is None else _time_ns("end", self.end)

    @property
    def exchange_name(self) -> str:
        """Whose bars are asked for."""
        return self.exchange or "binance"

    @property
    def folder(self) -> Path:
        """Where the bars go."""
        if self.out is not None:
            return Path(self.out)
        symbol = re.sub(r"[^A-Za-z0-9]", "-", self.symbol)
        return Path("bars") / f"{self.exchange_name}_{symbol}_{self.timeframe}"

    def _check_exchange(self) -> None:
        if self.source == "ccxt":
            named = bool(self.exchange and _EXCHANGE.fullmatch(self.exchange))
            require(named, "exchange", self.exchange, "the id of an exchange, exchange=kraken")
        else:
            require(self.exchange is None, "exchange", self.exchange, "unset without source=ccxt")

    def _check_timeframe(self) -> None:
        fits = bool(_TIMEFRAME.fullmatch(self.timeframe))
        # So that a bar never lies in two days, and never in two months.
        whole = fits and _DAY_S % _length_s(self.timeframe) == 0
        allowed = "a length such as 1m, 15m, 1h or 1d that goes into a day a whole number of times"
        require(whole, "timeframe", self.timeframe, allowed)

    def _check_url(self, url: str) -> None:
        allowed = "an address that begins with http:// or https://, without query or #"
        try:
            parts = urlsplit(url)
            whole = bool(parts.hostname) and parts.port != 0 and not parts.query + parts.fragment
        except ValueError:  # a port that is none, or half of an address of IPv6
            whole = False
        require(whole and parts.scheme in ("http", "https"), "url", url, allowed)
        # It would stand in every error, and in the manifest.
        alone = parts.username is None
        require(alone, "url", f"{parts.scheme}://...", "an address without user and password")

    def _check_times(self) -> None:
        start, end = self.start_ns, self.end_ns
        require(end is None or start < end, "end", self.end, f"a time after start={self.start}")


def _length_s(timeframe: str) -> int:
    match = _TIMEFRAME.fullmatch(timeframe)
    return int(match[1]) * _SECONDS[match[2]] if match else 0


def _time_ns(key: str, text: str) -> int:
    """A UTC date, or date and time, as ns since 1970; one with another zone is converted.

    Raises:
        ValueError: naming the key and the text.
    """
    time_ns = utc_ns(key, text)
    allowed = "a time such as 2024-01-01 or 2024-01-01T12:00, UTC, from 1970 to 2099"
    require(0 <= time_ns < _END_NS, key, text, allowed)
    return time_ns
