"""Downloads from a server on this machine: what comes is what there is, and no bar too early."""

import json
import re

import pandas as pd
import pytest

from envs.bar_folder import FolderManifest
from envs.data_config import DataConfig
from envs.table import build_table
from fetched_bars import BITSTAMP, expect, loaded, months
from pipelines.exit_codes import REFUSED


def test_months_of_the_archive_are_stored_as_they_are(fetch, bar_folder, local_exchange):
    code, out, err = fetch("start=2024-11-15", "end=2025-02-03T12:00", "timeframe=1h")
    assert code == 0
    assert "1,932 bars in 4 months" in out
    assert "fetched 4, there already 0" in out
    assert f"data.path={bar_folder}" in out
    assert "Traceback" not in err
    expect(bar_folder, local_exchange, "2024-11-15", "2025-02-03T12:00", 3600)


def test_milliseconds_become_microseconds_with_2025_and_no_bar_is_lost(fetch, bar_folder):
    assert fetch("start=2024-12-31T20:00", "end=2025-01-01T04:00", "timeframe=5m")[0] == 0
    found = loaded(bar_folder)
    assert len(found.time_ns) == 96
    assert found.report.segments == 1


def test_the_manifest_says_where_every_month_came_from(fetch, bar_folder, local_exchange):
    fetch("start=2025-01-01", "end=2025-02-01", "timeframe=1d")
    text = json.loads((bar_folder / "manifest.json").read_text())
    assert (text["source"], text["exchange"], text["symbol"]) == (
        *("binance_vision", "binance"),
        "BTC/USDT",
    )
    (month,) = text["months"]
    assert month["rows"] == 31
    assert (month["first"], month["last"]) == (
        "2025-01-01T00:00:00+00:00",
        "2025-01-31T00:00:00+00:00",
    )
    (origin,) = month["origin"]
    address = f"{local_exchange.url}/data/spot/monthly/klines/BTCUSDT/1d/BTCUSDT-1d-2025-01.zip"
    assert re.fullmatch(re.escape(address) + r" sha256 [0-9a-f]{64}", origin)


def test_a_training_builds_its_table_from_the_folder(fetch, bar_folder):
    fetch("start=2024-12-20", "end=2025-01-20", "timeframe=15m")
    table = build_table(DataConfig(path=str(bar_folder)), window=64, episode_bars=96)
    assert len(table) == 31 * 96
    assert table.meta.source_name == "x"
    assert table.meta.source_sha256 == FolderManifest.read(bar_folder).sha256


def test_what_is_there_is_not_fetched_again(fetch, bar_folder, local_exchange):
    words = ("start=2024-12-01", "end=2025-02-01", "timeframe=1h")
    fetch(*words)
    before = {path.name: path.stat().st_mtime_ns for path in bar_folder.iterdir()}
    asked = local_exchange.asked(r"\.zip$")
    code, out, _ = fetch(*words)
    assert code == 0
    assert "fetched 0, there already 2" in out
    assert local_exchange.asked(r"\.zip$") == asked
    after = {path.name: path.stat().st_mtime_ns for path in bar_folder.iterdir()}
    assert {**after, ".lock": 0} == {**before, ".lock": 0}


def test_more_months_leave_the_old_ones_alone(fetch, bar_folder, local_exchange):
    fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")
    december = months(bar_folder)["2024-12"]
    fetch("start=2024-11-01", "end=2025-02-01", "timeframe=1h")
    assert months(bar_folder)["2024-12"] == december
    assert list(months(bar_folder)) == ["2024-11", "2024-12", "2025-01"]
    expect(bar_folder, local_exchange, "2024-11-01", "2025-02-01", 3600)


def test_a_month_grows_at_both_ends_and_never_shrinks(fetch, bar_folder, local_exchange):
    fetch("start=2024-12-10", "end=2024-12-20", "timeframe=1h")
    fetch("start=2024-12-15", "end=2024-12-25", "timeframe=1h")
    expect(bar_folder, local_exchange, "2024-12-10", "2024-12-25", 3600)
    fetch("start=2024-12-05", "end=2024-12-15", "timeframe=1h")
    expect(bar_folder, local_exchange, "2024-12-05", "2024-12-25", 3600)
    assert len(list(bar_folder.glob("*.parquet"))) == 1


def test_the_month_that_has_not_ended_comes_day_by_day_and_later_as_a_whole(
    fetch, bar_folder, local_exchange
):
    fetch("start=2025-02-01", "timeframe=1h")
    expect(bar_folder, local_exchange, "2025-02-01", "2025-03-10", 3600)
    assert local_exchange.asked(r"daily.*\.zip$") == 9
    local_exchange.now_s += 3 * 86_400
    fetch("start=2025-02-01", "timeframe=1h")
    expect(bar_folder, local_exchange, "2025-02-01", "2025-03-13", 3600)
    # The last day that was there, for its last bars, and the three new ones.
    assert local_exchange.asked(r"daily.*\.zip$") == 9 + 4
    local_exchange.now_s += 40 * 86_400
    fetch("start=2025-02-01", "end=2025-04-01", "timeframe=1h")
    expect(bar_folder, local_exchange, "2025-02-01", "2025-04-01", 3600)
    (origin,) = months(bar_folder)["2025-03"].origin
    assert "monthly" in origin


