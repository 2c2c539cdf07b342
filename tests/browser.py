"""A headless Chromium, told what to do by the WebDriver protocol of its own driver, over HTTP."""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
DRIVER = shutil.which("chromedriver") or ""
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Browser:
    """One window.

    Args:
        address: of the driver's session.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def open(self, path: Path, fragment: str = "") -> None:
        """Load a file, until it is drawn."""
        self.visit(f"{path.resolve().as_uri()}{fragment}")

    def visit(self, url: str) -> None:
        """Load what is at an address, until it is drawn."""
        _send(f"{self.address}/url", {"url": url})

    def run(self, script: str) -> object:
        """What the body of a JavaScript function returns."""
        return _send(f"{self.address}/execute/sync", {"script": script, "args": []})

    def wait(self, expression: str, seconds: float = 60.0) -> object:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(f"return {expression}")):
            assert time.monotonic() < end, f"still not true: {expression}"
            time.sleep(0.02)
        return value

    def tell(self, command: str, **words: object) -> dict:
        """A command of the browser's developer tools."""
        told = {"cmd": command, "params": words}
        return _send(f"{self.address}/goog/cdp/execute", told)

    def resize(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Width and height of the page in CSS pixels, and whether its reader likes it dark."""
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=phone,
        )  # fmt: skip
        likes = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.tell("Emulation.setEmulatedMedia", features=likes)
        self._wait_for_a_frame()

    def drag(self, from_x: float, to_x: float, y: float) -> None:
        """Press the mouse at a place of the window, draw it sideways, and let it go."""
        for kind, x in (("mousePressed", from_x), ("mouseMoved", (from_x + to_x) / 2),
                        ("mouseMoved", to_x), ("mouseReleased", to_x)):  # fmt: skip
            self.tell("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """What is seen, or all of the page, as PNG."""
        shot = self.tell("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def errors(self) -> list[str]:
        """What the console was told of errors and warnings since it was asked last."""
        entries = _send(f"{self.address}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def _wait_for_a_frame(self) -> None:
        """Styles are others at once; who listens to the change is told when a frame is drawn."""
        script = """const told = arguments[0];
            requestAnimationFrame(() => requestAnimationFrame(() => told()))"""
        _send(f"{self.address}/execute/async", {"script": script, "args": []})


@contextmanager
def started(folder: Path) -> Iterator[Browser]:
    """A browser that keeps its files in `folder`; it is gone at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder)}
    driver = subprocess.Popen(
        [DRIVER, f"--port={port}", "--log-level=SEVERE"], env=home,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield Browser(_session(f"http://127.0.0.1:{port}"))
    finally:
        try:
            _send(f"http://127.0.0.1:{port}/shutdown", None)
        except OSError:
            driver.kill()
        driver.wait(60)


def _session(address: str) -> str:
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    asked = {
        "browserName": "chrome",
        "goog:chromeOptions": {"binary": CHROMIUM, "args": words},
        "goog:loggingPrefs": {"browser": "ALL"},
    }
    end = time.monotonic() + 60
    while True:
        try:
            return (
                f"{address}/session/"
                + _send(f"{address}/session", {"capabilities": {"alwaysMatch": asked}})["sessionId"]
            )
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(0.05)


def _send(address: str, body: dict | None) -> object:
    data = None if body is None else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, data, kind)  # noqa: S310
    with _NO_PROXY.open(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text)["value"] if data is not None else None


def contrast(one: str, other: str) -> float:
    """How far two opaque colours, ``rgb(1, 2, 3)`` or ``#010203``, differ: 1 to 21, by WCAG 2."""

    def light(color: str) -> float:
        digits = [color[i : i + 2] for i in (1, 3, 5)] if color.startswith("#") else []
        levels = [int(each, 16) for each in digits] or [int(n) for n in re.findall(r"\d+", color)]
        linear = [
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
            for v in (level / 255 for level in levels[:3])
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dim, bright = sorted((light(one), light(other)))
    return (bright + 0.05) / (dim + 0.05)
