"""What the index of a trace answers is what all its rows say."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.ledger import HEADS
from envs.trace_schema import SCHEMA
from pipelines.judging.metrics import completed_trades

pytest.importorskip("duckdb")
from asked_trace import CFG, MANY, parts, rows_of
from pipelines.run_insights.trace_queries import METRICS, Part
from pipelines.run_insights.trace_trades import (
    ORDERS,
    by_reason,
    largest,
    neighbours,
    open_within,
    page_of,
)


@MANY
@given(part=parts(lane=False), metric=st.sampled_from(sorted(METRICS)), buckets=st.integers(1, 90))
def test_a_series_has_few_points_and_the_extremes_of_all_rows(asked_trace, part, metric, buckets):
    queries, index, rows = asked_trace
    found = queries.series(index, part, metric, buckets)
    own = rows_of(rows, part)
    assert len(found) <= buckets
    assert found["rows"].sum() == len(own)
    place = (own["env_frame"] - part.first) * buckets // (part.last - part.first + 1)
    each = own.groupby(place)
    assert found["frame"].tolist() == each["env_frame"].min().tolist()
    for column, name in (("low", "min"), ("high", "max"), ("mean", "mean")):
        wanted = each[metric].agg(name).to_numpy(float)
        np.testing.assert_allclose(found[column].to_numpy(float), wanted, rtol=1e-12)


@MANY
@given(part=parts(), every=st.integers(1, 60))
def test_candles_are_the_bars_of_one_lane_merged_within_its_episodes(asked_trace, part, every):
    queries, index, rows = asked_trace
    found = queries.candles(index, part, every)
    own = rows_of(rows, part)
    each = own.groupby(["episode", own["step"] // every])
    wanted = each.agg(
        {"env_frame": "min", "timestamp": "min", "open": "first", "high": "max", "low": "min",
         "close": "last", "equity": "last", "position": "last"}
    ).sort_values("env_frame")  # fmt: skip
    assert found["frame"].tolist() == wanted["env_frame"].tolist()
    assert found["timestamp"].tolist() == wanted["timestamp"].dt.tz_localize(None).tolist()
    for name in ("open", "high", "low", "close", "equity", "position"):
        assert found[name].tolist() == wanted[name].tolist()
    stops = [group["stop_price"].iloc[-1] for _, group in each]
    np.testing.assert_array_equal(found["stop_price"].to_numpy(float), stops)


def replayed(rows, part):
    """The trades of a part as the replay finds them, with their frames."""
    lane = rows_of(rows, dataclasses.replace(part, first=0, last=899))
    own = completed_trades(lane.assign(tile=lane["episode"]), CFG)
    frames = lane["env_frame"].to_numpy()
    own["entry_frame"], own["exit_frame"] = frames[own["entry_row"]], frames[own["exit_row"]]
    return own[(own["exit_frame"] >= part.first) & (own["entry_frame"] <= part.last)]


SAME = (
    "entry_frame",
    "exit_frame",
    "units",
    "entry_price",
    "exit_price",
    "exit_reason",
    "bars_held",
)


@MANY
@given(part=parts())
def test_trades_are_those_that_the_replay_finds(asked_trace, part):
    queries, index, rows = asked_trace
    found = open_within(queries.trades(index, part, CFG), part)
    own = replayed(rows, part)
    for name in SAME:
        assert found[name].tolist() == own[name].tolist()
    assert found["profit"].tolist() == pytest.approx(own["profit"].tolist(), rel=1e-9, abs=1e-6)


@MANY
@given(part=parts(), order=st.sampled_from(sorted(ORDERS)), rows=st.integers(1, 9))
def test_the_pages_of_a_table_hold_every_trade_once_in_order(asked_trace, part, order, rows):
    queries, index, _ = asked_trace
    trades = queries.trades(index, part, CFG)
    pages = [page_of(trades, order, page, rows) for page in range(len(trades) // rows + 1)]
    joined = pd.concat(pages)
    assert sorted(joined["entry_frame"]) == trades["entry_frame"].tolist()
    column, rising = ORDERS[order]
    wanted = trades[column].sort_values(ascending=rising).tolist()
    assert joined[column].tolist() == wanted


def test_the_trades_of_a_trace_are_many_and_their_reasons_add_up(asked_trace):
    queries, index, _ = asked_trace
    trades = queries.trades(index, Part(0, 899, 2), CFG)
    reasons = by_reason(trades)
    assert len(trades) > 20
    assert reasons["trades"].sum() == len(trades)
    assert len(reasons) > 2
    assert reasons["profit"].sum() == pytest.approx(trades["profit"].sum())
    for order, column, first in (
        ("best", "profit", max), ("worst", "profit", min), ("time", "entry_frame", min),
    ):  # fmt: skip
        (value,) = page_of(trades, order, 0, 1)[column]
        assert value == first(trades[column])
    wanted = trades.loc[trades["profit"].abs().nlargest(5).index].sort_index()
    assert largest(trades, 5)["entry_frame"].tolist() == wanted["entry_frame"].tolist()
    entry = trades["entry_frame"].tolist()
    before, after = neighbours(trades, entry[7])
    assert (before["entry_frame"], after["entry_frame"]) == (entry[6], entry[8])
    assert neighbours(trades, entry[-1])[1] is None
    assert neighbours(trades, entry[0])[0] is None
    assert neighbours(trades, 10**9)[0]["entry_frame"] == entry[-1]


def test_a_connection_reads_the_cache_and_nothing_else(asked_trace, tmp_path):
    queries, index, _ = asked_trace
    outside = tmp_path / "outside.parquet"
    shutil.copy(index.files[0], outside)
    strange = dataclasses.replace(index, folder=str(tmp_path), pieces=1)
    shutil.copy(index.files[0], tmp_path / "piece-000000.parquet")
    with pytest.raises(Exception, match=r"(?i)permission|not allowed|disabled"):
        queries.series(strange, Part(0, 899), "equity")
    with pytest.raises(ValueError, match="metric"):
        queries.series(index, Part(0, 899), "equity) FROM read_text('/etc/passwd') --")


def test_every_metric_is_a_column_of_a_trace():
    assert set(METRICS) <= set(SCHEMA.names)
    assert not set(HEADS) & set(METRICS)
