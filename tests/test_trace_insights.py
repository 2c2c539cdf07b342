"""A trace, indexed and asked: the answers are those of all its rows, in few points."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.config import EnvConfig
from envs.ledger import HEADS
from envs.market import MarketEnv
from envs.table import BarTable
from envs.trace import TraceWriter, pack_trace, read_trace
from envs.trace_rows import SCHEMA
from pipelines.held_out.metrics import completed_trades

pytest.importorskip("duckdb")

from pipelines.run_insights import trace_index
from pipelines.run_insights.trace_answer import answer
from pipelines.run_insights.trace_figures import MAX_POINTS, candle_figure
from pipelines.run_insights.trace_index import cache_folder, index_trace
from pipelines.run_insights.trace_queries import METRICS, IndexGoneError, Part, TraceQueries
from pipelines.run_insights.trace_store import TraceStore
from pipelines.run_insights.trace_trades import (
    ORDERS,
    by_reason,
    largest,
    neighbours,
    open_within,
    page_of,
)
from pipelines.run_insights.trace_view import TraceView

CFG = EnvConfig(paths=2, accounts=3, workers=0, window=8, episode_bars=40, funding_bps_per_day=90.0)
MANY = settings(max_examples=25, deadline=None,
                suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip


def count_points(figure):
    """Points of all its lines, candles and marks."""
    return sum(len(trace["x"]) for trace in figure["data"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with a trace of 6 lanes that act at random, 150 steps each, and its rows."""
    rng = np.random.default_rng(5)
    close = 20_000 * np.exp(np.cumsum(rng.normal(0, 0.004, 600)))
    opens = np.r_[20_000.0, close[:-1]]
    bars = np.stack([opens, np.maximum(opens, close) * 1.002, np.minimum(opens, close) * 0.998,
                     close, rng.exponential(3.0, 600)], 1)  # fmt: skip
    table = BarTable.from_arrays(bars, interval_s=900.0, start="2025-01-01", asset="BTC/USD")
    folder = tmp_path_factory.mktemp("traces") / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    torch.manual_seed(2)
    env = MarketEnv(table, CFG, seed=1)
    path = folder / "train_actions.csv"
    with TraceWriter(path, table, CFG, run_id="one", split="train") as trace:
        for _ in range(3):
            trace.write(env.rollout(50, break_when_any_done=False))
    return folder, read_trace(path)


