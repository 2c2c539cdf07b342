"""Downloads from a server on this machine: what comes is what there is, whatever goes wrong."""

import importlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from envs.bar_folder import FolderManifest
from envs.bars import DataConfig, load_bars
from envs.table import build_table
from pipelines.exit_codes import DISK, INTERRUPTED, NETWORK, REFUSED

BITSTAMP = ("source=ccxt", "exchange=bitstamp", "symbol=BTC/USD")
KRAKEN = ("source=ccxt", "exchange=kraken", "symbol=BTC/USD")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "x"


def loaded(folder, fill_gap_bars=0):
    return load_bars(DataConfig(path=str(folder), fill_gap_bars=fill_gap_bars))


def expect(folder, exchange, start, end, interval_s):
    """The folder holds exactly the bars of a span that the exchange has."""
    seconds = [int(pd.Timestamp(text, tz="UTC").timestamp()) for text in (start, end)]
    times, values = exchange.bars(*seconds, interval_s)
    found = loaded(folder)
    np.testing.assert_array_equal(found.time_ns, times * 10**9)
    np.testing.assert_array_equal(found.ohlcv, values)


def months(folder):
    return {month.month: month for month in FolderManifest.read(folder).months}


# The archive.


def test_months_of_the_archive_are_stored_as_they_are(fetch, folder, local_exchange):
    code, out, err = fetch("start=2024-11-15", "end=2025-02-03T12:00", "timeframe=1h")
    assert code == 0
    assert "1,932 bars in 4 months" in out
    assert "fetched 4, there already 0" in out
    assert f"data.path={folder}" in out
    assert "Traceback" not in err
    expect(folder, local_exchange, "2024-11-15", "2025-02-03T12:00", 3600)


def test_milliseconds_become_microseconds_with_2025_and_no_bar_is_lost(fetch, folder):
    assert fetch("start=2024-12-31T20:00", "end=2025-01-01T04:00", "timeframe=5m")[0] == 0
    found = loaded(folder)
    assert len(found.time_ns) == 96
    assert found.report.segments == 1


def test_the_manifest_says_where_every_month_came_from(fetch, folder, local_exchange):
    fetch("start=2025-01-01", "end=2025-02-01", "timeframe=1d")
    text = json.loads((folder / "manifest.json").read_text())
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


def test_a_training_builds_its_table_from_the_folder(fetch, folder):
    fetch("start=2024-12-20", "end=2025-01-20", "timeframe=15m")
    table = build_table(DataConfig(path=str(folder)), window=64, episode_bars=96)
    assert len(table) == 31 * 96
    assert table.meta.source_name == "x"
    assert table.meta.source_sha256 == FolderManifest.read(folder).sha256


def test_what_is_there_is_not_fetched_again(fetch, folder, local_exchange):
    words = ("start=2024-12-01", "end=2025-02-01", "timeframe=1h")
    fetch(*words)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    asked = local_exchange.asked(r"\.zip$")
    code, out, _ = fetch(*words)
    assert code == 0
    assert "fetched 0, there already 2" in out
    assert local_exchange.asked(r"\.zip$") == asked
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {**after, ".lock": 0} == {**before, ".lock": 0}


def test_more_months_leave_the_old_ones_alone(fetch, folder, local_exchange):
    fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")
    december = months(folder)["2024-12"]
    fetch("start=2024-11-01", "end=2025-02-01", "timeframe=1h")
    assert months(folder)["2024-12"] == december
    assert list(months(folder)) == ["2024-11", "2024-12", "2025-01"]
    expect(folder, local_exchange, "2024-11-01", "2025-02-01", 3600)


def test_a_month_grows_at_both_ends_and_never_shrinks(fetch, folder, local_exchange):
    fetch("start=2024-12-10", "end=2024-12-20", "timeframe=1h")
    fetch("start=2024-12-15", "end=2024-12-25", "timeframe=1h")
    expect(folder, local_exchange, "2024-12-10", "2024-12-25", 3600)
    fetch("start=2024-12-05", "end=2024-12-15", "timeframe=1h")
    expect(folder, local_exchange, "2024-12-05", "2024-12-25", 3600)
    assert len(list(folder.glob("*.parquet"))) == 1


