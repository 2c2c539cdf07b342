"""The page of a trace in a browser: the controls, the address, keys, what is not there."""

import time
from contextlib import suppress

import pytest

from envs.trace_reader import read_trace
from served_runs import ROOT

pytest.importorskip("dash")
pytest.importorskip("duckdb")

# The table of trades is the last part of an answer.
READY = "document.querySelector('#trades table') && document.querySelector('#moves a')"


@pytest.fixture(scope="module")
def runs(served):
    return served[0]


@pytest.fixture(scope="module")
def address(served):
    return served[1]


@pytest.fixture
def page(chromium, address):
    """A browser, 1,280 pixels wide, and how to go to an address of the server in it."""
    chromium.resize(1280, 900)

    def go(search="?run=one&trace=train_actions.csv", ready=READY):
        chromium.visit(f"{address}trace/{search}")
        chromium.wait(ready)
        return chromium

    chromium.errors()
    return go


def drawn(browser, chart):
    """What a chart holds: it is drawn a moment after the answer is there, and empty before."""
    plot = f"document.querySelector('#{chart} .js-plotly-plot')"
    browser.wait(f"{plot}?.data?.length")
    return browser.run(f"return {plot}.data")


def until(wanted, seconds=60.0):
    """Wait for something that Python tells."""
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.02)


def points(browser, chart="metric-chart"):
    return [len(trace["x"]) for trace in drawn(browser, chart)]


def search_of(browser):
    return browser.run("return location.search")


def press(browser, key, code=0):
    for kind in ("keyDown", "keyUp"):
        told = {"key": key, "code": key, "windowsVirtualKeyCode": code} if code else {"key": key}
        browser.tell("Input.dispatchKeyEvent", type=kind, **told)


def reach(browser, key, code, focused, wanted):
    """Press a key until what has the focus is `wanted`, looking after every press.

    A list takes the focus some frames after it opened: keys that follow faster are lost.
    """
    for _ in range(12):
        browser.run("window.before = document.activeElement")
        press(browser, key, code)
        with suppress(AssertionError):
            browser.wait("document.activeElement !== window.before", 1.0)
        if browser.run(f"return {focused} === {wanted!r}"):
            return
    raise AssertionError(f"{key} does not lead to {wanted!r}")


def choose(browser, control, text):
    """Open a dropdown of the page and choose an option, with the mouse.

    One that has only just appeared may not listen yet: it is asked until it shows the choice.
    """
    option = f"""[...document.querySelectorAll('.dash-dropdown-option')]
        .find(o => o.textContent.trim() === {text!r})"""
    chosen = f"document.getElementById('{control}').textContent.trim() === {text!r}"
    for _ in range(8):
        browser.run(f"if (!{option}) document.getElementById('{control}').click()")
        with suppress(AssertionError):
            browser.wait(option, 2.0)
            browser.run(f"{option}?.click()")
            browser.wait(chosen, 2.0)
            return
    raise AssertionError(f"{control} does not take {text!r}")


def test_the_controls_change_the_charts_and_the_address(page, runs):
    browser = page()
    choose(browser, "metric", "drawdown")
    browser.wait("location.search.includes('metric=drawdown')")
    choose(browser, "lane", "lane 3")
    browser.wait("location.search.includes('lane=3')")
    rows = read_trace(runs / "one" / "train_actions.csv")
    mine = rows[rows["lane"] == 3]
    drawn = (
        "document.querySelector('#metric-chart .js-plotly-plot').data[0].y.filter(y => y !== null)"
    )
    wanted = mine["drawdown"].tolist()
    until(lambda: browser.run(f"return {drawn}") == wanted)  # every lane has as many rows
    choose(browser, "trace", "replay_actions.csv")
    browser.wait("location.search.includes('trace=replay') && !location.search.includes('lane')")
    assert browser.errors() == []


