"""Traces and indices that are damaged, replaced or too large: said or mended, never waited for."""

import json
import shutil
import threading
from pathlib import Path

import pytest
import torch

pytest.importorskip("dash")
pytest.importorskip("duckdb")

from asked_trace import CFG, make_table
from envs.market import MarketEnv
from envs.trace import TraceWriter
from envs.trace_reader import pack_trace, read_trace
from pipelines.run_insights import trace_callbacks, trace_store
from pipelines.run_insights.trace_index import index_trace
from pipelines.run_insights.trace_queries import Part, TraceQueries
from pipelines.run_insights.trace_store import TraceStore
from test_trace_callbacks import make_asker, opened

NAME = "train_actions.csv"
ALL = Part(0, 899, 0)


@pytest.fixture
def runs(trace_run, tmp_path, monkeypatch):
    """A folder of one run of which a page waits for the whole answer."""
    shutil.copytree(trace_run[0], tmp_path / "runs" / "one")
    monkeypatch.setattr(trace_callbacks, "_PATIENCE_S", 60.0)
    return tmp_path / "runs"


@pytest.mark.parametrize("column", ["asset", "env_frame", "lane", "episode", "step", "timestamp"])
def test_a_row_that_does_not_say_which_one_it_is_is_damage_and_said(runs, tmp_path, column):
    path = runs / "one" / NAME
    lines = path.read_text().splitlines()
    cells = lines[7].split(",")
    cells[lines[0].split(",").index(column)] = ""
    lines[7] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")
    about, message = opened(make_asker(runs, tmp_path / "cache"), "?run=one")
    assert about == ""
    assert message.endswith(f"not a trace, or damaged: a row without {column}.")


def test_a_trace_of_an_empty_line_has_no_rows_yet(runs, tmp_path):
    path = runs / "one" / NAME
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0] + b"\n")
    message = opened(make_asker(runs, tmp_path / "cache"), "?run=one")[1]
    assert message.endswith("the trace has no rows yet.")


def test_a_trace_of_one_row_shows_its_point(runs, tmp_path):
    path = runs / "one" / NAME
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    found = make_asker(runs, tmp_path / "cache")("url.search", **{"url.search": "?run=one"})
    assert found["about"]["children"] == "1 row, 1 lane, frames to 0; lane 0: BTC/USD"
    (line,) = found["metric-chart"]["figure"]["data"]
    assert (len(line["y"]), line["mode"]) == (1, "lines+markers")


@pytest.mark.parametrize("value", [None, "5", [5], 10**400], ids=["null", "text", "list", "digits"])
def test_parameters_that_are_none_are_said(runs, tmp_path, value):
    beside = (runs / "one" / NAME).with_suffix(".json")
    known = json.loads(beside.read_text())
    known["simulator"]["stop_steps"] = value
    beside.write_text(json.dumps(known))
    message = opened(make_asker(runs, tmp_path / "cache"), "?run=one")[1]
    assert message == "Profits are before fees: train_actions.json: damaged"


def test_whatever_fails_while_a_trace_is_read_is_said(runs, tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(trace_store, "index_trace", fail)
    message = opened(make_asker(runs, tmp_path / "cache"), "?run=one")[1]
    assert message == "Not shown: MemoryError."


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:4] + bytes(20_000) + whole[20_004:],
    ],
)
def test_an_index_that_is_damaged_is_made_anew(runs, tmp_path, damage):
    cache = tmp_path / "cache"
    told = opened(make_asker(runs, cache), "?run=one")
    (piece,) = cache.rglob("piece-*.parquet")
    piece.write_bytes(damage(piece.read_bytes()))
    ask = make_asker(runs, cache)  # a server that has just started, after a loss of power
    assert opened(ask, "?run=one")[1].startswith(f"{NAME} is being read")
    assert opened(ask, "?run=one") == told


def test_what_duckdb_cannot_answer_of_a_whole_index_is_said(runs, tmp_path, monkeypatch):
    ask = make_asker(runs, tmp_path / "cache")
    words = "SELECT error('too much') FROM read_parquet($files)"
    monkeypatch.setattr(TraceQueries, "trades", lambda self, index, *_: self._ask(index, words))
    message = opened(ask, "?run=one")[1]
    assert message.startswith("Not shown: what is indexed of the trace cannot be asked: ")
    assert "too much" in message


def test_the_trades_are_those_of_the_file_that_is_there_now(tmp_path, monkeypatch):
    """A parquet file that is replaced by one of as many rows."""
    monkeypatch.setattr(trace_store, "_FRESH_S", 0.0)
    folder, table = tmp_path / "runs" / "one", make_table()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    store = TraceStore(tmp_path / "runs", tmp_path / "cache")
    for seed in (1, 2):
        torch.manual_seed(seed)
        with TraceWriter(folder / NAME, table, CFG, run_id="one", split="train") as trace:
            trace.write(MarketEnv(table, CFG, seed=seed).rollout(150, break_when_any_done=False))
        path = pack_trace(folder / NAME)
        rows = read_trace(path)
        store.index("one", path.name)
        store.wait("one", path.name, 20)
        index, _ = store.index("one", path.name)
        entered = rows[(rows["lane"] == 0) & (rows["entry_units"].fillna(0) != 0)]
        found = store.queries.trades(index, ALL, CFG)
        assert found["entry_price"].iloc[0] == entered["entry_fill_price"].iloc[0]


def test_pages_that_ask_for_the_same_trades_ask_once_and_spill_into_the_cache(
    trace_run, tmp_path, monkeypatch
):
    index = index_trace(trace_run[0] / NAME, tmp_path / "cache" / "one")
    queries, asked = TraceQueries(tmp_path / "cache"), []
    ask = queries._ask

    def counted(*each, **words):
        asked.append(each)
        return ask(*each, **words)

    monkeypatch.setattr(queries, "_ask", counted)
    pages = [threading.Thread(target=queries.trades, args=(index, ALL, CFG)) for _ in range(4)]
    for page in pages:
        page.start()
    for page in pages:
        page.join(20)
    assert len(asked) == 1
    ((spilled,),) = queries._base.execute("SELECT current_setting('temp_directory')").fetchall()
    assert Path(spilled).parent == tmp_path / "cache"
