"""The page of a replay: that it stands alone, and that what it draws is what the trace says."""

import dataclasses
import json

import pandas as pd
import pytest

from browser import contrast
from envs.config import EnvConfig
from html_document import Document
from pipelines.chart_points import bracket_line, merge_bars
from pipelines.held_out.baselines import (
    RandomPolicy,
    always_short_policy,
    buy_and_hold,
    flat_policy,
    middle_account,
)
from pipelines.held_out.figure import MAX_CANDLES, draw_chart
from pipelines.held_out.page import write_page
from pipelines.held_out.result import Replayed, Result, as_text, caveats
from pipelines.held_out.rollout import chain, final_equity, play_tiles, split_tiles
from pipelines.judging.metrics import completed_trades, in_order, measure
from pipelines.price_decimals import IN_FULL, price_decimals
from random_walk import tick_table

CFG = EnvConfig(window=4, episode_bars=30, workers=0)
GAP = pd.Timedelta("3h")


def market(bars=130, seed=0):
    """A random walk with a hole in the middle."""
    table = tick_table(bars, seed=seed, move=0.003, wick=3.0)
    hole = bars // 2
    table.segment[hole:] += 1
    table.timestamp[hole:] += GAP.value
    return table


@pytest.fixture(scope="module")
def replayed():
    """Rows of a random policy and of buy-and-hold, and the result, on a market with a hole."""
    table = market()
    bounds = split_tiles(table, CFG, "test")
    rollout = play_tiles(table, CFG, bounds, RandomPolicy(CFG.num_actions, 0), accounts=3)
    accounts = [in_order(rollout.rows(table, CFG, k)) for k in range(3)]
    hold = in_order(buy_and_hold(table, CFG, bounds))
    middle, interval = middle_account(chain(final_equity(rollout), CFG.initial_cash).numpy())
    metrics = {"policy": measure(accounts[0], CFG), "buy_and_hold": measure(hold, CFG)}
    meta = dataclasses.replace(
        table.meta, asset="BTC/USD", source_name="bars & more.csv", source_sha256="00ff"
    )
    about = Replayed.describe(hold, meta, run="20260101_<b>", split="test", tiles=len(bounds))
    result = Result(about, {**metrics, "random": measure(accounts[middle], CFG)}, interval, 3, [],
                    remarks=["Alike in all <b>bars</b>."])  # fmt: skip
    return accounts[0], hold, result


@pytest.fixture(scope="module")
def page(replayed, tmp_path_factory):
    rows, hold, result = replayed
    path = tmp_path_factory.mktemp("page") / "replay.html"
    write_page(path, result, {"policy": rows}, hold, CFG)
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def document(page):
    return Document(page)


@pytest.fixture(scope="module")
def traces(document):
    figure = json.loads(document.texts["figure"])
    return {trace["name"]: trace for trace in figure["data"]}


def test_the_page_is_well_formed_and_fetches_nothing(document):
    assert not document.open
    for tag, attrs in document.elements:
        for key in ("src", "href", "data", "action"):
            assert not attrs.get(key, "").startswith(("http", "//", "file:")), (tag, attrs)
        assert tag not in ("iframe", "object", "embed", "form")
    policies = [a["content"] for _, a in document.elements if a.get("http-equiv")]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none';")
    assert "http" not in policies[0]


def test_the_embedded_result_is_the_result(document, replayed):
    assert json.loads(document.texts["result"]) == json.loads(json.dumps(replayed[2].to_json()))


def test_texts_are_escaped(page, document):
    assert "20260101_<b>" not in page
    assert "20260101_&lt;b&gt;" in page
    assert "bars &amp; more.csv" in page
    assert ("b", {}) not in document.elements


def test_the_table_sets_the_policy_beside_its_baselines(document, replayed):
    cells = document.texts[None]
    for row in replayed[2].table()[1:]:
        for cell in row:
            assert cell in cells
    for line in (*caveats(replayed[2]), *replayed[2].remarks):
        assert line in cells


def test_candles_are_the_bars_of_the_trace(traces, replayed):
    rows, candles = replayed[0], traces["bars"]
    for column in ("open", "high", "low", "close"):
        assert candles[column] == rows[column].tolist()
    assert pd.to_datetime(candles["x"], utc=True).tolist() == rows["timestamp"].tolist()