def test_a_trade_of_the_table_leads_to_its_bars_and_the_address_back_there(page, runs):
    browser = page()
    whole = points(browser, "candle-chart")[0]
    link = "document.querySelectorAll('#trades tbody a')[5]"
    time_of = browser.run(f"return {link}.textContent")
    browser.run(f"{link}.click()")
    browser.wait("document.querySelector('#trades tr.chosen')")
    assert browser.run("return document.querySelector('tr.chosen a').textContent") == time_of
    there = search_of(browser)
    assert "trade=" in there
    browser.wait(
        f"document.querySelector('#candle-chart .js-plotly-plot').data[0].x.length < {whole}"
    )
    seen = drawn(browser, "candle-chart")
    browser = page(there, "document.querySelector('#trades tr.chosen')")
    again = drawn(browser, "candle-chart")
    assert [(t["name"], t["x"]) for t in again] == [(t["name"], t["x"]) for t in seen]
    assert browser.errors() == []


def test_the_line_below_the_head_says_which_market_is_seen(page):
    browser = page()
    about = browser.run("return document.querySelector('#about').textContent")
    assert about.endswith("lane 0: BTC/USD")


def markets_of_trades(browser):
    """The markets in the table of trades, in which a market stands where there are several."""
    return browser.run(
        """const heads = [...document.querySelectorAll('#trades thead th')].map(h => h.textContent);
        const i = heads.indexOf('market');
        return [...new Set([...document.querySelectorAll('#trades tbody tr')]
            .map(row => i < 0 ? '' : row.cells[i].textContent))].sort()"""
    )


def test_the_market_is_picked_where_there_are_several_and_the_address_holds_it(page, runs):
    browser = page("?run=two&trace=train_actions.csv&lane=1")
    assert markets_of_trades(browser) == ["BTC/USD"]  # of the first 25
    choose(browser, "market", "ETH/USD")
    browser.wait("location.search.includes('market=ETH%2FUSD')")
    browser.wait("document.querySelector('#about').textContent.endsWith('lane 1: ETH/USD')")
    rows = read_trace(runs / "two" / "train_actions.csv")
    own = rows[(rows["lane"] == 1) & (rows["asset"] == "ETH/USD")]
    bars = "document.querySelector('#candle-chart .js-plotly-plot').data[0].x"
    browser.wait(f"{bars}.length === {len(own)}")
    assert browser.run(f"return {bars}") == own["env_frame"].tolist()
    assert markets_of_trades(browser) == [""]
    choose(browser, "lane", "lane 2")
    browser.wait("location.search.includes('lane=2') && location.search.includes('market=ETH')")
    browser = page(
        search_of(browser), "document.querySelector('#market')?.textContent === 'ETH/USD'"
    )
    browser.run("history.back()")
    browser.wait("location.search.includes('lane=1')")  # one that is on its way takes no second
    browser.wait("document.querySelector('#market')?.textContent === 'ETH/USD'")
    browser.run("history.back()")
    browser.wait("document.querySelector('#market')?.textContent === 'all markets'")
    page()
    assert browser.run("return document.querySelector('#market').offsetParent === null")
    assert browser.errors() == []


def test_the_market_is_picked_by_the_keyboard_alone(page):
    browser = page("?run=two&trace=train_actions.csv")
    reach(browser, "Tab", 9, "document.activeElement.id", "market")
    press(browser, "Enter", 13)
    browser.wait("document.activeElement.className === 'dash-dropdown-search'")
    option = "document.activeElement.closest('label')?.textContent.trim()"
    for market in ("all markets", "BTC/USD", "ETH/USD"):
        reach(browser, "ArrowDown", 40, option, market)
    press(browser, "Enter", 13)
    browser.wait("location.search.includes('market=')")
    assert browser.errors() == []


def test_back_leads_to_the_view_before(page):
    browser = page()
    before = points(browser)
    browser.run("document.querySelector('.move-nearer').click()")
    browser.wait("location.search.includes('first=')")
    browser.wait("document.querySelector('#first').value !== '0'")
    browser.run("history.back()")
    browser.wait("!location.search.includes('first=')")
    browser.wait("document.querySelector('#first').value === '0'")
    until(lambda: points(browser) == before)


