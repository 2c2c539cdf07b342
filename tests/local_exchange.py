"""An exchange on this machine, for the tests of the download: it behaves, or as badly as told.

It speaks like three real servers: Binance's archive (``/data/spot/...``), Bitstamp (``/api/v2``,
pages from any time on) and Kraken (``/0/public``, the newest 720 bars whatever is asked). Prices
are a function of the time, so that a test knows every bar; the bar that is being formed is served
too, half of it.
"""

import functools
import hashlib
import io
import json
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd

SECOND_NS = 10**9
LENGTHS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
ARCHIVE = re.compile(
    r"/data/spot/(monthly|daily)/klines/(\w+)/(\w+)/\2-\3-([\d-]+)\.zip(\.CHECKSUM)?"
)
MICROSECONDS_SINCE_S = 1_735_689_600  # 2025-01-01
PAGE = {"bitstamp": 1000, "kraken": 720}


def seconds(text: str) -> int:
    """Seconds since 1970 of a UTC time."""
    return int(pd.Timestamp(text, tz="UTC").timestamp())


def price(at_s: np.ndarray) -> np.ndarray:
    """The price at a time, two decimals, never the same for long."""
    t = at_s / 60.0
    wave = 5_000.0 * np.sin(t / 20_000.0) + 300.0 * np.sin(t / 300.0)
    return np.round(30_000.0 + wave + 20.0 * np.sin(t * 1.7), 2)


def ohlcv(open_s: np.ndarray, interval_s: int) -> np.ndarray:
    """Bars [N, 5] that open at `open_s`."""
    open_, close = price(open_s), price(open_s + interval_s)
    high, low = np.maximum(open_, close) + 1.25, np.minimum(open_, close) - 1.25
    volume = np.round(2.0 + np.sin(open_s / 777.0), 6)
    return np.stack([open_, high, low, close, volume], axis=1)


@dataclass
class Fault:
    """What goes wrong with the next requests for a path.

    `kind` is a status, or ``cut`` (half of the body comes), ``drop`` (nothing comes), ``page`` (a
    page of HTML comes), ``stall`` (nothing comes for two seconds), ``empty`` (an empty body comes).
    """

    path: str
    kind: int | str
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