def test_every_entry_and_exit_of_the_trace_is_marked(traces, replayed):
    rows = replayed[0]
    for name, entered in (
        ("long entry", rows["entry_units"] > 0),
        ("short entry", rows["entry_units"] < 0),
    ):
        assert traces[name]["y"] == rows.loc[entered, "entry_fill_price"].tolist()
    exits = {}
    for prefix in ("open_exit", "exit"):
        for reason, price in zip(rows[f"{prefix}_reason"], rows[f"{prefix}_price"], strict=True):
            if reason:
                exits.setdefault(f"exit: {reason.replace('_', '-')}", []).append(price)
    drawn = {name: trace["y"] for name, trace in traces.items() if name.startswith("exit")}
    assert {name: sorted(prices) for name, prices in exits.items()} == {
        name: sorted(prices) for name, prices in drawn.items()
    }
    assert len(drawn) >= 4
    assert len({traces[name]["marker"]["color"] for name in drawn}) == len(drawn)


def test_curves_show_chained_equity_and_do_not_cross_a_gap(traces, replayed):
    rows = replayed[0]
    equity = traces["policy"]["y"]
    assert equity.count(None) == 1
    before_the_hole = (rows["timestamp"].diff() > GAP).to_numpy().argmax()
    assert equity.index(None) == before_the_hole
    final = [value for value in equity if value is not None][-1]
    total_return = replayed[2].metrics["policy"].total_return
    assert final == pytest.approx(CFG.initial_cash * (1 + total_return))
    worst = -min(value for value in traces["drawdown"]["y"] if value is not None)
    assert worst == pytest.approx(replayed[2].metrics["policy"].max_drawdown)
    assert traces["position"]["y"][:3] == rows["position"].tolist()[:3]


def test_brackets_run_from_the_entry_to_the_exit_of_a_position():
    table = market()
    bounds = split_tiles(table, CFG, "test")
    rollout = play_tiles(table, CFG, bounds, always_short_policy(CFG))
    rows = in_order(rollout.rows(table, CFG))
    trades = completed_trades(rows, CFG)
    times, prices = bracket_line(rows, trades, "stop_price")
    first = trades.iloc[0]
    assert times[:3] == [
        *(first[key].strftime("%Y-%m-%dT%H:%M:%S") for key in ("entry_time", "exit_time")), None,
    ]  # fmt: skip
    assert prices[:3] == [*[rows["stop_price"].iloc[0]] * 2, None]
    assert bracket_line(rows, trades, "take_profit_price") == ([], [])


def test_a_trailing_stop_is_drawn_as_steps():
    table = market()
    cfg = dataclasses.replace(CFG, trailing=True)
    rollout = play_tiles(table, cfg, split_tiles(table, cfg, "test"), always_short_policy(cfg))
    rows = in_order(rollout.rows(table, cfg))
    _, prices = bracket_line(rows, completed_trades(rows, cfg), "stop_price")
    held = rows.loc[: completed_trades(rows, cfg)["exit_row"].iloc[0] - 1, "stop_price"]
    steps = held[held.diff() != 0].tolist()
    assert len(steps) > 2
    assert prices[: len(steps) + 2] == [*steps, steps[-1], None]


def test_merged_bars_keep_extremes_and_stop_at_a_gap():
    rows = pd.DataFrame(
        {
            "timestamp": pd.date_range("2025-01-01", periods=7, freq="min", tz="UTC"),
            "open": [1.0, 2, 3, 4, 5, 6, 7],
            "high": [5.0, 9, 4, 5, 6, 8, 9],
            "low": [1.0, 2, 0.5, 3, 4, 5, 6],
            "close": [2.0, 3, 4, 5, 6, 7, 8],
            "position": [0.0, 1, 1, 0, 0, 2, 0],
            "chained": [10.0, 11, 12, 13, 14, 15, 16],
            "chained_drawdown": [0.0, 0.3, 0.1, 0.0, 0.0, 0.1, 0.0],
            "stretch": [0, 0, 0, 0, 1, 1, 1],
        }
    )
    merged = merge_bars(rows, 3)
    assert merged["open"].tolist() == [1, 4, 5]
    assert merged["high"].tolist() == [9, 5, 9]
    assert merged["low"].tolist() == [0.5, 3, 4]
    assert merged["close"].tolist() == [4, 5, 8]
    assert merged["position"].tolist() == [1, 0, 0]
    assert merged["equity"].tolist() == [12, 13, 16]
    assert merged["drawdown"].tolist() == [0.3, 0, 0.1]