def draw(browser, chart, first, last):
    """Draw sideways over a chart, from a pixel to another, until the address holds a range.

    A chart that has just been drawn measures itself, and the page forgets what is drawn meanwhile.

    Returns:
        The frame at the first pixel.
    """
    plot = f"document.querySelector('#{chart} .js-plotly-plot')"
    place = f"document.querySelector('#{chart} .nsewdrag')"
    browser.wait(place)
    for _ in range(4):
        browser.run(f"document.querySelector('#{chart}').scrollIntoView()")
        box = browser.run(f"return {place}.getBoundingClientRect()")
        low, high = browser.run(f"return {plot}._fullLayout.xaxis.range")
        browser.drag(box["left"] + first, box["left"] + last, box["top"] + 60)
        with suppress(AssertionError):
            browser.wait("location.search.includes('first=')", 5.0)
            return low + (high - low) * first / box["width"]
    raise AssertionError(f"{chart} does not take a range")


def test_a_range_is_drawn_typed_or_walked_by_keys(page):
    browser = page()
    wanted = draw(browser, "metric-chart", 100, 300)
    first = browser.wait("Number(document.querySelector('#first').value)")
    assert abs(first - wanted) < 3
    browser.wait("document.querySelector('.move-later')")
    press(browser, "ArrowRight")
    browser.wait(f"Number(document.querySelector('#first').value) > {first}")
    press(browser, "0")
    browser.wait("!location.search.includes('first=')")
    browser.wait("document.querySelector('#first').value === '0'")
    browser.wait("document.querySelector('.move-after')")
    press(browser, "n")
    browser.wait("location.search.includes('trade=') && document.querySelector('tr.chosen')")
    one = search_of(browser)
    press(browser, "n")
    browser.wait(f"location.search !== {one!r}")
    browser.wait(f"document.querySelector('.move-before')?.search === {one!r}")
    press(browser, "p")
    browser.wait(f"location.search === {one!r}")
    assert browser.errors() == []


@pytest.mark.parametrize("run", ["one", "two"])
def test_a_page_fits_a_phone_and_the_dark(page, run):
    browser = page()
    browser.resize(390, 844, dark=True, phone=True)
    browser = page(f"?run={run}&trace=train_actions.csv")
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    assert (
        browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 28)"
    )
    browser.wait("document.querySelector('#candle-chart text')")
    fill = "getComputedStyle(document.querySelector('#candle-chart text')).fill"
    assert browser.run(f"return {fill}") == "rgb(230, 233, 238)"
    assert browser.errors() == []


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("?run=../outside", "there is no run"),
        ("?run=one&trace=../../outside/train_actions.csv", "has no trace"),
        ("?run=one&trace=config.json", "has no trace"),
        ("?run=one&lane=77", "lane=77"),
        ("?run=one&metric=volume)--", "metric="),
        ("?run=broken", "its first line is not the columns"),
        ("", "there is no run"),
    ],
)
def test_what_is_not_there_is_said_and_nothing_else_is_shown(page, search, words):
    browser = page(search, "document.querySelector('#message')?.textContent")
    assert words in browser.wait("document.querySelector('#message').textContent")
    assert browser.run("return document.querySelectorAll('#trades table').length") == 0
    assert str(ROOT) not in browser.run("return document.body.textContent")


def test_a_run_whose_trace_is_damaged_is_named_and_another_trace_can_be_chosen(page):
    browser = page("?run=half", "document.querySelector('#message')?.textContent")
    assert browser.run("return document.querySelector('#head').textContent").endswith("/ half")
    chart = "document.querySelector('#metric-chart').offsetParent"
    browser.wait(f"{chart} === null")
    choose(browser, "trace", "train_actions.csv")
    browser.wait(f"{READY} && {chart}")
    assert browser.errors() == []


def test_a_trace_that_is_cut_off_while_it_is_viewed_is_read_anew(page, runs):
    search = "?run=half&trace=train_actions.csv"
    browser = page(search)
    path = runs / "half" / "train_actions.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:400]))
    for _ in range(30):  # a trace is looked at again after ten seconds
        browser = page(search)
        about = browser.run("return document.querySelector('#about').textContent")
        if about.startswith("399 rows"):
            break
        time.sleep(0.7)
    assert about.startswith("399 rows")
    path.write_bytes(b"".join(lines))
    assert browser.errors() == []
