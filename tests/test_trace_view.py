"""A view of a trace: its address, what fits the trace, and moves within it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("duckdb")
from asked_trace import MANY, parts, rows_of
from pipelines.run_insights.trace_answer import answer
from pipelines.run_insights.trace_queries import METRICS
from pipelines.run_insights.trace_view import TraceView


def test_a_link_of_a_trade_leads_to_its_bar(asked_trace, trace_run):
    queries, index, rows = asked_trace
    path = trace_run[0] / "train_actions.csv"
    found = answer(queries, index, TraceView(lane=4), path)
    assert len(found.trades) == 25  # a page of them
    for _, trade in found.trades.iterrows():
        view = TraceView.read(trade["link"])
        there = answer(queries, index, view, path)
        bars = rows_of(rows, there.part)["env_frame"]
        assert {trade["entry_frame"], trade["exit_frame"]} <= set(bars)
        marks = {(x, y) for trace in there.candles["data"] if trace.get("mode") == "markers"
                 for x, y in zip(trace["x"], trace["y"], strict=True)}  # fmt: skip
        assert (trade["entry_frame"], trade["entry_price"]) in marks
        assert (trade["exit_frame"], trade["exit_price"]) in marks
        assert there.candles["layout"]["shapes"][0]["x0"] == trade["entry_frame"]


@given(
    view=st.builds(
        TraceView, run=st.text(max_size=9), trace=st.text(max_size=9),
        metric=st.sampled_from(sorted(METRICS)), market=st.text(max_size=9),
        lane=st.none() | st.integers(-1, 9),
        episode=st.none() | st.integers(0, 10**9), first=st.none() | st.integers(0, 10**12),
        last=st.none() | st.integers(0, 10**12), order=st.sampled_from(["time", "best"]),
        page=st.integers(0, 99), trade=st.none() | st.integers(0, 10**12),
    )
)  # fmt: skip
def test_an_address_leads_back_to_its_view(view):
    assert TraceView.read(view.search) == view


@pytest.mark.parametrize(
    "search",
    ["?metric=volume", "?lane=-2", "?first=1e3", "?page=-1", "?order=random", "?last=x",
     "?episode=" + "9" * 40, "?lane=٣"],
)  # fmt: skip
def test_an_address_that_makes_no_sense_is_refused(search):
    with pytest.raises(ValueError, match=search[1:].split("=")[0]):
        TraceView.read(search)


@pytest.mark.parametrize(
    ("view", "words"),
    [({"lane": 6}, "lane=6"), ({"first": 2_000}, "frames from 0 to 899"),
     ({"first": 50, "last": 20}, "frames from 0 to 899"),
     ({"lane": -1, "episode": 2}, "episode=2"), ({"market": "XRP"}, "market='XRP'"),
     ({"page": 99}, "page=99.*0 to")],
)  # fmt: skip
def test_a_view_that_does_not_fit_the_trace_is_refused(asked_trace, trace_run, view, words):
    queries, index, _ = asked_trace
    with pytest.raises(ValueError, match=words):
        answer(queries, index, TraceView(**view), trace_run[0] / "train_actions.csv")


def test_another_place_keeps_nothing_that_belongs_to_the_one_before():
    view = TraceView("r", "t", "cash", "A", 2, episode=3, first=10, last=90, page=4, trade=12)
    assert view.changed(metric="equity") == TraceView(
        "r", "t", "equity", "A", 2, episode=3, first=10, last=90, page=4, trade=12
    )
    assert view.changed(first=20) == TraceView("r", "t", "cash", "A", 2, 3, first=20, last=90)
    assert view.changed(episode=4) == TraceView("r", "t", "cash", "A", 2, episode=4)
    assert view.changed(lane=5) == TraceView("r", "t", "cash", "A", lane=5)
    assert view.changed(market="B") == TraceView("r", "t", "cash", "B", lane=2)
    assert view.changed(trace="u") == TraceView("r", "u", "cash")


@MANY
@given(part=parts(), by=st.floats(-3, 3), zoom=st.floats(0.01, 8))
def test_a_move_stays_within_the_trace(asked_trace, part, by, zoom):
    _, index, _ = asked_trace
    view = TraceView(lane=part.lane, first=part.first, last=part.last)
    moved = view.moved(index, part, by=by, zoom=zoom)
    assert 0 <= moved.first < moved.last <= 899


@MANY
@given(part=parts(), by=st.floats(-3, 3))
def test_a_range_stays_as_long_as_it_was_drawn_when_it_is_moved(asked_trace, part, by):
    """At least a row of every lane."""
    _, index, _ = asked_trace
    moved = TraceView(lane=part.lane, first=part.first, last=part.last).moved(index, part, by=by)
    assert moved.last - moved.first == max(part.last - part.first, len(index.lanes))
    nearer = TraceView().moved(index, part, zoom=0.5)
    assert nearer.last - nearer.first <= max(part.last - part.first, len(index.lanes))
