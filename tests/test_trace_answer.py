"""What the page of a trace draws: few points, of all rows, and what it says beside them."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from envs.trace_schema import SCHEMA

pytest.importorskip("duckdb")
from asked_trace import CFG, count_points, rows_of, segments
from pipelines.price_decimals import IN_FULL
from pipelines.run_insights.trace_answer import answer
from pipelines.run_insights.trace_figures import MAX_POINTS, candle_figure
from pipelines.run_insights.trace_index import index_trace
from pipelines.run_insights.trace_queries import Part, TraceQueries
from pipelines.run_insights.trace_view import TraceView


def long_rows(rows, times):
    """The trace again and again, as one lane of one endless episode."""
    lane = rows[rows["lane"] == 2].reset_index(drop=True)
    long = pd.concat([lane] * times, ignore_index=True)
    numbers = np.arange(len(long))
    return long.assign(env_frame=numbers, step=numbers, episode=0)


def test_a_page_has_few_points_however_many_rows_there_are(trace_run, tmp_path):
    long = long_rows(trace_run[1], 400)
    path = tmp_path / "train_actions.parquet"
    table = pa.Table.from_pandas(long, preserve_index=False)
    for name in ("open_exit_reason", "exit_reason"):
        long[name] = long[name].replace("", None)
    table = pa.Table.from_pandas(long, preserve_index=False).select(SCHEMA.names).cast(SCHEMA)
    pa.parquet.write_table(table, path)
    shutil.copy(trace_run[0] / "train_actions.json", tmp_path)
    index = index_trace(path, tmp_path / "cache" / "one")
    queries = TraceQueries(tmp_path / "cache")
    assert index.rows == 60_000
    for view in (TraceView(), TraceView(lane=-1), TraceView(first=100, last=900)):
        found = answer(queries, index, view, path)
        assert count_points(found.metric) <= MAX_POINTS
        assert found.candles is None or count_points(found.candles) <= MAX_POINTS
    whole = answer(queries, index, TraceView(), path)
    lows, highs = whole.metric["data"][0]["y"], whole.metric["data"][1]["y"]
    assert (min(lows), max(highs)) == (long["equity"].min(), long["equity"].max())
    bars = whole.candles["data"][0]
    assert (min(bars["low"]), max(bars["high"])) == (long["low"].min(), long["high"].max())
    assert len(whole.trades) == 25
    every = round(60_000 / len(bars["x"]))
    assert any(f"A candle is {every} bars" in note for note in whole.notes)


def test_the_range_of_a_chosen_episode_is_its_own(asked_trace, trace_run):
    queries, index, rows = asked_trace
    found = answer(queries, index, TraceView(lane=1, episode=1), trace_run[0] / "train_actions.csv")
    own = rows_of(rows, Part(0, 899, 1, 1))["env_frame"]
    assert (found.part.first, found.part.last) == (own.min(), own.max())
    assert count_points(found.metric) == len(own)
    with pytest.raises(ValueError, match="episode=99"):
        answer(queries, index, TraceView(episode=99), trace_run[0] / "train_actions.csv")


def test_of_the_first_episodes_of_a_range_all_bars_are_drawn(asked_trace, trace_run, monkeypatch):
    queries, index, rows = asked_trace
    path = trace_run[0] / "train_actions.csv"
    assert answer(queries, index, TraceView(lane=2), path).notes == []
    every = TraceQueries.episodes
    monkeypatch.setattr(TraceQueries, "episodes", lambda *given: every(*given).head(3))
    found = answer(queries, index, TraceView(lane=2), path)
    own = rows_of(rows, Part(0, 899, 2))
    numbers = sorted(own["episode"].unique())
    first = own[own["episode"].isin(numbers[:3])]
    assert set(found.candles["data"][0]["x"]) == set(first["env_frame"])
    assert any(f"the first 3 of {len(numbers)} episodes" in note for note in found.notes)


def test_the_stop_of_one_episode_does_not_lead_to_that_of_the_next_on_the_same_side():
    """Long at the end of episode 0, long again after the first bar of episode 1."""
    bar = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "take_profit_price": math.nan}
    held = [(0, 4, 1.0, 8.0), (0, 5, 1.0, 8.0), (1, 6, 2.0, 7.0), (1, 7, 2.0, 7.0)]
    rows = [
        {**bar, "episode": episode, "frame": frame, "position": position, "stop_price": stop,
         "equity": 1e5, "timestamp": pd.Timestamp(60 * frame, unit="s")}
        for episode, frame, position, stop in held
    ]  # fmt: skip
    columns = [
        "profit",
        "units",
        "entry_frame",
        "entry_price",
        "exit_frame",
        "exit_price",
        "exit_reason",
    ]
    figure = candle_figure(pd.DataFrame(rows), pd.DataFrame(columns=columns), Part(4, 7, 0), None)
    stop = next(trace for trace in figure["data"] if trace["name"] == "stop")
    assert segments(stop) == [[4, 5], [6, 7]]


def test_a_trade_that_was_not_entered_there_is_said(asked_trace, trace_run):
    queries, index, _ = asked_trace
    path = trace_run[0] / "train_actions.csv"
    (entered, *_) = queries.trades(index, Part(0, 899, 0), CFG)["entry_frame"]
    for frame, words in ((int(entered), False), (int(entered) + 1, True)):
        notes = answer(queries, index, TraceView(trade=frame), path).notes
        assert (f"No trade was entered in frame {frame:,}." in notes) == words


def test_a_view_without_the_parameters_says_that_fees_are_missing(asked_trace, trace_run, tmp_path):
    queries, index, _ = asked_trace
    found = answer(queries, index, TraceView(lane=4), tmp_path / "train_actions.csv")
    assert "before fees" in " ".join(found.notes)


def test_a_view_of_a_run_that_was_changed_says_whose_fees_it_reckons_with(
    asked_trace, trace_run, tmp_path
):
    queries, index, _ = asked_trace
    beside = json.loads((trace_run[0] / "train_actions.json").read_text()) | {"changed": [7]}
    (tmp_path / "train_actions.json").write_text(json.dumps(beside))
    found = answer(queries, index, TraceView(lane=4), tmp_path / "train_actions.csv")
    assert "profits are reckoned with the fees of its last rows" in " ".join(found.notes)


def test_the_trades_of_a_coin_of_a_millionth_have_prices_to_their_last_digit(
    asked_trace, trace_run
):
    trace_page = pytest.importorskip("pipelines.run_insights.trace_page", exc_type=ImportError)
    queries, index, _ = asked_trace
    found = answer(queries, index, TraceView(), trace_run[0] / "train_actions.csv")
    cheap = found.trades.assign(entry_price=2.74335e-5, exit_price=2.75e-5)
    parts = trace_page.trades_table(index, TraceView(), dataclasses.replace(found, trades=cheap))
    text = " ".join(str(part) for part in parts)
    assert "0.0000274335" in text
    assert "0.0000275000" in text


def test_a_lane_without_a_trade_does_not_say_that_there_is_none_at_all(asked_trace, trace_run):
    trace_page = pytest.importorskip("pipelines.run_insights.trace_page", exc_type=ImportError)
    queries, index, _ = asked_trace
    found = answer(queries, index, TraceView(), trace_run[0] / "train_actions.csv")
    idle = dataclasses.replace(found, trades=found.trades[:0])
    told = f"This lane has no trade here. There are {len(index.lanes)} lanes."
    assert told in str(trace_page.trades_table(index, TraceView(), idle))


def test_the_closes_of_a_cheap_coin_are_not_in_millionths(asked_trace, trace_run):
    queries, index, _ = asked_trace
    path = trace_run[0] / "train_actions.csv"
    axes = {
        name: answer(queries, index, TraceView(metric=name), path).metric["layout"]["yaxis"]
        for name in ("close", "equity")
    }
    assert axes["close"]["tickformat"] == IN_FULL
    assert "tickformat" not in axes["equity"]