def test_the_month_that_has_not_ended_comes_day_by_day_and_later_as_a_whole(
    fetch, folder, local_exchange
):
    fetch("start=2025-02-01", "timeframe=1h")
    expect(folder, local_exchange, "2025-02-01", "2025-03-10", 3600)
    assert local_exchange.asked(r"daily.*\.zip$") == 9
    local_exchange.now_s += 3 * 86_400
    fetch("start=2025-02-01", "timeframe=1h")
    expect(folder, local_exchange, "2025-02-01", "2025-03-13", 3600)
    # The last day that was there, for its last bars, and the three new ones.
    assert local_exchange.asked(r"daily.*\.zip$") == 9 + 4
    local_exchange.now_s += 40 * 86_400
    fetch("start=2025-02-01", "end=2025-04-01", "timeframe=1h")
    expect(folder, local_exchange, "2025-02-01", "2025-04-01", 3600)
    (origin,) = months(folder)["2025-03"].origin
    assert "monthly" in origin


def test_months_before_the_market_began_are_named_and_cost_one_request(
    fetch, folder, local_exchange
):
    code, out, _ = fetch("start=2017-01-01", "end=2017-10-01", "timeframe=1d")
    assert code == 0
    assert "no bars in 2017-01, 2017-02, … 2017-07 (7 months)" in out
    expect(folder, local_exchange, "2017-08-17", "2017-10-01", 86_400)
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


def test_holes_of_the_exchange_stay_holes(fetch, folder, local_exchange):
    at = int(pd.Timestamp("2024-12-05T03:00", tz="UTC").timestamp())
    local_exchange.holes = [(at, at + 5 * 3600), (at + 86_400, at + 86_400 + 3600)]
    fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")
    found = loaded(folder)
    assert [hole["missing_bars"] for hole in found.report.longest_holes] == [5, 1]
    assert len(found.time_ns) == 31 * 24 - 6


def repeat_rows(name, text):
    """The text of an archive with rows twice, out of order, and one with another volume."""
    rows = text.splitlines()
    cells = rows[7].split(b",")
    revised = b",".join([*cells[:5], b"99", *cells[6:]])
    return b"\n".join([*rows[:5], rows[3], *rows[5:9], revised, *rows[9:], rows[4]]) + b"\n"


def test_repeated_rows_are_dropped_and_counted(fetch, folder, local_exchange):
    local_exchange.change_text = repeat_rows
    code, out, _ = fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")
    assert code == 0
    assert "identical duplicates, dropped: 2" in out
    assert "duplicates with another volume, the first kept: 1" in out
    expect(folder, local_exchange, "2024-12-01", "2025-01-01", 3600)
    assert months(folder)["2024-12"].found["identical_duplicates"] == 2


def cut_and_shifted(name, text):
    """An outage: row 10 is cut short, rows 11 to 20 open 14 seconds too late."""
    rows = [row.split(b",") for row in text.splitlines()]
    rows[9][6] = b"%d" % (int(rows[9][0]) + 14_788)
    for row in rows[10:20]:
        row[0], row[6] = (b"%d" % (int(time) + 14_789) for time in (row[0], row[6]))
    return b"\n".join(b",".join(row) for row in rows)


def test_bars_that_an_outage_has_cut_or_shifted_become_a_hole(fetch, folder, local_exchange):
    local_exchange.change_text = cut_and_shifted
    code, out, _ = fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")
    assert code == 0
    assert "bars cut short by the exchange, left out: 1" in out
    assert "bars that open at odd seconds, left out: 10" in out
    assert [hole["missing_bars"] for hole in loaded(folder).report.longest_holes] == [11]


# The archive, behaving badly.


@pytest.mark.parametrize("kind", [429, 500, 503, "cut", "drop"])
@pytest.mark.parametrize("path", [r"2024-12\.zip$", "2024-12.zip.CHECKSUM"])
def test_a_failure_that_passes_is_not_noticed(fetch, folder, local_exchange, kind, path):
    local_exchange.break_down(path, kind)
    assert fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")[0] == 0
    expect(folder, local_exchange, "2024-12-01", "2025-01-01", 3600)


@pytest.mark.parametrize("kind", [500, "cut", "drop"])
def test_a_failure_that_stays_is_named_and_what_was_fetched_is_kept(
    fetch, folder, local_exchange, kind
):
    local_exchange.break_down(r"2025-01\.zip$", kind, times=99)
    words = ("start=2024-12-01", "end=2025-02-01", "timeframe=1h")
    code, _, err = fetch(*words)
    assert code == NETWORK
    last = err.splitlines()[-1]
    assert last.startswith(f"error: {local_exchange.url}/data/spot/monthly/klines/BTCUSDT/1h/")
    assert last.endswith("asked 3 times")
    expect(folder, local_exchange, "2024-12-01", "2025-01-01", 3600)
    local_exchange.faults.clear()
    code, out, _ = fetch(*words)
    assert (code, "fetched 1, there already 1" in out) == (0, True)
    expect(folder, local_exchange, "2024-12-01", "2025-02-01", 3600)


