"""Downloads from an archive that behaves badly: failures, wrong checksums, bad bars."""

import re

import pytest

from fetched_bars import expect, months
from local_exchange import pack
from pipelines.exit_codes import NETWORK


@pytest.mark.parametrize("kind", [429, 500, 503, "cut", "drop"])
@pytest.mark.parametrize("path", [r"2024-12\.zip$", "2024-12.zip.CHECKSUM"])
def test_a_failure_that_passes_is_not_noticed(fetch, bar_folder, local_exchange, kind, path):
    local_exchange.break_down(path, kind)
    assert fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")[0] == 0
    expect(bar_folder, local_exchange, "2024-12-01", "2025-01-01", 3600)


@pytest.mark.parametrize("kind", [500, "cut", "drop"])
def test_a_failure_that_stays_is_named_and_what_was_fetched_is_kept(
    fetch, bar_folder, local_exchange, kind
):
    local_exchange.break_down(r"2025-01\.zip$", kind, times=99)
    words = ("start=2024-12-01", "end=2025-02-01", "timeframe=1h")
    code, _, err = fetch(*words)
    assert code == NETWORK
    last = err.splitlines()[-1]
    assert last.startswith(f"error: {local_exchange.url}/data/spot/monthly/klines/BTCUSDT/1h/")
    assert last.endswith("asked 3 times")
    expect(bar_folder, local_exchange, "2024-12-01", "2025-01-01", 3600)
    local_exchange.faults.clear()
    code, out, _ = fetch(*words)
    assert (code, "fetched 1, there already 1" in out) == (0, True)
    expect(bar_folder, local_exchange, "2024-12-01", "2025-02-01", 3600)


def test_a_server_that_is_away_is_named_and_leaves_nothing(fetch, tmp_path, local_exchange):
    with type(local_exchange)().running() as gone:
        pass
    code, _, err = fetch("start=2024-12-01", f"url={gone.url}")
    assert code == NETWORK
    assert "cannot be reached" in err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_checksum_that_passes_costs_a_second_fetch(fetch, bar_folder, local_exchange):
    served = []

    def spoil_once(name, blob):
        served.append(name)
        return blob[:-1] if len(served) == 2 else blob

    local_exchange.change_zip = spoil_once
    assert fetch("start=2024-12-01", "end=2025-01-01", "timeframe=1h")[0] == 0
    expect(bar_folder, local_exchange, "2024-12-01", "2025-01-01", 3600)


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
    fetch, bar_folder, local_exchange, change, message
):
    local_exchange.change_text = lambda name, text: (
        change(name, text) if name.endswith("2025-01") else text
    )
    code, _, err = fetch("start=2024-12-01", "end=2025-03-01", "timeframe=1h")
    assert code == NETWORK
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert re.search(rf"error: 2025-01: BTCUSDT-1h-2025-01\.(csv|zip)?.*{message}", line)
    assert list(months(bar_folder)) == ["2024-12", "2025-02"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (lambda name: {f"{name}.csv": b"0" * 10**7}, "when unpacked"),
        (lambda name: {f"../../{name}.csv": b"x"}, r"holds \['../../"),
        (lambda name: {f"{name}.csv": b"x", "run.py": b"x"}, "holds"),
    ],
)
def test_a_hostile_archive_is_refused_though_its_checksum_is_right(
    fetch, bar_folder, tmp_path, local_exchange, members, message
):
    local_exchange.change_zip = lambda name, blob: pack(members(name))
    code, _, err = fetch("start=2025-01-01", "end=2025-02-01", "timeframe=1h")
    assert code == NETWORK
    assert re.search(rf"error: 2025-01: BTCUSDT-1h-2025-01.zip: .*{message}", err)
    assert list(tmp_path.iterdir()) == []


def test_a_long_page_of_html_costs_its_month_alone(fetch, bar_folder, local_exchange):
    answer, page = local_exchange.answer, (200, "text/html", b"<html>" + b" " * 10_000)
    local_exchange.answer = lambda path: page if "2025-01.zip" in path else answer(path)
    code, _, err = fetch("start=2024-12-01", "end=2025-03-01", "timeframe=1h")
    assert code == NETWORK
    assert re.search(r"error: 2025-01: .*CHECKSUM: longer than 4,096 .*asked 3 times", err)
    assert list(months(bar_folder)) == ["2024-12", "2025-02"]


def test_a_day_that_is_away_when_its_month_goes_on_takes_no_bars_with_it(
    fetch, bar_folder, local_exchange
):
    fetch("start=2025-03-01", "end=2025-03-05T12:00", "timeframe=1h")
    local_exchange.break_down(r"2025-03-05\.zip", 404)
    fetch("start=2025-03-01", "timeframe=1h")
    expect(bar_folder, local_exchange, "2025-03-01", "2025-03-05T12:00", 3600)
    fetch("start=2025-03-01", "timeframe=1h")
    expect(bar_folder, local_exchange, "2025-03-01", "2025-03-10", 3600)


def test_an_archive_with_a_wrong_checksum_stays_out(fetch, local_exchange):
    served = []

    def spoil_every_other(name, blob):
        served.append(name)
        return blob if len(served) % 2 else blob[:-1] + b"!"

    local_exchange.change_zip = spoil_every_other
    code, _, err = fetch("start=2025-01-01", "end=2025-02-01", "timeframe=1h")
    assert code == NETWORK
    assert re.search(r"2025-01.*wrong checksum.*asked 3 times", err)
