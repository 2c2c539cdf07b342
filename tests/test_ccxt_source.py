"""Exchanges by way of ccxt: pages that overlap, end early, come twice or make no sense."""

import re
import sys

import pytest

from envs.bar_folder import FolderManifest
from envs.bars import load_bars
from envs.data_config import DataConfig
from fetched_bars import BITSTAMP, KRAKEN, expect
from local_exchange import seconds
from pipelines.exit_codes import NETWORK, REFUSED
from pipelines.market_data.ccxt_source import _moved
from pipelines.market_data.patience import Patience

ccxt = pytest.importorskip("ccxt")

WEEK = ("start=2025-02-24", "end=2025-03-03", "timeframe=15m")
PAGE = r"/ohlc/|/OHLC"


@pytest.fixture(autouse=True)
def _no_throttle(monkeypatch):
    """The exchange's own limit of requests a second would only make the tests wait."""
    monkeypatch.setattr("ccxt.Exchange.throttle", lambda self, cost=None: None)


def test_pages_are_joined_without_a_seam(fetch, bar_folder, local_exchange):
    words = ("start=2025-02-10T03:17", "end=2025-03-05T11:00", "timeframe=15m")
    code, out, _ = fetch(*BITSTAMP, *words)
    assert code == 0
    assert "2,238 bars in 2 months" in out
    expect(bar_folder, local_exchange, "2025-02-10T03:17", "2025-03-05T11:00", 900)
    assert local_exchange.asked(PAGE) == 2 + 1


def test_an_update_asks_for_the_new_bars_and_the_last_ones_again(fetch, bar_folder, local_exchange):
    words = (*BITSTAMP, "start=2025-03-01", "timeframe=15m")
    fetch(*words)
    expect(bar_folder, local_exchange, "2025-03-01", "2025-03-10T12:30", 900)
    local_exchange.now_s += 3600
    local_exchange.requests.clear()
    fetch(*words)
    expect(bar_folder, local_exchange, "2025-03-01", "2025-03-10T13:30", 900)
    starts = [
        int(found) for path in local_exchange.requests for found in re.findall(r"start=(\d+)", path)
    ]
    assert starts == [seconds("2025-03-10T12:30") - 10 * 900]


def test_a_bar_that_the_exchange_revises_is_the_new_one_as_a_whole(
    fetch, bar_folder, local_exchange
):
    late = seconds("2025-03-10T12:15")

    def before_a_late_trade(page):
        return [
            [*row[:2], row[2] - 1, row[3], row[4], row[5] / 4] if row[0] == late else row
            for row in page
        ]

    local_exchange.change_page = before_a_late_trade
    fetch(*BITSTAMP, "start=2025-03-01", "timeframe=15m")
    local_exchange.change_page = lambda page: page
    local_exchange.now_s += 1800
    fetch(*BITSTAMP, "start=2025-03-01", "timeframe=15m")
    expect(bar_folder, local_exchange, "2025-03-01", "2025-03-10T13:00", 900)


def test_a_bar_that_is_served_late_is_not_missed(fetch, bar_folder, local_exchange):
    """The last minute of a month has closed, but the exchange does not serve it yet."""
    local_exchange.now_s = seconds("2025-03-01T00:00:05")
    local_exchange.change_page = lambda page: [
        r for r in page if r[0] < seconds("2025-02-28T23:45")
    ]
    fetch(*BITSTAMP, "start=2025-02-28", "timeframe=15m")
    assert FolderManifest.read(bar_folder).months[0].end == "2025-02-28T23:45:00+00:00"
    local_exchange.change_page = lambda page: page
    local_exchange.now_s += 900
    fetch(*BITSTAMP, "start=2025-02-28", "timeframe=15m")
    expect(bar_folder, local_exchange, "2025-02-28", "2025-03-01T00:15", 900)


def test_an_exchange_that_serves_its_newest_bars_only_is_collected_piece_by_piece(
    fetch, bar_folder, local_exchange
):
    words = (*KRAKEN, "start=2025-02-01", "timeframe=1m")
    code, out, _ = fetch(*words)
    assert (code, "no bars in 2025-02" in out) == (0, True)
    first = "2025-03-10T00:35"
    expect(bar_folder, local_exchange, first, "2025-03-10T12:34", 60)
    local_exchange.now_s += 600 * 60
    fetch(*words)
    expect(bar_folder, local_exchange, first, "2025-03-10T22:34", 60)
    local_exchange.now_s += 800 * 60
    fetch(*words)
    found = load_bars(DataConfig(path=str(bar_folder)))
    assert [hole["missing_bars"] for hole in found.report.longest_holes] == [800 - 719]
    assert len(found.time_ns) == 719 + 600 + 719


