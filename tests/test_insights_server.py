"""What is served and to whom: all runs, no file of the disk, no other host, no other address."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress

import pytest

pytest.importorskip("dash")
pytest.importorskip("duckdb")

from html_document import EVIL
from pipelines.run_insights.insights_config import InsightsConfig
from pipelines.run_insights.server import make_app
from served_runs import ROOT, serve_words

# A server whose first page is asked of DuckDB, and takes for ever.
BUSY = """
import sys, duckdb
from pipelines.run_insights import server
from pipelines.run_insights.insights_config import InsightsConfig

def ask(*_):
    base = duckdb.connect()
    print("asked", flush=True)
    while True:
        base.execute("SELECT sum(range) FROM range(20000000)").df()

server.make_page = ask
server.run_server(InsightsConfig(runs=sys.argv[1], port=0))
"""
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def address(served):
    return served[1]


def test_all_runs_are_the_first_page_and_lead_to_their_traces(chromium, address):
    chromium.resize(1280, 900)
    chromium.visit(address)
    chromium.wait("document.documentElement.dataset.ready")
    links = chromium.run("return [...document.querySelectorAll('th a')].map(a => a.textContent)")
    assert sorted(links) == ["broken", "half", "one", "two"]
    assert EVIL not in chromium.run("return document.body.innerHTML")
    chromium.run(
        "[...document.querySelectorAll('th a')].find(a => a.textContent === 'one').click()"
    )
    chromium.wait("document.querySelector('#trades table')")
    assert chromium.run("return document.querySelector('#head').textContent") == "All runs / one"
    assert chromium.errors() == []


def get(address, path, **headers):
    """Status of an answer, and its text."""
    request = urllib.request.Request(f"{address}{path}", headers=headers)  # noqa: S310
    try:
        with DIRECT.open(request, timeout=20) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")


@pytest.mark.parametrize(
    "path",
    ["one/config.json", "../outside/config.json", "%2e%2e/outside/config.json",
     "trace/assets/../server.py", "trace/assets/%2e%2e/server.py", "trace/assets/..%2fserver.py",
     "runs/one/config.json"],
)  # fmt: skip
def test_no_address_gives_a_file(address, path):
    host, _, port = address.removeprefix("http://").rstrip("/").partition(":")
    # As it stands: urllib would tidy the path first.
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("GET", f"/{path}")
    answer = connection.getresponse()
    text = answer.read().decode("utf-8", "replace")
    connection.close()
    assert "total_frames" not in text
    assert "make_server" not in text


def test_another_host_s_name_is_refused_and_no_other_page_may_read_along(address):
    assert get(address, "", Host="evil.example")[0] == 403
    assert get(address, "trace/_dash-layout", Host="evil.example:8050")[0] == 403
    assert get(address, "", Host="127.0.0.1.evil.example:1")[0] == 403
    assert get(address, "trace/_dash-layout", Origin="http://evil.example")[0] == 403
    assert get(address, "trace/_dash-layout", Origin=address.rstrip("/"))[0] == 200
    with DIRECT.open(f"{address}trace/") as answer:
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_a_folder_of_runs_that_is_moved_away_meanwhile_is_said_to_be_gone(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    app = make_app(InsightsConfig(runs=str(runs), cache=str(tmp_path / "cache")))
    runs.rename(tmp_path / "elsewhere")
    page = app.server.test_client().get("/", base_url="http://127.0.0.1/")
    assert (page.status_code, page.mimetype) == (404, "text/plain")
    assert page.text == f"runs={str(runs)!r} is not allowed: a folder that exists\n"


def test_it_listens_on_the_loopback_and_nowhere_else(address):
    port = int(address.rstrip("/").rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: which address would be ours?
            own = probe.getsockname()[0]
        except OSError:
            pytest.skip("no address but the loopback's")
    if own.startswith("127."):
        pytest.skip("no address but the loopback's")
    with socket.socket() as other:
        other.settimeout(5)
        assert other.connect_ex((own, port)) != 0


def test_a_port_that_is_taken_is_refused(served):
    runs, address = served
    port = int(address.rstrip("/").rpartition(":")[2])
    home = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = serve_words(runs, port)
    done = subprocess.run(words, capture_output=True, text=True, env=home, timeout=60)
    assert done.returncode == 2
    assert f"port={port} of 127.0.0.1 is taken" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_well_while_answers_are_under_way(tmp_path, number):
    home = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", BUSY, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=home) as server:
        address = server.stdout.readline().strip()
        readers = [threading.Thread(target=refused, args=(address,)) for _ in range(3)]
        for reader in readers:
            reader.start()
            assert server.stdout.readline() == "asked\n"
        server.send_signal(number)
        _, errors = server.communicate(timeout=60)
        for reader in readers:
            reader.join(20)
    assert (server.returncode, errors) == (0, "")


def refused(address):
    """Ask for a page that never comes."""
    with suppress(OSError):
        DIRECT.open(address, timeout=60)