class LocalExchange:
    """The server; `now_s` is its clock, at which its bars end."""

    def __init__(self, now: str = "2025-03-10T12:34:30") -> None:
        self.now_s = seconds(now)
        self.listed_s = seconds("2017-08-17")
        self.tells_time = True
        self.holes: list[tuple[int, int]] = []
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        # Change what is served: the text of an archive, the packed archive, a page of bars.
        self.change_text: Callable[[str, bytes], bytes] = lambda _, text: text
        self.change_zip: Callable[[str, bytes], bytes] = lambda _, blob: blob
        self.change_page: Callable[[list[list[float]]], list[list[float]]] = lambda page: page
        self._packed: dict[tuple[object, ...], bytes] = {}
        self._lock = threading.Lock()
        self._server = _QuietServer(("127.0.0.1", 0), functools.partial(_Handler, self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator["LocalExchange"]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def break_down(self, path: str, kind: int | str, times: int = 1, **headers: str) -> None:
        """Let the next requests whose path contains a pattern go wrong."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.append(Fault(path, kind, times, named))

    def asked(self, pattern: str = "") -> int:
        """Requests so far whose path matches."""
        return sum(bool(re.search(pattern, path)) for path in self.requests)

    def bars(self, start_s: int, end_s: int, interval_s: int) -> tuple[np.ndarray, np.ndarray]:
        """Opening times and bars that there are, the one being formed included, half of it."""
        first = -(-max(start_s, self.listed_s) // interval_s) * interval_s
        times = np.arange(first, min(end_s, self.now_s + 1), interval_s, dtype=np.int64)
        for begin, end in self.holes:
            times = times[(times < begin) | (times >= end)]
        values = ohlcv(times, interval_s)
        forming = times + interval_s > self.now_s
        values[forming, 3] = values[forming, 0]
        values[forming, 4] /= 2
        return times, values

    def take_fault(self, path: str) -> Fault | None:
        """Note a request, and the fault that it meets."""
        with self._lock:
            self.requests.append(path)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, type and body."""
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if found := ARCHIVE.fullmatch(parts.path):
            body = self._archive(*found.groups())
            return (200, "application/zip", body) if body else (404, "text/xml", b"<Error/>")
        for prefix, serve in (("/api/v2", self._bitstamp), ("/0/public", self._kraken)):
            if parts.path.startswith(prefix):
                value = serve(parts.path.removeprefix(prefix).strip("/"), query)
                if value is not None:
                    return 200, "application/json", json.dumps(value).encode()
        return 404, "text/html", b"<html>no such page</html>"

    def _archive(
        self, kind: str, symbol: str, length: str, name: str, checksum: str | None
    ) -> bytes | None:
        begin = pd.Timestamp(f"{name}-01" if kind == "monthly" else name, tz="UTC")
        end = begin + (pd.offsets.MonthBegin(1) if kind == "monthly" else pd.Timedelta(days=1))
        published_s = int(end.timestamp()) + (5 * 86_400 if kind == "monthly" else 6 * 3600)
        if published_s > self.now_s or symbol not in ("BTCUSDT", "ETHUSDT"):
            return None
        interval_s = int(length[:-1]) * LENGTHS[length[-1]]
        times, values = self.bars(int(begin.timestamp()), int(end.timestamp()), interval_s)
        if not len(times):
            return None
        file = f"{symbol}-{length}-{name}"
        key = (file, self.now_s, str(self.holes), id(self.change_text))
        if key not in self._packed:
            text = self.change_text(file, klines(times, values, interval_s))
            self._packed[key] = pack({f"{file}.csv": text})
        blob = self.change_zip(file, self._packed[key])
        if checksum:
            return f"{hashlib.sha256(blob).hexdigest()}  {file}.zip\n".encode()
        return blob

    def _page(self, start_s: int, interval_s: int, limit: int, end_s: int) -> list[list[float]]:
        times, values = self.bars(start_s, end_s, interval_s)
        rows = [[int(t), *v] for t, v in zip(times[:limit], values[:limit].tolist(), strict=True)]
        return self.change_page(rows)

    def _bitstamp(self, path: str, query: dict[str, str]) -> object:
        if path == "markets":
            market = {"name": "BTC/USD", "market_symbol": "btcusd", "trading": "Enabled"}
            market["description"] = "Bitcoin / U.S. dollar"
            coins = {"base_currency": "BTC", "counter_currency": "USD", "market_type": "SPOT"}
            digits = {"base_decimals": 8, "counter_decimals": 0, "minimum_order_value": "10"}
            return [{**market, **coins, **digits, "instant_order_counter_decimals": 2}]
        if path != "ohlc/btcusd":
            return None
        start, end = int(query["start"]), int(query.get("end", 2**40))
        rows = self._page(start, int(query["step"]), int(query["limit"]), end + 1)
        names = ("timestamp", "open", "high", "low", "close", "volume")
        candles = [dict(zip(names, map(str, row), strict=True)) for row in rows]
        return {"data": {"pair": "BTC/USD", "ohlc": candles}}

    def _kraken(self, path: str, query: dict[str, str]) -> object:
        if path == "Time":
            return {"error": [], "result": {"unixtime": self.now_s, "rfc1123": "x"}}
        if path == "Assets":
            coin = {"aclass": "currency", "decimals": 10, "display_decimals": 5}
            coins = {
                "XXBT": {**coin, "altname": "XBT"},
                "ZUSD": {**coin, "altname": "USD"},
            }
            return {"error": [], "result": coins}
        if path == "AssetPairs":
            return {"error": [], "result": {"XXBTZUSD": _KRAKEN_PAIR}}
        if path != "OHLC":
            return None
        interval_s = 60 * int(query["interval"])
        first = max(int(query.get("since", 0)) + 1, self.now_s - 720 * interval_s)
        rows = self._page(first, interval_s, 720, 2**40)
        candles = [[t, *map(str, (o, h, lo, c)), str(c), str(v), 9] for t, o, h, lo, c, v in rows]
        return {"error": [], "result": {"XXBTZUSD": candles, "last": self.now_s}}


def klines(times_s: np.ndarray, values: np.ndarray, interval_s: int) -> bytes:
    """Text as it is in Binance's archive: twelve columns, no header; us from 2025 on."""
    unit = np.where(times_s >= MICROSECONDS_SINCE_S, 1_000_000, 1000)
    frame = pd.DataFrame({"open_time": times_s * unit})
    for i, name in enumerate(("open", "high", "low", "close", "volume")):
        frame[name] = values[:, i]
    frame["close_time"] = (times_s + interval_s) * unit - 1
    frame = frame.assign(quote=0.0, trades=9, taker_base=0.0, taker_quote=0.0, ignore=0)
    return frame.to_csv(header=False, index=False).encode()


def pack(members: dict[str, bytes] | dict[str, str]) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened:
        for name, text in members.items():
            opened.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return file.getvalue()


class _QuietServer(ThreadingHTTPServer):
    """Says nothing when a client goes away."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing on the terminal."""


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    def __init__(self, exchange: LocalExchange, *args: object) -> None:
        self.exchange = exchange
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer, or go wrong."""
        fault = self.exchange.take_fault(self.path)
        if fault is None:
            self._send(*self.exchange.answer(self.path))
        elif fault.kind == "cut":
            status, kind, body = self.exchange.answer(self.path)
            self._send(status, kind, body[: len(body) // 2], length=len(body))
        elif fault.kind == "page":
            self._send(200, "text/html", b"<html>please log in</html>")
        elif fault.kind == "empty":
            self._send(200, "application/json", b"")
        elif fault.kind == "stall":
            time.sleep(2.0)
        elif isinstance(fault.kind, int):
            self._send(fault.kind, "text/html", b"<html>busy</html>", headers=fault.headers)
        self.close_connection = True

    def _send(
        self,
        status: int,
        kind: str,
        body: bytes,
        length: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response_only(status)
        if self.exchange.tells_time:
            self.send_header("Date", formatdate(self.exchange.now_s, usegmt=True))
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the parent's name)
        """Nothing on the terminal."""


_KRAKEN_PAIR = {
    "altname": "XBTUSD",
    "wsname": "XBT/USD",
    "aclass_base": "currency",
    "base": "XXBT",
    "aclass_quote": "currency",
    "quote": "ZUSD",
    "lot": "unit",
    "cost_decimals": 5,
    "pair_decimals": 1,
    "lot_decimals": 8,
    "lot_multiplier": 1,
    "leverage_buy": [],
    "leverage_sell": [],
    "fees": [[0, 0.4]],
    "fees_maker": [[0, 0.25]],
    "fee_volume_currency": "ZUSD",
    "margin_call": 80,
    "margin_stop": 40,
    "ordermin": "0.00005",
    "costmin": "0.5",
    "tick_size": "0.1",
    "status": "online",
}