def test_months_before_the_market_began_are_named_and_cost_one_request(
    fetch, bar_folder, local_exchange
):
    code, out, _ = fetch("start=2017-01-01", "end=2017-10-01", "timeframe=1d")
    assert code == 0
    assert "no bars in 2017-01, 2017-02, … 2017-07 (7 months)" in out
    expect(bar_folder, local_exchange, "2017-08-17", "2017-10-01", 86_400)
    assert local_exchange.asked("2017-0[1-7]") == 7 + 1  # the first is asked for the time, too


def test_a_market_that_there_is_not_is_refused_and_leaves_nothing(fetch, tmp_path):
    out = tmp_path / "bars" / "x"
    code, _, err = fetch("symbol=BTC/USD", "start=2024-12-01", "timeframe=1d", f"out={out}")
    assert code == REFUSED
    assert err.splitlines()[-1] == (
        "error: binance has no bars of BTC/USD 1d there; is the market's name right, and had it "
        "begun?"
    )
    assert list(tmp_path.iterdir()) == []


def test_holes_of_the_exchange_stay_holes(fetch, bar_folder, local_exchange):
    at = int(pd.Timestamp("2024-12-05T03:00", tz="UTC").timestamp())
    local_exchange.holes = [(at, at + 5 * 3600), (at + 86_400, at + 86_400 + 3600)]
    fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")
    found = loaded(bar_folder)
    assert [hole["missing_bars"] for hole in found.report.longest_holes] == [5, 1]
    assert len(found.time_ns) == 31 * 24 - 6


def repeat_rows(name, text):
    """The text of an archive with rows twice, out of order, and one with another volume."""
    rows = text.splitlines()
    cells = rows[7].split(b",")
    revised = b",".join([*cells[:5], b"99", *cells[6:]])
    return b"\n".join([*rows[:5], rows[3], *rows[5:9], revised, *rows[9:], rows[4]]) + b"\n"


def test_repeated_rows_are_dropped_and_counted(fetch, bar_folder, local_exchange):
    local_exchange.change_text = repeat_rows
    code, out, _ = fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")
    assert code == 0
    assert "identical duplicates, dropped: 2" in out
    assert "duplicates with another volume, the first kept: 1" in out
    expect(bar_folder, local_exchange, "2024-12-01", "2025-01-01", 3600)
    assert months(bar_folder)["2024-12"].found["identical_duplicates"] == 2


def cut_and_shifted(name, text):
    """An outage: row 10 is cut short, rows 11 to 20 open 14 seconds too late."""
    rows = [row.split(b",") for row in text.splitlines()]
    rows[9][6] = b"%d" % (int(rows[9][0]) + 14_788)
    for row in rows[10:20]:
        row[0], row[6] = (b"%d" % (int(time) + 14_789) for time in (row[0], row[6]))
    return b"\n".join(b",".join(row) for row in rows)


def test_bars_that_an_outage_has_cut_or_shifted_become_a_hole(fetch, bar_folder, local_exchange):
    local_exchange.change_text = cut_and_shifted
    code, out, _ = fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")
    assert code == 0
    assert "bars cut short by the exchange, left out: 1" in out
    assert "bars that open at odd seconds, left out: 10" in out
    assert [hole["missing_bars"] for hole in loaded(bar_folder).report.longest_holes] == [11]


# Clocks and partial bars.


def test_no_bar_is_taken_before_it_has_closed(fetch, bar_folder, local_exchange):
    local_exchange.now_s += 17  # 12:34:47
    fetch(*BITSTAMP, "start=2025-03-10T10:00", "timeframe=5m")
    expect(bar_folder, local_exchange, "2025-03-10T10:00", "2025-03-10T12:30", 300)
    local_exchange.now_s += 13 + 24  # 12:35:24
    fetch(*BITSTAMP, "start=2025-03-10T10:00", "timeframe=5m")
    expect(bar_folder, local_exchange, "2025-03-10T10:00", "2025-03-10T12:35", 300)


@pytest.mark.parametrize(
    ("theirs_ahead_s", "last"),
    [(0, "12:34"), (3600, "12:34"), (-3600, "11:34"), (59, "12:34")],
)
def test_of_two_clocks_the_earlier_one_decides(
    fetch, bar_folder, local_exchange, monkeypatch, theirs_ahead_s, last
):
    ours_s = local_exchange.now_s
    monkeypatch.setattr("time.time_ns", lambda: ours_s * 10**9)
    local_exchange.now_s += theirs_ahead_s
    code, _, err = fetch(*BITSTAMP, "start=2025-03-10T10:00", "timeframe=1m")
    assert code == 0
    assert months(bar_folder)["2025-03"].end == f"2025-03-10T{last}:00+00:00"
    assert ("clock" in err) == (abs(theirs_ahead_s) > 60)


def test_a_server_without_a_clock_is_measured_by_ours(
    fetch, bar_folder, local_exchange, monkeypatch
):
    ours_s = local_exchange.now_s
    monkeypatch.setattr("time.time_ns", lambda: ours_s * 10**9)
    local_exchange.tells_time = False
    fetch(*BITSTAMP, "start=2025-03-10T10:00", "timeframe=1m")
    assert months(bar_folder)["2025-03"].end == "2025-03-10T12:34:00+00:00"


def test_a_start_in_the_future_is_refused_and_leaves_nothing(fetch, tmp_path):
    code, _, err = fetch("start=2025-03-11")
    assert code == REFUSED
    assert "no bar has closed since; it is 2025-03-10T12:34:30" in err
    assert list(tmp_path.iterdir()) == []
