"""The index of a trace: read on as the trace grows, read anew when it is another, or refused."""

import dataclasses
import shutil

import pandas as pd
import pytest

from envs.trace_reader import pack_trace

pytest.importorskip("duckdb")
from asked_trace import CFG
from pipelines.run_insights.trace_index import index_trace
from pipelines.run_insights.trace_queries import Part, TraceQueries


def whole_series(index, cache):
    """What an index answers, to be compared with another one."""
    queries = TraceQueries(cache)
    part = Part(index.first_frame, index.last_frame)
    trades = queries.trades(index, dataclasses.replace(part, lane=1), CFG)
    return pd.concat([queries.series(index, part, "equity", 300), trades], axis=1)


def test_a_trace_that_grows_is_read_on_and_a_torn_line_waits(trace_run, tmp_path, monkeypatch):
    text = (trace_run[0] / "train_actions.csv").read_bytes()
    lines = text.splitlines(keepends=True)
    path, cache = tmp_path / "train_actions.csv", tmp_path / "cache"
    path.write_bytes(b"".join(lines[:301]) + lines[301][:40])
    part = index_trace(path, cache / "one")
    assert part.rows == 300
    pieces = [piece.stat().st_mtime_ns for piece in (cache / "one").glob("piece*")]
    path.write_bytes(text)
    grown = index_trace(path, cache / "one")
    assert (grown.rows, grown.pieces) == (900, 2)
    first = cache / "one" / "piece-000000.parquet"
    assert [first.stat().st_mtime_ns] == pieces
    afresh = index_trace(path, cache / "two")
    pd.testing.assert_frame_equal(whole_series(grown, cache), whole_series(afresh, cache))


def test_a_trace_that_was_cut_off_and_written_anew_is_read_anew(trace_run, tmp_path):
    text = (trace_run[0] / "train_actions.csv").read_bytes()
    lines = text.splitlines(keepends=True)
    path, cache = tmp_path / "train_actions.csv", tmp_path / "cache"
    path.write_bytes(text)
    index_trace(path, cache / "one")
    path.write_bytes(b"".join(lines[:200]))
    assert index_trace(path, cache / "one").rows == 199
    # As long as before, and other rows.
    path.write_bytes(b"".join([*lines[:1], *lines[300:499]]))
    index = index_trace(path, cache / "one")
    assert (index.rows, index.first_frame) == (199, 299)


def test_a_parquet_trace_gives_the_same_answers(trace_run, tmp_path):
    copy = tmp_path / "train_actions.csv"
    shutil.copy(trace_run[0] / "train_actions.csv", copy)
    cache = tmp_path / "cache"
    wanted = whole_series(index_trace(copy, cache / "csv"), cache)
    packed = pack_trace(copy)
    index = index_trace(packed, cache / "parquet")
    pd.testing.assert_frame_equal(whole_series(index, cache), wanted)
    assert index_trace(packed, cache / "parquet") == index


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: b"a,b\n1,2\n", "its first line is not the columns"),
        (lambda text: text.replace(b"BTC/USD,7,", b"BTC/USD,seven,"), "damaged"),
        (lambda text: text[:3], "its first line is not the columns"),
        (lambda text: text.split(b"\n")[0] + b"\n", "no rows yet"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_by_name(trace_run, tmp_path, damage, words):
    path = tmp_path / "train_actions.csv"
    path.write_bytes(damage((trace_run[0] / "train_actions.csv").read_bytes()))
    with pytest.raises(ValueError, match=words) as refusal:
        index_trace(path, tmp_path / "cache")
    assert str(path) in str(refusal.value)
