"""The audit's own reading of the rules: hand tables for its numbers, and that it shares no code."""

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs.bars import load_bars
from envs.config import EnvConfig
from envs.data_config import DataConfig
from pipelines.auditing.double_entry import Account, Order, Prices, Steps, Terms
from pipelines.auditing.price_file import PriceFile, read_prices

AUDITING = Path(__file__).resolve().parents[1] / "pipelines" / "auditing"
LEDGER = ("double_entry", "price_file", "audit_rows", "audit_order", "audit_rules", "trace_audit")
FLAT = Order(0, 1.0, 100.0, 0.0)


@pytest.mark.parametrize("name", LEDGER)
def test_the_ledger_imports_nothing_but_itself(name):
    tree = ast.parse((AUDITING / f"{name}.py").read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {
        a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names
    }
    own = {f"pipelines.auditing.{other}" for other in LEDGER}
    foreign = {"envs", "modules", "pipelines", "configs", "torch", "tensordict", "importlib"}
    assert {m for m in modules - own if str(m).split(".")[0] in foreign} == set()


def account(**params):
    cfg = EnvConfig(paths=1, accounts=1, workers=0, **params)
    return Account(Terms(dataclasses.asdict(cfg), 60.0))


def live(book, order, opens, high, low, close, *, last=False, volume=1e9):
    return book.live(order, Prices(opens, high, low, close, volume), last=last)


def test_an_entry_by_hand():
    book = account()
    step = live(book, Order(1, 1.0, 100.0, 2.0), 10_000.0, 10_010.0, 9_990.0, 10_000.0)
    (fill,) = step.fills
    assert fill.price == 10_005.0  # 5 bps
    assert step.requested == pytest.approx(1_000 / 100.05)
    assert fill.units == 9.99500249  # floored at 8 decimals
    assert fill.fee == pytest.approx(fill.units * 10_005.0 * 5e-4)
    assert book.cash == pytest.approx(100_000 - fill.units * 10_005.0 - fill.fee)
    assert (book.stop, book.target) == (9_904.9, 10_205.1)


@pytest.mark.parametrize(
    ("low", "opens", "price"),
    [(9_904.9, 10_000.0, 9_899.9), (9_000.0, 10_000.0, 9_899.9), (9_000.0, 9_900.0, 9_895.0)],
)
def test_a_stop_by_hand(low, opens, price):
    book = account()
    live(book, Order(1, 1.0, 100.0, 2.0), 10_000.0, 10_010.0, 9_990.0, 10_000.0)
    step = live(book, Order(1, 1.0, 100.0, 2.0), opens, 10_300.0, low, 10_000.0)
    assert [fill.reason for fill in step.fills] == ["stop"]  # before the take-profit
    assert step.fills[0].price == price


def test_a_take_profit_by_hand():
    for high, reasons in ((10_205.1, []), (10_205.2, ["take_profit"])):  # one tick beyond
        book = account()
        live(book, Order(1, 1.0, 100.0, 2.0), 10_000.0, 10_010.0, 9_990.0, 10_000.0)
        step = live(book, Order(1, 1.0, 100.0, 2.0), 10_000.0, high, 9_990.0, 10_000.0)
        assert [fill.reason for fill in step.fills] == reasons
        for fill in step.fills:
            assert fill.price == fill.reference == 10_205.1
            assert fill.fee == pytest.approx(abs(fill.units) * 10_205.1 * 2e-4)


def test_a_liquidation_by_hand_never_takes_more_than_the_equity():
    book = account(risk_pct=100.0, max_leverage=20.0, stop_step_bps=500.0)
    live(book, Order(1, 2.0, 5_000.0, 0.0), 10_000.0, 10_000.0, 10_000.0, 10_000.0)
    level = -book.cash / (book.position * 0.996)
    step = live(book, FLAT, 5_000.0, 5_000.0, 5_000.0, 5_000.0)
    assert step.fills[0].reason == "liquidation"
    assert step.fills[0].pricing == "R-MARGIN-3"
    assert step.fills[0].price > 5_000.0
    assert book.cash == pytest.approx(0.0, abs=1e-6)
    assert level > 5_000.0
    assert step.ruined


def test_a_short_that_flips_by_hand():
    book = account(funding_bps_per_day=100.0)
    live(book, Order(-1, 1.0, 100.0, 0.0), 10_000.0, 10_010.0, 9_990.0, 10_000.0)
    assert book.stop == 10_095.0  # 9,995 and 99.95 are 10,094.95
    step = live(book, Order(1, 1.0, 100.0, 0.0), 10_000.0, 10_010.0, 9_990.0, 10_000.0)
    assert [(fill.leg, fill.reason) for fill in step.fills] == [
        ("open_exit", "flip"),
        ("entry", ""),
    ]
    assert step.funding == pytest.approx(book.position * 10_000 * 0.01 / 1_440)


def test_grids():
    tenth, odd = Steps(0.1), Steps(0.3)
    assert (tenth.up(0.30000000000000004), tenth.down(0.29999999999)) == (0.3, 0.3)
    assert (tenth.up(0.31), tenth.down(0.39)) == (0.4, 0.3)
    assert (odd.up(0.7), odd.down(0.7)) == (pytest.approx(0.9), 0.6)


def test_a_missing_parameter_is_named():
    known = dataclasses.asdict(EnvConfig())
    del known["max_leverage"]
    with pytest.raises(ValueError, match="max_leverage"):
        Terms(known, 60.0)


# The price file ---------------------------------------------------------------------------------


def bars(count):
    rng = np.random.default_rng(count)
    close = 10_000 + rng.integers(-50, 51, count).cumsum() * 0.5
    opens = np.append(close[:1], close[:-1])
    high, low = np.maximum(opens, close) + 1, np.minimum(opens, close) - 1
    frame = pd.DataFrame({"Open": opens, "High": high, "Low": low, "Close": close})
    frame["Volume"] = rng.integers(1, 99, count) * 1.0
    times = pd.date_range("2024-02-28", periods=count, freq="15min")
    return frame, times


WRITINGS = {
    "naive": lambda t: t.astype(str),
    "zone": lambda t: t.tz_localize("UTC").tz_convert("Asia/Tokyo").map(lambda x: x.isoformat()),
    "utc": lambda t: t.strftime("%Y-%m-%d %H:%M:%S UTC"),
    "seconds": lambda t: t.as_unit("s").astype("int64"),
    "milliseconds": lambda t: t.as_unit("ms").astype("int64"),
    "nanoseconds": lambda t: t.as_unit("ns").astype("int64"),
}


@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("newest_first", [False, True])
def test_it_reads_the_bars_that_the_loader_reads(writing, newest_first, tmp_path):
    frame, times = bars(500)
    frame.insert(0, "Date", WRITINGS[writing](times))
    frame = pd.concat([frame.drop(index=[50, 51, 120, *range(300, 320)]), frame.iloc[-3:]])
    path = tmp_path / "bars.csv"
    (frame[::-1] if newest_first else frame).to_csv(path, index=False)
    same_bars(path)


@pytest.mark.parametrize("name", ["timestamp", None])
def test_it_reads_parquet_with_a_time_index(name, tmp_path):
    frame, times = bars(300)
    frame.index = times.rename(name)
    path = tmp_path / "bars.parquet"
    frame.drop(index=times[[7, 8, *range(100, 110)]]).to_parquet(path)
    same_bars(path)


@pytest.mark.parametrize(
    "form", ["index and column", "numbers as text", "days as text", "days with points"]
)
def test_it_reads_the_parquet_that_the_loader_reads(form, tmp_path):
    frame, times = bars(300)
    if form.startswith("days"):
        times = pd.date_range("2023-01-01", periods=300, freq="1D")
    texts = {"numbers as text": times.as_unit("ms").astype("int64").astype(str)}
    texts["days as text"] = times.strftime("%Y%m%d")
    texts["days with points"] = times.strftime("%Y.%m.%d")
    frame.insert(0, "time", texts.get(form, times))
    if form == "index and column":
        frame.index = times.rename("time")
    path = tmp_path / "bars.parquet"
    frame.drop(index=frame.index[[7, 8, *range(100, 110)]]).to_parquet(path)
    same_bars(path)


def same_bars(path):
    loaded = load_bars(DataConfig(path=str(path)))
    read = read_prices(path, round(loaded.interval_s * 1e9), 3)
    np.testing.assert_array_equal(read.time_ns, loaded.time_ns)
    np.testing.assert_array_equal(read.ohlcv, loaded.ohlcv)
    for segment in np.unique(loaded.segment):
        rows = np.flatnonzero(loaded.segment == segment)
        assert set(read.first[rows]) == {rows[0]}
        assert set(read.last[rows]) == {rows[-1]}
    assert len(np.unique(loaded.segment)) > 1
    assert read.find(loaded.time_ns[[5, 9]]).tolist() == [5, 9]
    assert read.find(loaded.time_ns[[5]] + 1).tolist() == [-1]
    assert read.find(loaded.time_ns[-1:] + 1).tolist() == [-1]


def test_markets_end_to_end_keep_their_own_times_bars_and_segments(tmp_path):
    markets = {}
    for name, count, hole in (("A", 60, 20), ("B", 90, 50), ("C", 40, 10)):
        frame, times = bars(count)
        frame.insert(0, "time", times)
        path = tmp_path / f"{name}.csv"
        frame.drop(index=range(hole, hole + 9)).to_csv(path, index=False)
        markets[name] = read_prices(path, 900 * 10**9, 3)
    joined, before = PriceFile.join(markets), 0
    for name, market in markets.items():
        count = len(market.time_ns)
        rows = joined.find(market.time_ns, [name] * count)
        assert rows.tolist() == list(range(before, before + count))
        np.testing.assert_array_equal(joined.time_ns[rows], market.time_ns)
        np.testing.assert_array_equal(joined.ohlcv[rows], market.ohlcv)
        np.testing.assert_array_equal(joined.first[rows], market.first + before)
        np.testing.assert_array_equal(joined.last[rows], market.last + before)
        assert len(set(market.first)) == 2
        before += count
    assert len(joined.time_ns) == before
    late = markets["B"].time_ns[-1:]  # when only B has bars
    assert [joined.find(late, [name])[0] >= 0 for name in "ABC"] == [False, True, False]
    assert joined.find(markets["A"].time_ns[:2], ["X", None]).tolist() == [-1, -1]


def test_a_file_without_prices_is_refused(tmp_path):
    path = tmp_path / "bars.csv"
    path.write_text("time,open,high,low,close\n1,1,1,1,1\n")
    with pytest.raises(ValueError, match="no column volume"):
        read_prices(path, 60, 3)
    path.write_text("time,open,high,low,close,volume\n1,1,1,1,,1\n")
    with pytest.raises(ValueError, match="missing"):
        read_prices(path, 60, 3)
