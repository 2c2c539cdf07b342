"""The report of an evaluation in a browser: every zoom, its links, a phone, hostile names."""

import json
import re

import pandas as pd
import pytest

from envs.trace_reader import read_trace
from evaluated_seeds import poison
from html_document import EVIL
from pipelines.report import write_report

READY = "document.documentElement.dataset.ready"


@pytest.fixture(scope="module")
def values(evaluation):
    return json.loads((evaluation / "evaluation.json").read_text())


@pytest.fixture
def opened(chromium, evaluation):
    """The page in a browser, 1,280 pixels wide."""
    chromium.resize(1280, 900)
    chromium.open(evaluation / "report.html")
    chromium.wait(READY)
    chromium.errors()
    return chromium


def test_the_page_draws_every_zoom_in_few_points(opened, evaluation, values):
    rows = values["bars"]["bars"]
    seen = []
    for days_shown in (60, 7, 1, 0.1):
        opened.run(f"show(view.from, view.from + {days_shown} * DAY)")
        last = opened.run("return last")
        assert max(last["points"]) <= 5_000
        assert last["trades"] <= last["inside"]
        seen.append(last["points"][0])
    assert seen[0] < rows
    assert seen == sorted(seen, reverse=True)
    assert opened.run("return last.step") == 15 * 60_000
    opened.run("show(view.from + 5 * DAY, view.from + 15 * DAY)")
    opened.run("byId('candles').scrollIntoView()")
    plot = opened.run("return document.querySelector('#candles .nsewdrag').getBoundingClientRect()")
    width = opened.run("return view.to - view.from")
    opened.drag(plot["left"] + 100, plot["left"] + 200, plot["top"] + 50)
    wanted = 100 / plot["width"] * width
    opened.wait(f"Math.abs(view.to - view.from - {wanted}) < {0.05 * wanted}")
    shown = opened.run("return byId('candles').data[0].x.length")
    assert abs(shown - wanted / 900_000) <= 2
    assert opened.errors() == []


def test_the_browser_reads_the_very_bars_and_merges_them_right(opened, evaluation, values):
    rows = read_trace(evaluation / values["files"]["traces"][0]).sort_values("timestamp")
    closes = opened.run("return Array.from(bars0.close)")
    assert closes == rows["close"].tolist()
    merged = opened.run("return mergeBars(bars0, seeds0[0].position, 0, bars0.length, 4 * HOUR)")
    own = rows.groupby(rows["timestamp"].dt.floor("4h")).agg(
        {"open": "first", "high": "max", "low": "min", "close": "last", "position": "mean"}
    )
    assert pd.to_datetime(merged["x"], unit="ms", utc=True).tolist() == own.index.tolist()
    for name in ("open", "high", "low", "close"):
        assert merged[name] == own[name].tolist()
    assert merged["position"] == pytest.approx(own["position"].to_numpy(), rel=1e-5, abs=1e-6)


def test_no_position_is_drawn_over_a_hole_in_the_bars(opened):
    merged = "mergeBars(bars0, seeds0[0].position, 0, bars0.length, 4 * HOUR)"
    steps = opened.run(f"return positionSteps({merged}, 4 * HOUR)")
    hours = pd.Series(steps["x"]).diff().div(3_600_000)
    (after,) = hours.index[hours > 4]  # what warms up after the hole is not played either
    assert steps["y"][after - 1] == 0.0
    assert hours[after - 1] == 4  # with the end of the last candle


def test_money_of_an_account_in_bitcoins_is_not_rounded_away(opened):
    shown = opened.run("return [0.001234, -0.5, -1234.567, 12].map(money)")
    assert shown == ["+0.00123", "\u22120.5", "\u22121,234.57", "+12"]


def test_a_link_leads_back_to_the_view(opened, evaluation):
    opened.run("byId('seed').value = '1'; byId('seed').onchange()")
    opened.run("show(view.from + 3 * DAY, view.from + 4 * DAY)")
    seen = opened.run("return [view.seed, view.from, view.to]")
    fragment = opened.run("return location.hash")
    assert re.fullmatch(r"#seed=seed\+1&from=2025-\S+&to=2025-\S+", fragment)
    opened.open(evaluation / "report.html", "#")
    opened.open(evaluation / "report.html", fragment)
    opened.wait(f"{READY} && view.seed === 1 && Math.abs(view.from - {seen[1]}) < 1000")
    assert opened.errors() == []


def test_the_page_fits_a_phone_and_the_dark(opened, evaluation):
    opened.resize(390, 844, dark=True, phone=True)
    opened.open(evaluation / "report.html")
    opened.wait(READY)
    opened.run("dispatchEvent(new Event('beforeprint'))")
    assert opened.run("return document.documentElement.scrollWidth") <= 390
    background = opened.run("return getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(20, 23, 28)"
    assert opened.errors() == []


def test_a_hostile_page_executes_nothing_in_a_browser(chromium, altered):
    def change(values):
        values.update(poison(values))
        for fold, seed in enumerate(values["seeds"]):
            seed["name"] = f"{fold}{EVIL}"

    folder = altered(change)
    chromium.open(write_report(folder))
    chromium.wait(READY)
    chromium.run("dispatchEvent(new Event('beforeprint'))")
    assert "owned" not in chromium.run("return document.title").replace(EVIL, "")
    assert chromium.run("return document.querySelectorAll('img').length") == 0
    assert chromium.errors() == []