def test_a_hole_longer_than_a_page_is_stepped_over(fetch, bar_folder, local_exchange):
    local_exchange.holes = [(seconds("2025-02-03"), seconds("2025-02-26"))]
    fetch(*BITSTAMP, "start=2025-02-01", "end=2025-03-01", "timeframe=15m")
    expect(bar_folder, local_exchange, "2025-02-01", "2025-03-01", 900)
    found = load_bars(DataConfig(path=str(bar_folder)))
    assert found.report.longest_holes[0]["missing_bars"] == 23 * 96


def test_pages_before_the_market_began_are_stepped_over(fetch, bar_folder, local_exchange):
    local_exchange.listed_s = seconds("2025-02-20T10:00")
    code, out, _ = fetch(*BITSTAMP, "start=2024-12-01", "end=2025-03-01", "timeframe=15m")
    assert (code, "no bars in 2024-12, 2025-01" in out) == (0, True)
    expect(bar_folder, local_exchange, "2025-02-20T10:00", "2025-03-01", 900)


def test_an_empty_answer_between_bars_is_asked_about_again(fetch, bar_folder, local_exchange):
    pages = []

    def empty_once(page):
        pages.append(page)
        return [] if len(pages) == 2 else page

    local_exchange.change_page = empty_once
    fetch(*BITSTAMP, "start=2025-02-01", "end=2025-03-01", "timeframe=15m")
    expect(bar_folder, local_exchange, "2025-02-01", "2025-03-01", 900)
    assert local_exchange.asked(PAGE) == 3 + 1


def test_days_of_another_time_zone_are_not_said_to_be_none(fetch, tmp_path, local_exchange):
    local_exchange.change_page = lambda page: [[row[0] + 57_600, *row[1:]] for row in page]
    code, _, err = fetch(*BITSTAMP, "start=2025-02-01", "end=2025-03-01", "timeframe=1d")
    assert code == REFUSED
    assert "no bars of BTC/USD 1d there that open at multiples of 1d in UTC, only some" in err
    assert list(tmp_path.iterdir()) == []


def twice(page):
    return [row for row in page for _ in range(2)]


def newest_first(page):
    return page[::-1]


def ones_before(page):
    return [[page[0][0] - 900, 1, 1, 1, 1, 1], *page]


@pytest.mark.parametrize("change", [twice, newest_first, ones_before])
def test_a_page_in_disorder_is_put_in_order(fetch, bar_folder, local_exchange, change):
    local_exchange.change_page = lambda page: change(page) if page else page
    assert fetch(*BITSTAMP, *WEEK)[0] == 0
    expect(bar_folder, local_exchange, "2025-02-24", "2025-03-03", 900)


STATUS = [(BITSTAMP, PAGE, status) for status in (418, 429, 500, 502, 503, 504)]
BODY = [
    (exchange, path, kind)
    for exchange, path in [
        (BITSTAMP, PAGE),
        (BITSTAMP, "/markets"),
        (KRAKEN, PAGE),
        (KRAKEN, "/Time"),
    ]
    for kind in ("cut", "drop", "page", "empty", 500)
]


@pytest.mark.parametrize(("exchange", "path", "kind"), [*STATUS, *BODY])
def test_a_failure_that_passes_is_not_noticed(
    fetch, bar_folder, local_exchange, exchange, path, kind
):
    local_exchange.break_down(path, kind)
    words = ("start=2025-03-10T10:00", "end=2025-03-10T12:00", "timeframe=5m")
    code, _, err = fetch(*exchange, *words)
    assert code == 0, err
    expect(bar_folder, local_exchange, "2025-03-10T10:00", "2025-03-10T12:00", 300)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (500, r"500 .*asked 3 times"),
        (429, r"429 .*asked 3 times"),
        ("cut", r"bitstamp GET http://.*/ohlc/btcusd/.*asked 3 times"),
        ("page", r"the answer is no JSON; asked 3 times"),
        ("empty", r"the answer is no JSON; asked 3 times"),
    ],
)
def test_a_failure_that_stays_is_named_and_what_was_fetched_is_kept(
    fetch, bar_folder, local_exchange, kind, message
):
    fetch(*BITSTAMP, "start=2025-02-24", "end=2025-03-01", "timeframe=15m")
    local_exchange.break_down(PAGE, kind, times=99)
    code, _, err = fetch(*BITSTAMP, *WEEK)
    assert code == NETWORK
    assert re.search(
        r"^error: bitstamp: bars from 2025-03-01T00:00:00\+00:00: .*" + message, err, re.M
    )
    expect(bar_folder, local_exchange, "2025-02-24", "2025-03-01", 900)