def test_a_server_that_is_away_is_named_and_leaves_nothing(fetch, tmp_path, local_exchange):
    with type(local_exchange)().running() as gone:
        pass
    code, _, err = fetch("start=2024-12-01", f"url={gone.url}")
    assert code == NETWORK
    assert "cannot be reached" in err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_checksum_that_passes_costs_a_second_fetch(fetch, folder, local_exchange):
    served = []

    def spoil_once(name, blob):
        served.append(name)
        return blob[:-1] if len(served) == 2 else blob

    local_exchange.change_zip = spoil_once
    assert fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")[0] == 0
    expect(folder, local_exchange, "2024-12-01", "2025-01-01", 3600)


def spoil_one_row(position, cells):
    """Changes of the text of January: the row at a position gets other cells."""

    def change(name, text):
        rows = text.splitlines()
        if name.endswith("2025-01"):
            parts = rows[position - 1].split(b",")
            for column, value in cells.items():
                parts[column] = value(parts[column]) if callable(value) else value
            rows[position - 1] = b",".join(parts)
        return b"\n".join(rows)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil_one_row(5, {2: b"0"}), r"row 5 \(2025-01-01T04:00:00.* a price is not above 0"),
        (spoil_one_row(5, {2: b"1.0"}), r"row 5 .*low is above high"),
        (spoil_one_row(5, {4: b""}), r"row 5 .*a value is missing"),
        (spoil_one_row(5, {5: b"-1"}), r"row 5 .*the volume is negative"),
        (spoil_one_row(5, {1: b"?"}), r"row 5 .*open='\?' is not a number"),
        (spoil_one_row(5, {0: b"soon"}), r"row 5: open_time='soon' is not a time"),
        (
            spoil_one_row(5, {0: b"1735700400000000", 6: b"1735703999999999"}),
            r"rows 4 and 5 .*two bars of one time",
        ),
        (
            spoil_one_row(5, {0: b"1717200000000", 6: b"1717203599999"}),
            r"1 bars outside 2025-01-01T",
        ),
        (lambda name, text: text[: text.rfind(b",")], r"cannot be read: .*Row #"),
        (lambda name, text: b"", r"cannot be read"),
    ],
)
def test_a_month_of_bad_bars_is_left_out_and_named_and_the_others_come(
    fetch, folder, local_exchange, change, message
):
    local_exchange.change_text = lambda name, text: (
        change(name, text) if name.endswith("2025-01") else text
    )
    code, _, err = fetch("start=2024-12-01", "end=2025-03-01", "timeframe=1h")
    assert code == NETWORK
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert re.search(rf"error: 2025-01: BTCUSDT-1h-2025-01\.(csv|zip)?.*{message}", line)
    assert list(months(folder)) == ["2024-12", "2025-02"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (lambda name: {f"{name}.csv": b"0" * 10**7}, "when unpacked"),
        (lambda name: {f"../../{name}.csv": b"x"}, r"holds \['../../"),
        (lambda name: {f"{name}.csv": b"x", "run.py": b"x"}, "holds"),
    ],
)
def test_a_hostile_archive_is_refused_though_its_checksum_is_right(
    fetch, folder, tmp_path, local_exchange, members, message
):
    pack = importlib.import_module("local_exchange").pack
    local_exchange.change_zip = lambda name, blob: pack(members(name))
    code, _, err = fetch("start=2025-01-01", "end=2025-02-01", "timeframe=1h")
    assert code == NETWORK
    assert re.search(rf"error: 2025-01: BTCUSDT-1h-2025-01.zip: .*{message}", err)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_with_a_wrong_checksum_stays_out(fetch, local_exchange):
    served = []

    def spoil_every_other(name, blob):
        served.append(name)
        return blob if len(served) % 2 else blob[:-1] + b"!"

    local_exchange.change_zip = spoil_every_other
    code, _, err = fetch("start=2025-01-01", "end=2025-02-01", "timeframe=1h")
    assert code == NETWORK
    assert re.search(r"2025-01.*wrong checksum.*asked 3 times", err)


