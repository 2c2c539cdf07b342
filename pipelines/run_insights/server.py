"""Serves the page of all runs and the pages of their traces, on 127.0.0.1 and nowhere else."""

import logging
import signal
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import flask
from dash import Dash
from werkzeug.serving import make_server

from pipelines.ending import leave
from pipelines.run_insights.insights_config import InsightsConfig
from pipelines.run_insights.run_files import find_folders
from pipelines.run_insights.runs_page import make_page
from pipelines.run_insights.trace_callbacks import register
from pipelines.run_insights.trace_page import PREFIX, layout
from pipelines.run_insights.trace_store import TraceStore

HOST = "127.0.0.1"
_CACHE = ".insights"
_ASSETS = Path(__file__).parent / "assets"
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def run_server(cfg: InsightsConfig) -> NoReturn:
    """Serve until the process is interrupted, which ends it; the address is printed.

    Answers under way are never given, and a trace that is being read is read again next time.

    Raises:
        NotADirectoryError: if there is no such folder of runs.
        OSError: if the port is taken, or the cache cannot be written.
    """
    app = make_app(cfg)
    try:
        server = make_server(HOST, cfg.port, app.server, threaded=True)
    except SystemExit:  # how werkzeug says that the port is taken
        raise OSError(f"port={cfg.port} of {HOST} is taken; name another one, or 0") from None
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # Of a process that was started in the background the shell has SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    print(f"http://{HOST}:{server.server_port}/", flush=True)
    with suppress(KeyboardInterrupt), server:
        server.serve_forever()
    leave(0)


def make_app(cfg: InsightsConfig) -> Dash:
    """The application: all runs at ``/``, a trace at ``/trace/``.

    Raises:
        NotADirectoryError: if there is no such folder of runs.
        OSError: if the cache cannot be made.
    """
    root = Path(cfg.runs)
    find_folders(root)
    store = TraceStore(root, Path(cfg.cache) if cfg.cache else root / _CACHE)
    server = flask.Flask("insights", static_folder=None)
    app = Dash(
        "insights",
        server=server,
        url_base_pathname=PREFIX,
        assets_folder=str(_ASSETS),
        title="Trace",
        update_title="",
        serve_locally=True,
    )
    app.layout = layout()
    register(app, store)

    @server.before_request
    def refuse_other_hosts() -> None:
        # A page of another site may point its own name at this address, and would read along.
        host = flask.request.host.rpartition(":")[0] or flask.request.host
        origin = flask.request.headers.get("Origin", f"http://{flask.request.host}")
        if host not in (HOST, "localhost") or origin != f"http://{flask.request.host}":
            flask.abort(403)

    @server.after_request
    def keep_to_itself(response: flask.Response) -> flask.Response:
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response

    @server.get("/")
    def all_runs() -> str | flask.Response:
        try:
            return make_page(root, cfg.price_per_hour, None)
        except NotADirectoryError as error:  # it was there at the start
            return flask.Response(f"{error}\n", 404, mimetype="text/plain")

    return app