def test_a_long_replay_stays_light_and_says_so():
    bars = 2 * MAX_CANDLES + 100
    cfg = dataclasses.replace(CFG, episode_bars=1000)
    table = market(bars)
    bounds = split_tiles(table, cfg, "test")
    rollout = play_tiles(table, cfg, bounds, RandomPolicy(cfg.num_actions, 0))
    hold = in_order(buy_and_hold(table, cfg, bounds))
    chart = draw_chart(in_order(rollout.rows(table, cfg)), hold, cfg, interval_s=60.0)
    drawn = chart.figure.data[0]
    assert len(drawn.x) <= MAX_CANDLES
    assert max(drawn.high) == table.ohlcv[4:, 1].max()
    assert "A candle is 3 bars" in chart.notes[0]
    assert "1,500 trades of" in chart.notes[1]
    assert sum(len(t.x) for t in chart.figure.data if "entry" in t.name) == 1500


def test_a_gap_that_dwarfs_the_bars_is_cut_out_of_the_time_axis(replayed):
    rows, hold, _ = replayed
    chart = draw_chart(rows, hold, CFG, interval_s=60.0)
    (cut,) = chart.figure.layout.xaxis.rangebreaks
    start, end = pd.to_datetime(list(cut.bounds), utc=True)
    assert rows["timestamp"].between(start, end).sum() == 0
    assert end - start > pd.Timedelta("2h")
    assert any("1 long gap between bars" in note for note in chart.notes)


@pytest.mark.parametrize(
    "policy", [flat_policy(CFG), always_short_policy(CFG)], ids=["flat", "short"]
)
def test_a_policy_that_never_trades_or_never_closes_by_itself_is_drawn(policy):
    table = market()
    bounds = split_tiles(table, CFG, "test")
    rows = in_order(play_tiles(table, CFG, bounds, policy).rows(table, CFG))
    hold = in_order(buy_and_hold(table, CFG, bounds))
    names = [t.name for t in draw_chart(rows, hold, CFG, interval_s=60.0).figure.data]
    assert ("short entry" in names) == (measure(rows, CFG).trades > 0)
    assert {"bars", "policy", "buy-and-hold", "position", "drawdown"} <= set(names)


def test_prices_of_a_coin_of_a_millionth_are_shown_to_their_last_digit(replayed):
    rows, hold, _ = replayed
    cheap = rows.assign(**{name: rows[name] * 1e-9 for name in ("open", "high", "low", "close")})
    figure = draw_chart(cheap, hold, CFG, interval_s=60.0).figure
    decimals = price_decimals(cheap[["open", "high", "low", "close"]].to_numpy())
    assert decimals >= 10
    assert figure.layout.yaxis.hoverformat == f",.{decimals}f"
    assert figure.layout.yaxis.tickformat == IN_FULL  # neither 27.4µ nor 2.7e-7
    entries = [trace for trace in figure.data if "entry" in trace.name]
    assert entries
    assert all("%{y}<" in trace.hovertemplate for trace in entries)


def test_prices_that_bars_have_in_whole_numbers_are_shown_to_the_hundredth(replayed):
    rows, hold, _ = replayed
    prices = ["open", "high", "low", "close"]
    figure = draw_chart(rows.assign(**rows[prices].round()), hold, CFG, interval_s=60.0).figure
    assert figure.layout.yaxis.hoverformat == ",.2f"  # orders are filled in between


