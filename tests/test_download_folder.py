"""The folder of a download: nobody else's is touched, damage is mended, a killed one is whole."""

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from filelock import FileLock

from fetched_bars import expect, loaded, months
from pipelines.exit_codes import DISK, INTERRUPTED, NETWORK, REFUSED


def test_a_folder_of_another_market_is_refused_and_not_touched(fetch, bar_folder):
    fetch("start=2025-01-01", "end=2025-02-01", "timeframe=1d")
    before = (bar_folder / "manifest.json").read_bytes()
    code, _, err = fetch("start=2025-01-01", "timeframe=1d", "symbol=ETH/USDT")
    assert code == REFUSED
    assert "holds the bars of binance_vision binance BTC/USDT 1d" in err
    assert (bar_folder / "manifest.json").read_bytes() == before


def test_a_file_in_the_place_of_the_folder_is_named(fetch, bar_folder):
    bar_folder.write_text("mine")
    code, _, err = fetch("start=2025-01-01", "timeframe=1d")
    assert (code, err) == (REFUSED, f"error: {bar_folder}: File exists\n")
    assert bar_folder.read_text() == "mine"


def test_a_folder_of_something_else_is_refused_and_not_touched(fetch, bar_folder):
    bar_folder.mkdir()
    (bar_folder / "thesis.tex").write_text("mine")
    code, _, err = fetch("start=2025-01-01", "timeframe=1d")
    assert (code, "something else in it" in err) == (REFUSED, True)
    assert [path.name for path in bar_folder.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", [".lock", "manifest.json", "2025-01.00000000.parquet"])
def test_nothing_is_written_through_a_link(fetch, bar_folder, tmp_path, name):
    fetch("start=2025-01-01", "end=2025-02-01", "timeframe=1d")
    precious = tmp_path / "precious"
    precious.write_bytes((bar_folder / "manifest.json").read_bytes())
    (bar_folder / name).unlink(missing_ok=True)
    (bar_folder / name).symlink_to(precious)
    before = precious.read_bytes()
    code, _, err = fetch("start=2024-12-01", "timeframe=1d")
    assert (code, "symbolic link" in err) == (REFUSED, True)
    assert precious.read_bytes() == before


def test_a_damaged_month_is_fetched_again_by_the_same_command(fetch, bar_folder, local_exchange):
    words = ("start=2024-12-01", "end=2025-02-01", "timeframe=1h")
    fetch(*words)
    files = sorted(bar_folder.glob("*.parquet"))
    files[0].write_bytes(b"damaged")
    files[1].unlink()
    code, _, err = fetch("start=2025-01-01", "end=2025-02-01", "timeframe=1h")
    assert code == 0
    assert err.count("damaged or missing, fetched again") == 2
    expect(bar_folder, local_exchange, "2024-12-01", "2025-02-01", 3600)


def test_a_damaged_month_that_cannot_be_fetched_again_does_not_become_a_hole(
    fetch, bar_folder, local_exchange
):
    fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")
    next(bar_folder.glob("*.parquet")).write_bytes(b"damaged")
    local_exchange.break_down(r"2024-12\.zip$", 500, times=99)
    assert fetch("start=2025-01-01", "end=2025-02-01", "timeframe=1h")[0] == NETWORK
    with pytest.raises(ValueError, match="damaged or changed"):
        loaded(bar_folder)


def test_a_second_download_into_the_same_folder_is_refused(fetch, bar_folder, local_exchange):
    fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")
    with FileLock(bar_folder / ".lock"):
        code, _, err = fetch("start=2024-12-01", "end=2025-02-01", "timeframe=1h")
    assert (code, "another download is writing to this folder" in err) == (REFUSED, True)


def test_a_full_disk_is_named_and_leaves_whole_months(
    fetch, bar_folder, monkeypatch, local_exchange
):
    fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = fetch("start=2024-12-01", "end=2025-02-01", "timeframe=1h")
    assert (code, "No space left" in err) == (DISK, True)
    monkeypatch.undo()
    expect(bar_folder, local_exchange, "2024-12-01", "2025-01-01", 3600)
    assert not [path for path in bar_folder.iterdir() if path.name.endswith(".unfinished")]


def test_a_disk_that_is_full_from_the_start_is_no_mistake_of_the_person(
    fetch, tmp_path, monkeypatch, local_exchange
):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")
    assert (code, "No space left" in err) == (DISK, True)


@pytest.mark.parametrize("out", ["notes.txt", "notes.txt/bars"])
def test_a_folder_that_cannot_be_one_is_refused(fetch, tmp_path, out):
    (tmp_path / "notes.txt").write_text("not bars")
    code, _, err = fetch("start=2024-12-01", f"out={tmp_path / out}")
    assert (code, "notes.txt" in err) == (REFUSED, True)


def end_in_fork(run, words, before):
    """Let a process of its own do `before` with its number, then the download: its exit code.

    It is a forked one, so that nothing is imported again.
    """

    def child():
        # A job that a shell has put into the background is born deaf to it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before(os.getpid())
        raise SystemExit(run(*words)[0])

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    return process.exitcode


def test_ctrl_c_leaves_whole_months_and_the_same_command_goes_on(fetch, bar_folder, local_exchange):
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
    assert list(months(bar_folder)) == ["2024-12"]
    expect(bar_folder, local_exchange, "2024-12-01", "2025-01-01", 3600)
    assert "fetched 1, there already 1" in fetch(*words)[1]
    expect(bar_folder, local_exchange, "2024-12-01", "2025-02-01", 3600)


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
