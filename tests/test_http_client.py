"""Fetching over HTTP from a server that behaves badly."""

import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pipelines.market_data.download_config import HttpConfig
from pipelines.market_data.http_client import HttpClient, _SafeRedirects, http_date_ns, wait_s
from pipelines.market_data.patience import BadDataError, Patience
from pipelines.source_error import SourceError

FILE = "/data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-03-01.zip"
FAST = HttpConfig(retries=2, backoff_s=0.0, pause_s=0.0)
HASTY = HttpConfig(timeout_s=0.5, retries=9, backoff_s=0.0, pause_s=0.0)


def client(cfg=FAST):
    return HttpClient(cfg, Patience(cfg))


@pytest.mark.parametrize("kind", [429, 500, 502, 503, 504, "cut", "drop"])
def test_a_failure_that_passes_costs_one_more_request(local_exchange, kind):
    whole = client().get(local_exchange.url + FILE, limit=10**6)
    local_exchange.break_down("BTCUSDT", kind)
    assert client().get(local_exchange.url + FILE, limit=10**6) == whole
    assert local_exchange.asked() == 3


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (500, r"HTTP 500 .*asked 3 times"),
        (429, r"HTTP 429 .*asked 3 times"),
        ("cut", r"the connection was cut: [\d,]+ of [\d,]+ bytes came; asked 3 times"),
        ("drop", r"the connection was cut|cannot be reached"),
    ],
)
def test_a_failure_that_stays_is_named_with_its_address(local_exchange, kind, message):
    local_exchange.break_down("BTCUSDT", kind, times=99)
    with pytest.raises(SourceError, match=rf"(?s)^{local_exchange.url}/data/.*{message}"):
        client().get(local_exchange.url + FILE, limit=10**6)
    assert local_exchange.asked() == 3


def test_a_server_that_says_nothing_is_not_waited_for(local_exchange):
    whole = client().get(local_exchange.url + FILE, limit=10**6)
    local_exchange.break_down("BTCUSDT", "stall", times=2)
    assert client(HASTY).get(local_exchange.url + FILE, limit=10**6) == whole
    assert local_exchange.asked() >= 4
    local_exchange.break_down("BTCUSDT", "stall", times=99)
    impatient = HttpConfig(timeout_s=0.1, retries=1, backoff_s=0.0, pause_s=0.0)
    with pytest.raises(SourceError, match=r"(cut|reached).*(timed out|Timeout).*asked 2 times"):
        client(impatient).get(local_exchange.url + FILE, limit=10**6)


@pytest.mark.parametrize("status", [400, 401, 403, 451])
def test_a_refusal_is_not_asked_again(local_exchange, status):
    local_exchange.break_down("BTCUSDT", status, times=99)
    with pytest.raises(SourceError, match=f"HTTP {status}"):
        client().get(local_exchange.url + FILE, limit=10**6)
    assert local_exchange.asked() == 1


def test_a_file_that_is_not_there_is_none_and_tells_the_time_all_the_same(local_exchange):
    fetching = client()
    assert fetching.server_ns is None
    assert fetching.get(local_exchange.url + "/nothing", limit=10) is None
    assert fetching.server_ns == local_exchange.now_s * 10**9


def test_a_body_beyond_the_limit_is_not_read_to_its_end_and_asked_for_again(local_exchange):
    with pytest.raises(BadDataError, match=r"longer than 100 bytes.*; asked 3 times"):
        client().get(local_exchange.url + FILE, limit=100)
    assert local_exchange.asked() == 3


def test_nobody_there_is_named():
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/x"
    with pytest.raises(SourceError, match=r"cannot be reached: .*refused.*; asked 3 times"):
        client().get(url, limit=10)


@pytest.mark.parametrize(
    "target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:text/plain,x"]
)
def test_a_redirect_leads_nowhere_but_to_the_web(target):
    class Elsewhere(BaseHTTPRequestHandler):
        """Sends everybody away."""

        def do_GET(self):
            """Redirect."""
            self.send_response_only(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with pytest.raises(SourceError, match=r"HTTP 302|unknown url type"):
                client().get(f"http://127.0.0.1:{server.server_port}/", limit=10)
        finally:
            server.shutdown()
            thread.join()


def test_a_redirect_never_gives_up_encryption():
    handler, request = _SafeRedirects(), urllib.request.Request("https://bars.example/x")
    with pytest.raises(SourceError, match=r"redirects to http://bars.example/y, which is"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://bars.example/y")
    onward = handler.redirect_request(request, None, 302, "Found", {}, "https://bars.example/y")
    assert onward.full_url == "https://bars.example/y"


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_other_addresses_are_not_opened(url):
    with pytest.raises(SourceError, match="unknown url type"):
        client().get(url, limit=10**6)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Mon, 10 Mar 2025 12:34:30 GMT", 1741610070),
        ("", None),
        (None, None),
        ("yesterday", None),
        ("Mon, 99 Mar 2025 12:34:30 GMT", None),
    ],
)
def test_the_time_of_a_header(text, seconds):
    assert http_date_ns(text) == (None if seconds is None else seconds * 10**9)


def test_how_long_a_server_wants_to_be_left_alone():
    assert wait_s(None) == 0.0
    assert wait_s("120") == 120.0
    assert wait_s("soon") == 0.0
    assert wait_s("Mon, 10 Mar 2025 12:34:30 GMT") == 0.0
    assert wait_s("Fri, 01 Jan 2100 00:00:00 GMT") > 1e6
