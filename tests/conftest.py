"""What tests are given: markets to play on, servers and a browser on this machine, runs."""

import importlib
import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from candle_tables import (
    CENTRE,
    NO_COSTS,
    action_indices,
    check_step,
    make_action,
    play_table,
)
from local_exchange import LocalExchange

# Small tensors: a second thread costs more than it gives, and far more beside other work.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the programs that tests start
# Time decides no test: an example that waited for its processor is as good as a fast one.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# Two folders more than pytest has above a test's own: what somebody has looked at in runs in the
# folder of temporary files would be above the tests' runs, and these be looks of that somebody.
DEEP = Path(tempfile.gettempdir()) / f"tests-of-{os.getuid()}" / "pricetaker"
DEEP.mkdir(parents=True, exist_ok=True)
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(DEEP))

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ],
    ),
]


def pytest_collection_modifyitems(items):
    """On a GPU torch warns of itself and of the card while it compiles for one."""
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.filterwarnings("default"), append=False)


@pytest.fixture(params=DEVICES)
def device(request):
    """Every device that there is."""
    return request.param


@pytest.fixture
def play():
    """Play a table under the default costs: taker 5, maker 2, slippage 5, stop slippage 5 bps."""
    return play_table


@pytest.fixture
def play_free():
    """Play a table without any cost, so that the numbers can be read off the candles."""

    def play(rows, tickets, **params):
        return play_table(rows, tickets, **{**NO_COSTS, **params})

    return play


@pytest.fixture
def check():
    """Compare a step with its expectation."""
    return check_step


@pytest.fixture(params=[1, -1], ids=["long", "short"])
def side(request) -> int:
    """Tables are drawn for a long; the short plays their mirror image."""
    return request.param


@pytest.fixture
def at(side):
    """A price of the long's table on the side that is played."""
    return lambda price: CENTRE + side * (price - CENTRE)


@pytest.fixture
def indices():
    """Indices of an order ticket: ``indices("long x1 stop100 tp2R", cfg)``."""
    return action_indices


@pytest.fixture
def actions():
    """Action TensorDict of one step: ``actions([indices, ...], batch)``."""
    return make_action


@pytest.fixture
def local_exchange(monkeypatch):
    """A server that behaves like an exchange, or as badly as told: ``tests/local_exchange.py``."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with LocalExchange().running() as exchange:
        yield exchange


@pytest.fixture
def bar_folder(tmp_path):
    """Where `fetch` puts bars."""
    return tmp_path / "x"


@pytest.fixture
def fetch(local_exchange, bar_folder, capsys):
    """Download from the local exchange: ``fetch("KEY=VALUE", ...)`` as on the command line.

    Returns the exit code, what was printed, and the errors.
    """
    download, config = (importlib.import_module(f"pipelines.{n}") for n in ("download", "config"))
    overrides = importlib.import_module("pipelines.overrides")
    usual = ("http.backoff_s=0", "http.pause_s=0", "http.retries=2", f"out={bar_folder}")

    def run(*words):
        # Without Hydra, which takes longer than the download.
        keys = overrides.list_keys(config.DownloadConfig)
        told = [*usual, f"url={local_exchange.url}", *words]
        values = overrides.parse_overrides(told, keys, {}).values
        of_http = {key[5:]: values.pop(key) for key in list(values) if key.startswith("http.")}
        http = importlib.import_module("pipelines.market_data.download_config").HttpConfig(
            **of_http
        )
        try:
            code = download.main(config.DownloadConfig(**values, http=http))
        except SystemExit as ended:
            code = ended.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture(scope="session")
def three_runs(tmp_path_factory):
    """Two seeds of one configuration, and a run of another: ``tests/untrained_run.py``."""
    return importlib.import_module("untrained_run").make_three(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def carried(tmp_path_factory):
    """A run with a bit of everything in its folder, and its archive: ``tests/carried_run.py``."""
    make_run = importlib.import_module("carried_run").make_run
    write_bars = importlib.import_module("random_walk").write_bars
    root = tmp_path_factory.mktemp("carried")
    run = make_run(root / "mine", write_bars(root / "bars.parquet"))
    return run, importlib.import_module("pipelines.exporting.pack").pack_run(run).path


@pytest.fixture(scope="session")
def local_hub():
    """A hub on this machine, if its client is installed: ``tests/local_hub.py``."""
    pytest.importorskip("huggingface_hub")
    return importlib.import_module("local_hub")


@pytest.fixture(scope="session")
def trace_run(tmp_path_factory):
    """The folder of a run with a trace of 900 rows, and those rows: ``tests/asked_trace.py``."""
    pytest.importorskip("duckdb")
    folder = tmp_path_factory.mktemp("traces") / "runs" / "one"
    return folder, importlib.import_module("asked_trace").play(folder)


@pytest.fixture(scope="session")
def asked_trace(trace_run, tmp_path_factory):
    """Questions to that trace, its index in many pieces, and its rows."""
    folder, rows = trace_run
    index_in_pieces = importlib.import_module("asked_trace").index_in_pieces
    cache = tmp_path_factory.mktemp("cache")
    return *index_in_pieces(folder / "train_actions.csv", cache), rows


@pytest.fixture(scope="session")
def chromium():
    """A headless browser, ``tests/browser.py``; where there is none the test is skipped.

    Its sockets are in its folder, and a socket's path has at most 107 letters.
    """
    browser = importlib.import_module("browser")
    if not (browser.CHROMIUM and browser.DRIVER):
        pytest.skip("no chromium and chromedriver here")
    with (
        tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as folder,
        browser.started(Path(folder)) as window,
    ):
        yield window


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """The folder of some runs, and the address of their server: ``tests/served_runs.py``."""
    pytest.importorskip("dash")
    pytest.importorskip("duckdb")
    served_runs = importlib.import_module("served_runs")
    runs = served_runs.write_runs(tmp_path_factory.mktemp("served") / "runs")
    with served_runs.serving(runs) as address:
        yield runs, address


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory):
    """The folder of an evaluation of two seeds: ``tests/evaluated_seeds.py``."""
    evaluate_two = importlib.import_module("evaluated_seeds").evaluate_two
    return evaluate_two(tmp_path_factory.mktemp("report"))


@pytest.fixture
def altered(evaluation, tmp_path):
    """A copy of that evaluation with other values: ``altered(change)`` returns its folder."""
    alter = importlib.import_module("evaluated_seeds").alter
    return lambda change: alter(evaluation, tmp_path / "altered", change)
