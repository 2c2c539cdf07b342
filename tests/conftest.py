"""Candle tables: a market drawn by hand, the actions on it, and what every step must show.

The tables are lists of ``(open, high, low, close, volume)`` rows. Row 0 is the bar on whose close
the first action is decided; action ``i`` executes in row ``i + 1``. Actions read as an order
ticket: ``"long x1 stop100 tp2R"`` is a long of risk multiple 1 with a stop 100 bps away and a
take-profit at twice the stop's distance; what is left out is x1, stop100 and no take-profit.
"""

import importlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from envs.config import EnvConfig
from envs.ledger import FILLS, HEADS, LEDGER, REASONS
from envs.market import MarketEnv
from envs.observation import ACCOUNT
from envs.table import BarTable
from local_exchange import LocalExchange

# Small tensors: a second thread costs more than it gives, and far more beside other work.
torch.set_num_threads(1)

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
CENTRE = 10_000.0  # mirrored tables are reflected at this price
NO_COSTS = {
    "taker_fee_bps": 0.0,
    "maker_fee_bps": 0.0,
    "slippage_bps": 0.0,
    "stop_slippage_bps": 0.0,
    "allow_zero_costs": True,
}
# What a step shows when nothing was filled; `check` expects these unless a test says otherwise.
NOTHING = {
    "open_exit_reason": "",
    "open_exit_units": None,
    "open_exit_price": None,
    "requested_units": None,
    "entry_units": None,
    "entry_fill_price": None,
    "exit_reason": "",
    "exit_units": None,
    "exit_price": None,
    "fee": 0.0,
    "slippage_cost": 0.0,
    "funding": 0.0,
    "terminated": False,
}


def near(value):
    """The expected number to 1e-9 relative; a zero to 1e-12 of a 100,000 account."""
    return pytest.approx(value, rel=1e-9, abs=1e-7 if value == 0 else 1e-12)


def action_indices(ticket: str, cfg: EnvConfig, side: int = 1) -> dict[str, int]:
    """Indices of an order ticket; with `side` -1 long and short are exchanged."""
    direction, *rest = ticket.split()
    sign = {"short": -1, "flat": 0, "long": 1}[direction] * side
    multiple, stop_bps, take_profit = 1.0, 100.0, 0.0
    for word in rest:
        if word.startswith("x"):
            multiple = float(word[1:])
        elif word.startswith("stop"):
            stop_bps = float(word[4:])
        elif word.startswith("tp"):
            take_profit = float(word[2:].removesuffix("R"))
        else:
            raise ValueError(f"{word!r} in the ticket {ticket!r}")
    steps = stop_bps / cfg.stop_step_bps
    assert steps == round(steps), f"{ticket!r}: no such stop"
    return {
        "direction": sign + 1,
        "size": cfg.risk_multiples.index(multiple),
        "stop_loss": round(steps) - 1,
        "take_profit": cfg.take_profit_r.index(take_profit),
    }


def make_action(indices: list[dict[str, int]], batch: tuple[int, ...]) -> TensorDict:
    """The action TensorDict of one step; `indices` in the order of the flattened batch."""
    return TensorDict(
        {h: torch.tensor([i[h] for i in indices]).reshape(batch) for h in HEADS}, batch_size=batch
    )


def reflect(rows):
    """The table seen in a mirror at `CENTRE`: highs become lows."""
    return [(2 * CENTRE - o, 2 * CENTRE - lo, 2 * CENTRE - h, 2 * CENTRE - c, v)
            for o, h, lo, c, v in rows]  # fmt: skip


def read_step(td: TensorDict) -> SimpleNamespace:
    """The one lane of a stepped TensorDict as plain numbers: None for nothing, reasons by name."""
    after = td["next"]
    fills = dict(zip(FILLS, after["fills"].flatten().tolist(), strict=True))
    step = {k: None if math.isnan(v) else v for k, v in fills.items()}
    for key in ("open_exit_reason", "exit_reason"):
        step[key] = REASONS[int(step[key] or 0)]
    step["terminated"] = bool(after["terminated"].item())
    step["truncated"] = bool(after["truncated"].item())
    step["done"] = bool(after["done"].item())
    step["learner_reward"] = after["reward"].item()
    step["bar"] = after["bar"].item()
    used = after["head_used"].flatten().tolist()
    step["heads"] = tuple(h for h, u in zip(HEADS, used, strict=True) if u)
    step["account"] = dict(zip(ACCOUNT, after["account"].flatten().tolist(), strict=True))
    step["ledger"] = dict(zip(LEDGER, after["ledger"].flatten().tolist(), strict=True))
    return SimpleNamespace(**step)