@pytest.fixture(scope="module")
def asked(run, tmp_path_factory):
    """Questions to the trace, indexed in pieces of some lines."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_index, "PIECE_BYTES", 70_000)
        index = index_trace(run[0] / "train_actions.csv", cache / "one")
    assert index.pieces > 3
    return TraceQueries(cache), index, run[1]


def rows_of(rows, part):
    """The rows of a part, as pandas finds them."""
    kept = rows["env_frame"].between(part.first, part.last)
    if part.lane is not None:
        kept &= rows["lane"] == part.lane
    if part.episode is not None:
        kept &= rows["episode"] == part.episode
    return rows[kept].sort_values("env_frame", ignore_index=True)


@st.composite
def parts(draw, lane=True):
    """Parts of a trace of 900 frames, some of them empty."""
    first, last = sorted(draw(st.lists(st.integers(0, 899), min_size=2, max_size=2)))
    lane = draw(st.integers(0, 5) if lane else st.none() | st.integers(0, 5))
    return Part(first, last, lane, draw(st.none() | st.integers(0, 4)))


@MANY
@given(part=parts(lane=False), metric=st.sampled_from(sorted(METRICS)), buckets=st.integers(1, 90))
def test_a_series_has_few_points_and_the_extremes_of_all_rows(asked, part, metric, buckets):
    queries, index, rows = asked
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
def test_candles_are_the_bars_of_one_lane_merged_within_its_episodes(asked, part, every):
    queries, index, rows = asked
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
def test_trades_are_those_that_the_replay_finds(asked, part):
    queries, index, rows = asked
    found = open_within(queries.trades(index, part, CFG), part)
    own = replayed(rows, part)
    for name in SAME:
        assert found[name].tolist() == own[name].tolist()
    assert found["profit"].tolist() == pytest.approx(own["profit"].tolist(), rel=1e-9, abs=1e-6)


@MANY
@given(part=parts(), order=st.sampled_from(sorted(ORDERS)), rows=st.integers(1, 9))
def test_the_pages_of_a_table_hold_every_trade_once_in_order(asked, part, order, rows):
    queries, index, _ = asked
    trades = queries.trades(index, part, CFG)
    pages = [page_of(trades, order, page, rows) for page in range(len(trades) // rows + 1)]
    joined = pd.concat(pages)
    assert sorted(joined["entry_frame"]) == trades["entry_frame"].tolist()
    column, rising = ORDERS[order]
    wanted = trades[column].sort_values(ascending=rising).tolist()
    assert joined[column].tolist() == wanted


def test_the_trades_of_a_trace_are_many_and_their_reasons_add_up(asked):
    queries, index, _ = asked
    trades = queries.trades(index, Part(0, 899, 2), CFG)
    reasons = by_reason(trades)
    assert len(trades) > 20
    assert reasons["trades"].sum() == len(trades)
    assert len(reasons) > 2
    assert reasons["profit"].sum() == pytest.approx(trades["profit"].sum())
    wanted = trades.loc[trades["profit"].abs().nlargest(5).index].sort_index()
    assert largest(trades, 5)["entry_frame"].tolist() == wanted["entry_frame"].tolist()
    entry = trades["entry_frame"].tolist()
    before, after = neighbours(trades, entry[7])
    assert (before["entry_frame"], after["entry_frame"]) == (entry[6], entry[8])
    assert neighbours(trades, entry[-1])[1] is None
    assert neighbours(trades, entry[0])[0] is None
    assert neighbours(trades, 10**9)[0]["entry_frame"] == entry[-1]


def whole_series(index, cache):
    """What an index answers, to be compared with another one."""
    queries = TraceQueries(cache)
    part = Part(index.first_frame, index.last_frame)
    trades = queries.trades(index, dataclasses.replace(part, lane=1), CFG)
    return pd.concat([queries.series(index, part, "equity", 300), trades], axis=1)


def test_a_trace_that_grows_is_read_on_and_a_torn_line_waits(run, tmp_path, monkeypatch):
    text = (run[0] / "train_actions.csv").read_bytes()
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


def test_a_trace_that_was_cut_off_and_written_anew_is_read_anew(run, tmp_path):
    text = (run[0] / "train_actions.csv").read_bytes()
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


def test_a_parquet_trace_gives_the_same_answers(run, tmp_path):
    copy = tmp_path / "train_actions.csv"
    shutil.copy(run[0] / "train_actions.csv", copy)
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
def test_a_file_that_is_no_trace_is_refused_by_name(run, tmp_path, damage, words):
    path = tmp_path / "train_actions.csv"
    path.write_bytes(damage((run[0] / "train_actions.csv").read_bytes()))
    with pytest.raises(ValueError, match=words) as refusal:
        index_trace(path, tmp_path / "cache")
    assert str(path) in str(refusal.value)


def test_a_connection_reads_the_cache_and_nothing_else(asked, tmp_path):
    queries, index, _ = asked
    outside = tmp_path / "outside.parquet"
    shutil.copy(index.files[0], outside)
    strange = dataclasses.replace(index, folder=str(tmp_path), pieces=1)
    shutil.copy(index.files[0], tmp_path / "piece-000000.parquet")
    with pytest.raises(Exception, match=r"(?i)permission|not allowed|disabled"):
        queries.series(strange, Part(0, 899), "equity")
    with pytest.raises(ValueError, match="metric"):
        queries.series(index, Part(0, 899), "equity) FROM read_text('/etc/passwd') --")


def long_rows(rows, times):
    """The trace again and again, as one lane of one endless episode."""
    lane = rows[rows["lane"] == 2].reset_index(drop=True)
    long = pd.concat([lane] * times, ignore_index=True)
    numbers = np.arange(len(long))
    return long.assign(env_frame=numbers, step=numbers, episode=0)


def test_a_page_has_few_points_however_many_rows_there_are(run, tmp_path):
    long = long_rows(run[1], 400)
    path = tmp_path / "train_actions.parquet"
    table = pa.Table.from_pandas(long, preserve_index=False)
    for name in ("open_exit_reason", "exit_reason"):
        long[name] = long[name].replace("", None)
    table = pa.Table.from_pandas(long, preserve_index=False).select(SCHEMA.names).cast(SCHEMA)
    pa.parquet.write_table(table, path)
    shutil.copy(run[0] / "train_actions.json", tmp_path)
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


def test_a_link_of_a_trade_leads_to_its_bar(asked, run):
    queries, index, rows = asked
    path = run[0] / "train_actions.csv"
    found = answer(queries, index, TraceView(lane=4), path)
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


def test_the_range_of_a_chosen_episode_is_its_own(asked, run):
    queries, index, rows = asked
    found = answer(queries, index, TraceView(lane=1, episode=1), run[0] / "train_actions.csv")
    own = rows_of(rows, Part(0, 899, 1, 1))["env_frame"]
    assert (found.part.first, found.part.last) == (own.min(), own.max())
    assert count_points(found.metric) == len(own)
    with pytest.raises(ValueError, match="episode=99"):
        answer(queries, index, TraceView(episode=99), run[0] / "train_actions.csv")


@pytest.fixture(scope="module")
def joint(run, tmp_path_factory):
    """Questions to a trace whose odd episodes are of another market, ten times as dear."""
    path = tmp_path_factory.mktemp("joint") / "train_actions.csv"
    rows = pd.read_csv(run[0] / "train_actions.csv", dtype=str, keep_default_na=False)
    odd = rows["episode"].astype(int) % 2 == 1
    rows.loc[odd, "asset"] = "DEAR/USD"
    for name in rows.columns[rows.columns.str.endswith("price")].union(
        ["open", "high", "low", "close"]
    ):
        rows.loc[odd, name] = rows.loc[odd, name].map(lambda text: text and repr(10 * float(text)))
    rows.to_csv(path, index=False, lineterminator="\n")
    shutil.copy(run[0] / "train_actions.json", path.parent)
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


def segments(trace):
    """The frames of each unbroken piece of a line."""
    pieces = [[]]
    for x, y in zip(trace["x"], trace["y"], strict=True):
        if y is None:
            pieces.append([])
        else:
            pieces[-1].append(x)
    return [piece for piece in pieces if piece]


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


def test_a_trade_that_was_not_entered_there_is_said(asked, run):
    queries, index, _ = asked
    path = run[0] / "train_actions.csv"
    (entered, *_) = queries.trades(index, Part(0, 899, 0), CFG)["entry_frame"]
    for frame, words in ((int(entered), False), (int(entered) + 1, True)):
        notes = answer(queries, index, TraceView(trade=frame), path).notes
        assert (f"No trade was entered in frame {frame:,}." in notes) == words


def test_a_view_without_the_parameters_says_that_fees_are_missing(asked, run, tmp_path):
    queries, index, _ = asked
    found = answer(queries, index, TraceView(lane=4), tmp_path / "train_actions.csv")
    assert "before fees" in " ".join(found.notes)


def test_a_view_of_a_run_that_was_changed_says_whose_fees_it_reckons_with(asked, run, tmp_path):
    queries, index, _ = asked
    beside = json.loads((run[0] / "train_actions.json").read_text()) | {"changed": [7]}
    (tmp_path / "train_actions.json").write_text(json.dumps(beside))
    found = answer(queries, index, TraceView(lane=4), tmp_path / "train_actions.csv")
    assert "profits are reckoned with the fees of its last rows" in " ".join(found.notes)


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
     ({"lane": -1, "episode": 2}, "episode=2"), ({"page": 99}, "page=99.*0 to")],
)  # fmt: skip
def test_a_view_that_does_not_fit_the_trace_is_refused(asked, run, view, words):
    queries, index, _ = asked
    with pytest.raises(ValueError, match=words):
        answer(queries, index, TraceView(**view), run[0] / "train_actions.csv")


@MANY
@given(part=parts(), by=st.floats(-3, 3), zoom=st.floats(0.01, 8))
def test_a_move_stays_within_the_trace(asked, part, by, zoom):
    _, index, _ = asked
    view = TraceView(lane=part.lane, first=part.first, last=part.last)
    moved = view.moved(index, part, by=by, zoom=zoom)
    assert 0 <= moved.first < moved.last <= 899


@pytest.mark.parametrize(
    "name", ["../outside", "..", "/etc", "one/../../outside", "linked", "one/", "", "one\0"]
)
def test_no_name_of_a_run_leads_outside(run, tmp_path, name):
    root = tmp_path / "runs"
    shutil.copytree(run[0].parent, root)
    shutil.copytree(run[0], tmp_path / "outside")
    (root / "linked").symlink_to(tmp_path / "outside")
    store = TraceStore(root, tmp_path / "cache")
    assert list(store.traces("one")) == ["train_actions.csv"]
    with pytest.raises(ValueError, match="there is no run"):
        store.traces(name)


@pytest.mark.parametrize(
    "name", ["../two/train_actions.csv", "config.json", "linked_actions.csv", "/etc/passwd", ""]
)
def test_no_name_of_a_trace_leads_outside(run, tmp_path, name):
    root = tmp_path / "runs"
    shutil.copytree(run[0], root / "one")
    shutil.copytree(run[0], root / "two")
    (root / "one" / "linked_actions.csv").symlink_to(root / "two" / "train_actions.csv")
    store = TraceStore(root, tmp_path / "cache")
    with pytest.raises(ValueError, match="has no trace"):
        store.index("one", name)


def test_the_traces_of_every_market_are_listed_and_links_are_not(run, tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(run[0], root / "one")
    places = ("replay_BTC-USDT", "replay_ETH-USDT", "evaluation", "evaluation_ETH-USDT")
    for place in (*places, "evaluations"):
        (root / "one" / place).mkdir()
        shutil.copy(run[0] / "train_actions.csv", root / "one" / place / "replay_actions.csv")
    (root / "one" / "replay_linked").symlink_to(root / "one" / "replay_BTC-USDT")
    found = list(TraceStore(root, tmp_path / "cache").traces("one"))
    names = [f"{place}/replay_actions.csv" for place in places]
    assert found == [*names[:2], "train_actions.csv", *names[2:]]


def test_the_store_reads_a_trace_once_and_says_what_is_damaged(run, tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(run[0], root / "one")
    (root / "one" / "replay_actions.csv").write_text("no trace\n")
    store = TraceStore(root, tmp_path / "cache")
    known, share = store.index("one", "train_actions.csv")
    assert known is None
    assert share < 1
    store.wait("one", "train_actions.csv", 20)
    known, share = store.index("one", "train_actions.csv")
    assert (known.rows, share) == (900, 1.0)
    assert known.folder == str(cache_folder(tmp_path / "cache", "one", "train_actions.csv"))
    store.index("one", "replay_actions.csv")
    store.wait("one", "replay_actions.csv", 20)
    with pytest.raises(ValueError, match="its first line") as refusal:
        store.index("one", "replay_actions.csv")
    assert str(tmp_path) not in str(refusal.value)


def test_a_cache_that_is_removed_is_made_again_and_two_servers_may_share_it(run, tmp_path):
    root, cache = tmp_path / "runs", tmp_path / "cache"
    shutil.copytree(run[0], root / "one")
    stores = [TraceStore(root, cache), TraceStore(root, cache)]

    def ask():
        for store in stores:
            store.index("one", "train_actions.csv")
        for store in stores:
            store.wait("one", "train_actions.csv", 20)
            index, _ = store.index("one", "train_actions.csv")
            assert store.queries.series(index, Part(0, 899), "equity")["rows"].sum() == 900

    ask()
    old, _ = stores[0].index("one", "train_actions.csv")
    shutil.rmtree(cache)
    with pytest.raises(IndexGoneError):
        stores[0].queries.series(old, Part(0, 899), "equity")
    ask()


def test_every_metric_is_a_column_of_a_trace():
    assert set(METRICS) <= set(SCHEMA.names)
    assert not set(HEADS) & set(METRICS)