def test_a_ruined_account_is_flat_in_the_bars_that_it_lacks(replayed, tmp_path):
    rows, hold, result = replayed
    policy = dataclasses.replace(result.metrics["policy"], exposure=0.8, bars=len(hold) // 2)
    ruined = dataclasses.replace(result, metrics={**result.metrics, "policy": policy})
    write_page(tmp_path / "ruined.html", ruined, {"policy": rows}, hold, CFG)
    share = f"{80 * policy.bars / len(hold):.2f} %"
    page = (tmp_path / "ruined.html").read_text("utf-8")
    assert f"<dt>Bars with a position</dt><dd>{share}</dd>" in page


def test_the_time_after_a_ruin_is_not_cut_out_as_if_there_were_no_bars(replayed):
    rows, hold, _ = replayed
    ruined = rows.drop(index=rows.index[5:30])
    whole, broken = (draw_chart(each, hold, CFG, interval_s=60.0) for each in (rows, ruined))
    assert broken.figure.layout.xaxis.rangebreaks == whole.figure.layout.xaxis.rangebreaks
    assert broken.notes == whole.notes


def test_equity_of_a_small_account_is_no_zero_where_it_is_pointed_at(replayed):
    rows, hold, _ = replayed
    for cash, shown in ((100_000.0, "%{y:,.0f}"), (0.5, "%{y:,.5f}")):
        small = dataclasses.replace(CFG, initial_cash=cash)
        figure = draw_chart(rows, hold, small, interval_s=60.0).figure
        assert {t.hovertemplate for t in figure.data if t.yaxis == "y2"} == {shown}


def test_few_trades_and_few_days_are_called_meaningless(replayed):
    result = replayed[2]
    lines = caveats(result)
    assert any(line.startswith("Too few trades to mean anything: with ") for line in lines)
    assert any(line.startswith("Too little time to mean anything") for line in lines)
    policy = result.metrics["policy"]
    few = dataclasses.replace(result, metrics={"policy": dataclasses.replace(policy, trades=25)})
    assert any("uncertain by ±10 percentage points" in line for line in caveats(few))
    quarter = dataclasses.replace(result.replayed, bars=365 * 6 * 60)
    short = dataclasses.replace(result, replayed=quarter)
    assert any("over 91.2 days" in line and "uncertain by ±2.0" in line for line in caveats(short))
    many = dataclasses.replace(policy, trades=100, ruined=0)
    years = dataclasses.replace(result.replayed, bars=366 * 24 * 60)
    fine = dataclasses.replace(result, metrics={"policy": many}, replayed=years)
    assert caveats(fine) == []
    none = dataclasses.replace(
        fine, metrics={"policy": dataclasses.replace(policy, trades=0, ruined=0)}
    )
    assert caveats(none) == ["The policy did not trade."]
    ruined = dataclasses.replace(fine, metrics={"policy": dataclasses.replace(many, ruined=1)})
    assert caveats(ruined) == ["The account was ruined in 1 of 6 tiles."]


def test_the_terminal_shows_the_same_rows_and_doubts(replayed):
    shown = as_text(replayed[2])
    assert max(map(len, shown.splitlines())) <= 100
    text = " ".join(shown.split())
    for row in replayed[2].table():
        for cell in row:
            assert cell in text
    for line in caveats(replayed[2]):
        assert f"! {line}" in text
    assert "Alike in all" in text
    assert "! Alike" not in text


@pytest.fixture
def opened(chromium, page, tmp_path):
    """The page in a browser, whose reader likes it dark."""
    (tmp_path / "replay.html").write_text(page, "utf-8")
    chromium.resize(1280, 900, dark=True)
    chromium.open(tmp_path / "replay.html")
    chromium.errors()
    yield chromium
    chromium.resize(1280, 900)


PAPER = "return getComputedStyle(document.body).backgroundColor"
COLORS = """return document.getElementById("chart").data.filter(t => t.type !== "candlestick")
  .map(t => (t.marker && t.marker.color) || t.line.color)"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_and_its_chart_follow_the_readers_scheme(opened, dark):
    opened.resize(1280, 900, dark=dark)
    paper = opened.run(PAPER)
    assert (contrast(paper, "#000000") < 2) == dark
    ink = opened.run("return getComputedStyle(document.querySelector('.about')).color")
    assert contrast(paper, ink) >= 7
    chart = opened.run("return document.getElementById('chart').layout")
    assert contrast(paper, chart["paper_bgcolor"]) == contrast(paper, chart["plot_bgcolor"]) == 1
    assert contrast(paper, chart["font"]["color"]) >= 7
    colors = opened.run(COLORS)
    assert len(colors) > 8
    assert min(contrast(paper, color) for color in colors) >= 2.5, colors
    keys = opened.run(
        "return [...document.querySelectorAll('#legend span')].map(s => getComputedStyle(s).color)"
    )
    assert all(any(contrast(key, color) == 1 for color in colors) for key in keys[1:])
    assert opened.errors() == []


def test_what_a_reader_has_hidden_stays_hidden_in_another_scheme(opened):
    opened.run("document.querySelectorAll('#legend button')[0].click()")
    opened.resize(1280, 900)
    shown = opened.run("return document.getElementById('chart').data.map(t => t.visible)")
    assert [index for index, value in enumerate(shown) if value is False] == [0]


def test_a_line_that_is_named_like_a_colour_keeps_its_name(opened):
    found = opened.run("return recolored({name: 'white', marker: {color: 'white'}})")
    assert found["name"] == "white"
    assert contrast(found["marker"]["color"], "#000000") < 2


def test_large_sums_and_long_names_make_no_page_that_is_wider_than_a_phone(
    replayed, chromium, tmp_path
):
    rows, hold, result = replayed
    policy = dataclasses.replace(result.metrics["policy"], fees=1.6e12)
    metrics = result.metrics | {"policy": policy, "a_name_as_long_as_some_runs_have": policy}
    large = dataclasses.replace(result, metrics=metrics)
    write_page(tmp_path / "large.html", large, {"policy": rows}, hold, CFG)
    chromium.resize(390, 844, phone=True)
    chromium.open(tmp_path / "large.html")
    width = chromium.run("return document.documentElement.scrollWidth")
    chromium.resize(1280, 900)
    assert width <= 390