# Clocks and partial bars.


def test_no_bar_is_taken_before_it_has_closed(fetch, folder, local_exchange):
    local_exchange.now_s += 17  # 12:34:47
    fetch(*BITSTAMP, "start=2025-03-10T10:00", "timeframe=5m")
    expect(folder, local_exchange, "2025-03-10T10:00", "2025-03-10T12:30", 300)
    local_exchange.now_s += 13 + 24  # 12:35:24
    fetch(*BITSTAMP, "start=2025-03-10T10:00", "timeframe=5m")
    expect(folder, local_exchange, "2025-03-10T10:00", "2025-03-10T12:35", 300)


@pytest.mark.parametrize(
    ("theirs_ahead_s", "last"),
    [(0, "12:34"), (3600, "12:34"), (-3600, "11:34"), (59, "12:34")],
)
def test_of_two_clocks_the_earlier_one_decides(
    fetch, folder, local_exchange, monkeypatch, theirs_ahead_s, last
):
    ours_s = local_exchange.now_s
    monkeypatch.setattr("time.time_ns", lambda: ours_s * 10**9)
    local_exchange.now_s += theirs_ahead_s
    code, _, err = fetch(*BITSTAMP, "start=2025-03-10T10:00", "timeframe=1m")
    assert code == 0
    assert months(folder)["2025-03"].end == f"2025-03-10T{last}:00+00:00"
    assert ("clock" in err) == (abs(theirs_ahead_s) > 60)


def test_a_server_without_a_clock_is_measured_by_ours(fetch, folder, local_exchange, monkeypatch):
    ours_s = local_exchange.now_s
    monkeypatch.setattr("time.time_ns", lambda: ours_s * 10**9)
    local_exchange.tells_time = False
    fetch(*BITSTAMP, "start=2025-03-10T10:00", "timeframe=1m")
    assert months(folder)["2025-03"].end == "2025-03-10T12:34:00+00:00"


def test_a_start_in_the_future_is_refused_and_leaves_nothing(fetch, tmp_path):
    code, _, err = fetch("start=2025-03-11")
    assert code == REFUSED
    assert "no bar has closed since; it is 2025-03-10T12:34:30" in err
    assert list(tmp_path.iterdir()) == []


# Folders.


def test_a_folder_of_another_market_is_refused_and_not_touched(fetch, folder):
    fetch("start=2025-01-01", "end=2025-02-01", "timeframe=1d")
    before = (folder / "manifest.json").read_bytes()
    code, _, err = fetch("start=2025-01-01", "timeframe=1d", "symbol=ETH/USDT")
    assert code == REFUSED
    assert "holds the bars of binance_vision binance BTC/USDT 1d" in err
    assert (folder / "manifest.json").read_bytes() == before


def test_a_file_in_the_place_of_the_folder_is_named(fetch, folder):
    folder.write_text("mine")
    code, _, err = fetch("start=2025-01-01", "timeframe=1d")
    assert (code, err) == (REFUSED, f"error: {folder}: File exists\n")
    assert folder.read_text() == "mine"


def test_a_folder_of_something_else_is_refused_and_not_touched(fetch, folder):
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    code, _, err = fetch("start=2025-01-01", "timeframe=1d")
    assert (code, "something else in it" in err) == (REFUSED, True)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", [".lock", "manifest.json", "2025-01.00000000.parquet"])
def test_nothing_is_written_through_a_link(fetch, folder, tmp_path, name):
    fetch("start=2025-01-01", "end=2025-02-01", "timeframe=1d")
    precious = tmp_path / "precious"
    precious.write_bytes((folder / "manifest.json").read_bytes())
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(precious)
    before = precious.read_bytes()
    code, _, err = fetch("start=2024-12-01", "timeframe=1d")
    assert (code, "symbolic link" in err) == (REFUSED, True)
    assert precious.read_bytes() == before


def test_a_damaged_month_is_fetched_again_by_the_same_command(fetch, folder, local_exchange):
    words = ("start=2024-12-01", "end=2025-02-01", "timeframe=1h")
    fetch(*words)
    files = sorted(folder.glob("*.parquet"))
    files[0].write_bytes(b"damaged")
    files[1].unlink()
    code, _, err = fetch("start=2025-01-01", "end=2025-02-01", "timeframe=1h")
    assert code == 0
    assert err.count("damaged or missing, fetched again") == 2
    expect(folder, local_exchange, "2024-12-01", "2025-02-01", 3600)