def test_every_request_keeps_the_exchange_s_own_limit(fetch, local_exchange, monkeypatch):
    costs = []
    monkeypatch.setattr("ccxt.Exchange.throttle", lambda self, cost=None: costs.append(cost))
    local_exchange.break_down(PAGE, 500)
    assert fetch(*KRAKEN, "start=2025-03-10T10:00", "timeframe=5m")[0] == 0
    assert len(costs) == local_exchange.asked() >= 5


def test_a_server_is_left_alone_for_as_long_as_it_asks(fetch, local_exchange, monkeypatch):
    sleeps = []
    monkeypatch.setattr("pipelines.download.Patience", lambda cfg: Patience(cfg, sleeps.append))
    local_exchange.break_down(PAGE, 429, Retry_After="17")
    assert fetch(*BITSTAMP, *WEEK)[0] == 0
    assert sleeps == [17.0]


def broken(row, **cells):
    names = ("timestamp", "open", "high", "low", "close", "volume")

    def change(page):
        page = [list(values) for values in page]
        for name, value in cells.items():
            page[row - 1][names.index(name)] = value
        return page

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken(3, low=0.0), r"row 3 \(2025-02-24T00:30.* a price is not above 0"),
        (broken(3, high=1.0), r"row 3 .* low is above high"),
        (broken(3, close="nan"), r"row 3 .* a value is missing"),
        (broken(3, close=None), r"row 3 .* a value is missing"),
        (broken(3, volume=-1), r"row 3 .* volume is negative"),
        (broken(3, timestamp=1740356100), r"rows 2 and 3 .* two bars of one time"),
    ],
)
def test_bars_that_stay_bad_are_named_and_the_next_month_comes_all_the_same(
    fetch, bar_folder, local_exchange, change, message
):
    def in_february(page):
        return change(page) if page and page[0][0] < seconds("2025-03-01") else page

    local_exchange.change_page = in_february
    code, _, err = fetch(*BITSTAMP, *WEEK)
    assert code == NETWORK
    assert re.search(
        rf"^error: 2025-02: bitstamp: bars from .*: the answer, {message}.*asked 3", err, re.M
    )
    expect(bar_folder, local_exchange, "2025-03-01", "2025-03-03", 900)


def test_a_bar_that_opens_at_an_odd_second_is_left_out_and_counted(
    fetch, bar_folder, local_exchange
):
    local_exchange.change_page = broken(3, timestamp=1740357001)
    code, out, _ = fetch(*BITSTAMP, "start=2025-02-24", "end=2025-02-25", "timeframe=15m")
    assert code == 0
    assert "bars that open at odd seconds, left out: 1" in out
    found = load_bars(DataConfig(path=str(bar_folder), fill_gap_bars=0))
    assert [hole["missing_bars"] for hole in found.report.longest_holes] == [1]


def test_bars_that_are_bad_once_are_asked_for_again(fetch, bar_folder, local_exchange):
    pages = []

    def bad_once(page):
        pages.append(page)
        return broken(3, low=0.0)(page) if len(pages) == 1 else page

    local_exchange.change_page = bad_once
    assert fetch(*BITSTAMP, *WEEK)[0] == 0
    expect(bar_folder, local_exchange, "2025-02-24", "2025-03-03", 900)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["exchange=krakem"], r"exchange='krakem' .* such as kraken"),
        (["exchange=exchange"], r"exchange='exchange' is not allowed"),
        (
            ["symbol=BTC/USDX"],
            r"symbol='BTC/USDX' is not allowed: bitstamp has 1 markets.* BTC/USD",
        ),
        (["timeframe=8h"], r"timeframe='8h' is not allowed: bitstamp has 1m, 3m"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(fetch, tmp_path, words, message):
    code, _, err = fetch(*BITSTAMP, "start=2025-03-01", *words)
    assert code == REFUSED
    assert re.search(message, err)
    assert list(tmp_path.iterdir()) == []


def test_without_ccxt_the_way_to_get_it_is_named(fetch, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ccxt", None)
    code, _, err = fetch(*BITSTAMP, "start=2025-03-01")
    assert code == REFUSED
    assert err == "error: source=ccxt needs the library ccxt: pip install -e '.[download]'\n"
    assert list(tmp_path.iterdir()) == []


def test_every_request_goes_to_the_address_that_was_given(fetch, local_exchange):
    for name in ("binance", "kraken", "okx", "coinbase", "gate", "bitfinex"):
        moved = _moved(getattr(ccxt, name)().urls["api"], "http://127.0.0.1:1/proxy/")
        leaves = re.findall(r"'(\w+://[^']*)'", str(moved))
        assert leaves
        assert all(leaf.startswith("http://127.0.0.1:1/proxy") for leaf in leaves)
