"""Fetching files over HTTP: limits on size and time, the server's clock, failures told apart."""

import email.utils
import time
import urllib.request
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.error import HTTPError, URLError

from pipelines.market_data.download_config import HttpConfig
from pipelines.market_data.patience import BadAnswerError, BadDataError, Patience
from pipelines.source_error import SourceError

_CHUNK = 1 << 16
_USER_AGENT = "pricetaker"
# Too many requests, in the words of several servers, and what may have gone away in a minute.
_TRY_AGAIN = {408, 418, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}


class HttpClient:
    """Fetches small files, one after the other.

    Only http and https are spoken, wherever a server redirects to, and never http after https.

    Args:
        cfg: timeout; the rest is `patience`'s.
        patience: paces and repeats the requests.

    Attributes:
        server_ns: the server's clock at its last answer, ns since 1970 UTC; None: it has not said.
    """

    def __init__(self, cfg: HttpConfig, patience: Patience) -> None:
        self._timeout_s = cfg.timeout_s
        self._patience = patience
        self._opener = _make_opener()
        self.server_ns: int | None = None

    def get(self, url: str, *, limit: int) -> bytes | None:
        """The body of an answer; None if the server has no such file.

        Args:
            url: http or https.
            limit: most bytes that make sense.

        Raises:
            SourceError: if the server cannot be reached or refuses; a `BadDataError` if it sends
                more than the limit.
        """
        return self._patience.ask(url, lambda: self._get(url, limit))

    def _get(self, url: str, limit: int) -> bytes | None:
        request = urllib.request.Request(url, headers={"User-Agent": _USER_AGENT})  # noqa: S310 (http and https only)
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                self._note_time(response.headers.get("Date"))
                return _read(response, response.headers.get("Content-Length", ""), limit)
        except HTTPError as error:
            with error:
                self._note_time(error.headers.get("Date"))
                if error.code in (404, 410):
                    return None
                raise _failure(error, url) from error
        except URLError as error:
            raise BadAnswerError(f"cannot be reached: {error.reason}") from error
        except (HTTPException, OSError) as error:
            raise BadAnswerError(f"the connection was cut: {error!r}") from error

    def _note_time(self, date: str | None) -> None:
        self.server_ns = http_date_ns(date) or self.server_ns


def http_date_ns(text: str | None) -> int | None:
    """The time of a ``Date`` header in ns since 1970 UTC; None if it tells none."""
    try:
        return int(email.utils.parsedate_to_datetime(text or "").timestamp()) * 10**9
    except (ValueError, TypeError, OverflowError):
        return None


def wait_s(retry_after: str | None) -> float:
    """Seconds that a ``Retry-After`` header asks for: a number, or a time from now."""
    if retry_after is None:
        return 0.0
    if retry_after.strip().isdigit():
        return float(retry_after)
    until = http_date_ns(retry_after)
    return 0.0 if until is None else max(0.0, until / 1e9 - time.time())


def _read(body: IO[bytes], announced: str, limit: int) -> bytes:
    """All of a body, which is as long as announced and no longer than the limit."""
    chunks, size = [], 0
    while chunk := body.read(_CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            # A page that asks to log in, say; it may be gone the next time.
            reason = f"longer than {limit:,} bytes, which makes no sense"
            raise BadAnswerError(reason, last=BadDataError)
    if announced.isdigit() and size != int(announced):
        raise BadAnswerError(f"the connection was cut: {size:,} of {int(announced):,} bytes came")
    return b"".join(chunks)


def _failure(error: HTTPError, url: str) -> Exception:
    reason = f"HTTP {error.code} {error.reason}"
    if error.code in _TRY_AGAIN:
        return BadAnswerError(reason, wait_s(error.headers.get("Retry-After")))
    return SourceError(f"{url}: {reason}")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.type == "https" and not newurl.startswith("https:"):
            raise SourceError(f"{req.full_url}: redirects to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _make_opener() -> urllib.request.OpenerDirector:
    """Like Python's own opener, without its handlers for ftp, data and files."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _SafeRedirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