def test_a_damaged_month_that_cannot_be_fetched_again_does_not_become_a_hole(
    fetch, folder, local_exchange
):
    fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")
    next(folder.glob("*.parquet")).write_bytes(b"damaged")
    local_exchange.break_down(r"2024-12\.zip$", 500, times=99)
    assert fetch("start=2025-01-01", "end=2025-02-01", "timeframe=1h")[0] == NETWORK
    with pytest.raises(ValueError, match="damaged or changed"):
        loaded(folder)


def test_a_second_download_into_the_same_folder_is_refused(fetch, folder, local_exchange):
    fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")
    with FileLock(folder / ".lock"):
        code, _, err = fetch("start=2024-12-01", "end=2025-02-01", "timeframe=1h")
    assert (code, "another download is writing to this folder" in err) == (REFUSED, True)


def test_a_full_disk_is_named_and_leaves_whole_months(fetch, folder, monkeypatch, local_exchange):
    fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = fetch("start=2024-12-01", "end=2025-02-01", "timeframe=1h")
    assert (code, "No space left" in err) == (DISK, True)
    monkeypatch.undo()
    expect(folder, local_exchange, "2024-12-01", "2025-01-01", 3600)
    assert not [path for path in folder.iterdir() if path.name.endswith(".unfinished")]


# Ends of the program. The download runs in a forked process, so that nothing is imported again.


def end_in_fork(run, words, before):
    """Let a process of its own do `before` with its number, then the download: its exit code."""

    def child():
        # A job that a shell has put into the background is born deaf to it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before(os.getpid())
        raise SystemExit(run(*words)[0])

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    return process.exitcode


def test_ctrl_c_leaves_whole_months_and_the_same_command_goes_on(fetch, folder, local_exchange):
    words = ("start=2024-12-01", "end=2025-02-01", "timeframe=1h")
    pids, (sender, receiver) = [], multiprocessing.Pipe()

    def interrupt(name, text):
        if name.endswith("2025-01") and not pids:
            pids.append(receiver.recv())
            os.kill(pids[0], signal.SIGINT)
            time.sleep(0.2)  # the client is waiting for this answer
        return text

    local_exchange.change_text = interrupt
    assert end_in_fork(fetch, words, sender.send) == INTERRUPTED
    assert list(months(folder)) == ["2024-12"]
    expect(folder, local_exchange, "2024-12-01", "2025-01-01", 3600)
    assert "fetched 1, there already 1" in fetch(*words)[1]
    expect(folder, local_exchange, "2024-12-01", "2025-02-01", 3600)


def killed_at(call, after):
    """A `before` that kills its process at so many renames and removals, or right after them."""

    def install(pid):
        left = [call]

        def lethal(original):
            def step(path, *args, **kwargs):
                left[0] -= 1
                if left[0] == 0 and not after:
                    os.kill(pid, signal.SIGKILL)
                value = original(path, *args, **kwargs)
                if left[0] == 0:
                    os.kill(pid, signal.SIGKILL)
                return value

            return step

        for name in ("replace", "unlink"):
            setattr(Path, name, lethal(getattr(Path, name)))

    return install


@pytest.mark.parametrize("after", [False, True])
def test_whenever_it_is_killed_the_folder_loads_and_the_same_command_goes_on(
    fetch, tmp_path, local_exchange, after
):
    have = tmp_path / "have"
    fetch("start=2025-01-10", "end=2025-01-20", "timeframe=1h", f"out={have}")
    spans, kills = set(), 0
    for call in range(1, 20):
        folder = tmp_path / f"kill{call}"
        shutil.copytree(have, folder)
        words = ("start=2025-01-05", "end=2025-02-02", "timeframe=1h", f"out={folder}")
        code = end_in_fork(fetch, words, killed_at(call, after))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        found = loaded(folder)  # whole, whatever was under way
        spans.add(len(found.time_ns))
        assert fetch(*words)[0] == 0
        expect(folder, local_exchange, "2025-01-05", "2025-02-02", 3600)
        assert not [path for path in folder.iterdir() if path.name.endswith(".unfinished")]
        assert len(list(folder.glob("*.parquet"))) == 2
    assert kills >= 5
    assert spans <= {10 * 24, 27 * 24, 28 * 24}
    assert len(spans) >= 2
