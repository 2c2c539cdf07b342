"""The page of a trace of several markets: their prices never meet in one chart."""

import shutil

import pandas as pd
import pytest

from envs.trace_reader import read_trace
from pipelines.judging.metrics import completed_trades

pytest.importorskip("duckdb")
from asked_trace import CFG, count_points, segments
from pipelines.run_insights.trace_answer import answer
from pipelines.run_insights.trace_index import index_trace
from pipelines.run_insights.trace_queries import TraceQueries
from pipelines.run_insights.trace_view import TraceView


@pytest.fixture(scope="module")
def joint(trace_run, tmp_path_factory):
    """Questions to a trace whose odd episodes are of another market, ten times as dear."""
    path = tmp_path_factory.mktemp("joint") / "train_actions.csv"
    rows = pd.read_csv(trace_run[0] / "train_actions.csv", dtype=str, keep_default_na=False)
    odd = rows["episode"].astype(int) % 2 == 1
    rows.loc[odd, "asset"] = "DEAR/USD"
    for name in rows.columns[rows.columns.str.endswith("price")].union(
        ["open", "high", "low", "close"]
    ):
        rows.loc[odd, name] = rows.loc[odd, name].map(lambda text: text and repr(10 * float(text)))
    rows.to_csv(path, index=False, lineterminator="\n")
    shutil.copy(trace_run[0] / "train_actions.json", path.parent)
    index = index_trace(path, path.parent / "cache" / "one")
    return TraceQueries(path.parent / "cache"), index, path


def prices(figure):
    """Every price that a chart of candles draws."""
    bars, *others = figure["data"]
    found = [*bars["low"], *bars["high"]]
    return [price for trace in others for price in trace["y"] if price is not None] + found


def test_candles_are_of_one_market_which_is_named(joint):
    queries, index, path = joint
    assert index.markets == ["BTC/USD", "DEAR/USD"]
    whole = answer(queries, index, TraceView(lane=1), path)
    assert whole.markets == index.markets
    assert whole.candles["layout"]["yaxis"]["title"]["text"] == "price of BTC/USD"
    assert max(prices(whole.candles)) < 100_000
    assert "Bars are of BTC/USD alone" in " ".join(whole.notes)
    trade = whole.trades[whole.trades["market"] == "DEAR/USD"].iloc[0]
    for view in (TraceView(lane=1, episode=1), TraceView.read(trade["link"])):
        dear = answer(queries, index, view, path)
        assert dear.candles["layout"]["yaxis"]["title"]["text"] == "price of DEAR/USD"
        assert min(prices(dear.candles)) > 100_000
    one = answer(queries, index, TraceView(lane=1, episode=1), path)
    assert one.markets == ["DEAR/USD"]
    assert "Bars are of" not in " ".join(one.notes)


@pytest.mark.parametrize("market", ["BTC/USD", "DEAR/USD"])
def test_a_chosen_market_is_all_that_is_seen(joint, market):
    queries, index, path = joint
    rows = read_trace(path)
    own = rows[(rows["asset"] == market) & (rows["lane"] == 1)]
    found = answer(queries, index, TraceView(lane=1, market=market, metric="close"), path)
    assert found.markets == [market]
    drawn = [y for y in found.metric["data"][0]["y"] if y is not None]
    assert drawn == own["close"].tolist()
    assert found.candles["data"][0]["x"] == own["env_frame"].tolist()
    alone = completed_trades(own.assign(tile=own["episode"]), CFG)
    assert set(found.trades["market"]) == {market}
    assert found.reasons["trades"].sum() == len(alone) > 1
    assert "of other markets" not in " ".join(found.notes)
    everywhere = answer(queries, index, TraceView(lane=-1, market=market, metric="close"), path)
    kept = rows.loc[rows["asset"] == market, "close"]
    drawn = [y for trace in everywhere.metric["data"] for y in trace["y"]]
    assert (min(drawn), max(drawn)) == (kept.min(), kept.max())


def test_a_market_that_is_not_there_or_not_of_the_episode_is_refused(joint):
    queries, index, path = joint
    with pytest.raises(ValueError, match=r"market='XRP/USD'.*BTC/USD.*DEAR/USD"):
        answer(queries, index, TraceView(market="XRP/USD"), path)
    with pytest.raises(ValueError, match=r"episode=1.*lane 1 in BTC/USD"):
        answer(queries, index, TraceView(lane=1, market="BTC/USD", episode=1), path)


def test_both_charts_of_a_chosen_market_have_the_range_of_all(joint):
    queries, index, path = joint
    found = answer(queries, index, TraceView(lane=1, market="BTC/USD"), path)
    ranges = [figure["layout"]["xaxis"]["range"] for figure in (found.metric, found.candles)]
    assert ranges == [[0, 899], [0, 899]]


@pytest.mark.parametrize("buckets", [30, 800])
def test_no_line_leads_from_one_episode_to_the_next(joint, buckets, monkeypatch):
    queries, index, path = joint
    series = queries.series
    monkeypatch.setattr(queries, "series", lambda *words: series(*words, buckets))
    rows = read_trace(path)
    own = rows[(rows["lane"] == 1) & (rows["asset"] == "BTC/USD")]
    episode = dict(zip(own["env_frame"], own["episode"], strict=True))
    found = answer(queries, index, TraceView(lane=1, market="BTC/USD"), path)
    mean = found.metric["data"][-1]
    stop = next(trace for trace in found.candles["data"] if trace["name"] == "stop")
    for trace in (mean, stop):
        of = [{episode[x] for x in piece} for piece in segments(trace)]
        assert {len(each) for each in of} == {1}
        assert set.union(*of) == set(own["episode"])
    if len(found.metric["data"]) == 3:
        low, high, _ = found.metric["data"]
        flat = {x for x, a, b in zip(low["x"], low["y"], high["y"], strict=True) if a == b}
        assert flat >= {frames[0] for frames in segments(mean)[1:]}


@pytest.mark.parametrize("lane", [-1, 1])
def test_prices_of_several_markets_are_not_drawn_on_one_axis(joint, lane):
    queries, index, path = joint
    for metric in ("close", "position", "requested_units"):
        found = answer(queries, index, TraceView(lane=lane, metric=metric), path)
        assert count_points(found.metric) == 0
        assert f"No {metric}: it is of several markets here" in " ".join(found.notes)
    assert count_points(answer(queries, index, TraceView(lane=lane), path).metric) > 0
    alone = answer(queries, index, TraceView(lane=1, episode=1, metric="close"), path)
    assert min(alone.metric["data"][0]["y"]) > 100_000