def check_accounting(step, before, close: float, cfg: EnvConfig) -> None:
    """What holds at every step whatever the rules: the books balance and the reward is theirs."""
    fills = [
        (getattr(step, units), getattr(step, price))
        for units, price in (
            ("open_exit_units", "open_exit_price"),
            ("entry_units", "entry_fill_price"),
            ("exit_units", "exit_price"),
        )
        if getattr(step, units) is not None
    ]
    cash = before.cash - sum(u * p for u, p in fills) - step.fee - step.funding
    assert step.cash == pytest.approx(cash, rel=1e-9, abs=1e-7)
    assert step.position == pytest.approx(before.position + sum(u for u, _ in fills), abs=1e-9)
    assert step.equity == pytest.approx(step.cash + step.position * close, rel=1e-9, abs=1e-6)
    peak = max(before.peak, step.equity)
    assert step.drawdown == pytest.approx(1 - step.equity / peak, rel=1e-9, abs=1e-12)
    if cfg.drawdown_penalty == cfg.turnover_penalty == 0:
        floor = 0.01 * cfg.initial_cash
        reward = cfg.reward_scale * math.log(max(step.equity, floor) / max(before.equity, floor))
        assert step.reward == pytest.approx(reward, rel=1e-9, abs=1e-9)
        assert step.learner_reward == pytest.approx(reward, rel=1e-5, abs=1e-6)
    step.peak = peak
    assert step.done == (step.terminated or step.truncated)
    flat = step.position == 0
    for key in ("entry_price", "stop_price", "take_profit_price"):
        assert not (flat and getattr(step, key) is not None), f"a flat account shows {key}"


def play_table(rows, tickets, *, side=1, interval_s=60.0, last=None, **params):
    """Play order tickets on a candle table with one lane; a list of steps comes back."""
    cfg = EnvConfig(paths=1, accounts=1, workers=0, **params)
    rows = reflect(rows) if side < 0 else rows
    ohlcv = np.array(rows, dtype=np.float64)
    table = BarTable.from_arrays(ohlcv, interval_s=interval_s)
    last = len(rows) - 1 if last is None else last
    env = MarketEnv(table, cfg, starts=torch.tensor([[0, last]]))
    td, steps = env.reset(), []
    before = SimpleNamespace(
        cash=cfg.initial_cash, position=0.0, equity=cfg.initial_cash, peak=cfg.initial_cash
    )
    for number, ticket in enumerate(tickets, start=1):
        td["action"] = make_action([action_indices(ticket, cfg, side)], (1, 1))
        td = env.step(td)
        step = read_step(td)
        assert step.bar == number
        check_accounting(step, before, ohlcv[number, 3], cfg)
        steps.append(step)
        assert not step.done or number == len(tickets), f"done at step {number}"
        before, td = step, td["next"]
    return steps


def check_step(step, **expected) -> None:
    """Compare a step with the table's expectation; fills that are not mentioned must not be."""
    for key, want in {**NOTHING, **expected}.items():
        got = getattr(step, key)
        if isinstance(want, str | bool | tuple) or want is None:
            assert got == want, f"{key}: {got!r}, expected {want!r}"
        else:
            assert got is not None, f"{key}: nothing, expected {want!r}"
            assert got == near(want), f"{key}: {got!r}, expected {want!r}"


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
def no_costs() -> dict:
    """The parameters of a market without costs."""
    return dict(NO_COSTS)


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
def chromium(tmp_path_factory):
    """A headless browser, ``tests/browser.py``; where there is none the test is skipped."""
    browser = importlib.import_module("browser")
    if not (browser.CHROMIUM and browser.DRIVER):
        pytest.skip("no chromium and chromedriver here")
    with browser.started(tmp_path_factory.mktemp("chromium")) as window:
        yield window
