"""The audit of a trace: clean ones pass, and whatever is wrong with one is found where it is."""

import csv
import dataclasses
import inspect
import json
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tensordict import TensorDict

import envs.fills
import envs.market
import envs.simulator
from envs.bars import DataConfig
from envs.config import EnvConfig
from envs.ledger import HEADS
from envs.market import MarketEnv
from envs.table import BarTable, build_table
from envs.trace import COLUMNS, TraceWriter, pack_trace
from pipelines.audit import main
from pipelines.auditing.audit_report import explain
from pipelines.auditing.audit_rows import DoesNotAddUp, Finding, Row
from pipelines.auditing.trace_audit import audit_trace
from pipelines.config import compose_config
from pipelines.held_out.rollout import play_tiles, split_tiles

STEPS = 100
UNKNOWN = ("log_prob", "state_value")  # only the policy knows
BASE = EnvConfig(paths=2, accounts=6, workers=0, window=4, episode_bars=30)
FREE = dict.fromkeys(
    ("taker_fee_bps", "maker_fee_bps", "slippage_bps", "stop_slippage_bps"), 0.0
) | {"allow_zero_costs": True}
WILD = {"risk_pct": 100.0, "max_leverage": 30.0, "stop_step_bps": 140.0}
CONFIGS = {
    "defaults": {},
    "trailing": {"trailing": True, "stop_step_bps": 60.0},
    "funding": {"funding_bps_per_day": 100.0, "max_participation": 0.05},
    "ruin": WILD,
    "ruin, trailing": WILD | {"trailing": True, "funding_bps_per_day": 40.0},
    "free": FREE,
    "free and wild": FREE | WILD | {"ruin_equity_frac": 0.5},
    "coarse": {"lot_size": 0.25, "max_units": 3.0, "min_units": 1.0, "initial_cash": 25_000.0},
    "penalties": {"drawdown_penalty": 0.5, "turnover_penalty": 0.01, "reward_scale": 10.0},
    "touch": {"tp_through_ticks": 0.0, "taker_fee_bps": 1.0, "stop_slippage_bps": 8.0},
    "through": {"tp_through_ticks": 4.0, "maintenance_margin_rate": 0.02, "max_leverage": 20.0},
    "tick": {"tick_size": 0.25, "slippage_bps": 0.7, "take_profit_r": [0.0, 0.5, 80.0]},
    "rich": {"initial_cash": 3e9, "max_leverage": 20.0, "risk_pct": 30.0},
    "flatten": {"flatten_at_end": True, "trailing": True},
    "all": WILD | {"funding_bps_per_day": 100.0, "max_participation": 4.0, "trailing": True,
                   "drawdown_penalty": 0.3, "turnover_penalty": 0.1},
}  # fmt: skip


def draw_bars(count, seed):
    """Bars on the tick of 0.1 with gaps, wicks, closes that repeat and bars without volume."""
    rng = np.random.default_rng(seed)
    steps = np.where(
        rng.random(count) < 0.8, rng.normal(0, 0.002, count), rng.normal(0, 0.03, count)
    )
    close = 10_000 * np.exp(np.cumsum(steps * (rng.random(count) < 0.9)))
    gap = np.exp(np.where(rng.random(count) < 0.15, rng.normal(0, 0.04, count), 0))
    opens = np.concatenate([close[:1], close[:-1]]) * gap
    wicks = rng.exponential(np.where(rng.random((2, count)) < 0.85, 0.001, 0.03))
    high, low = np.maximum(opens, close) * (1 + wicks[0]), np.minimum(opens, close) / (1 + wicks[1])
    prices = np.round(np.stack([opens, high, low, close], -1) * 10) / 10
    volume = rng.exponential(100, count) * (rng.random(count) < 0.8)
    return np.concatenate([prices, volume[:, None]], -1)


def read_rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def make_policy(cfg, seed):
    """Random actions that often keep their direction, and never look at anything."""
    rng, kept = np.random.default_rng(seed), {}

    def policy(td):
        shape = tuple(td.batch_size)
        heads = {h: torch.from_numpy(rng.integers(0, n, shape)) for h, n in cfg.num_actions.items()}
        if "direction" in kept:
            keep = torch.from_numpy(rng.random(shape) < 0.7)
            heads["direction"] = torch.where(keep, kept["direction"], heads["direction"])
        kept["direction"] = heads["direction"]
        td["action"] = TensorDict({h: heads[h] for h in HEADS}, shape)
        return td

    return policy


def write_prices(table, path):
    frame = pd.DataFrame(table.ohlcv.numpy(), columns=["open", "high", "low", "close", "volume"])
    frame.insert(0, "timestamp", pd.to_datetime(table.timestamp.numpy(), utc=True))
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


def make_trace(folder, *, suffix=".csv", lanes=None, parts=1, seed=0, **params):
    """A training trace and its price file: (trace, prices)."""
    cfg = dataclasses.replace(BASE, **params)
    table = BarTable.from_arrays(draw_bars(160, seed), interval_s=3_600.0)
    prices = write_prices(table, folder / f"bars{suffix}")
    env = MarketEnv(table, cfg, seed=seed)
    played = env.rollout(STEPS, make_policy(cfg, seed), break_when_any_done=False)
    trace = folder / "train_actions.csv"
    with TraceWriter(trace, table, cfg, run_id="r", split="train", lanes=lanes) as writer:
        for part in played.split(STEPS // parts, dim=-1):
            writer.write(part)
    return (pack_trace(trace) if suffix == ".parquet" else trace), prices


def make_replay(folder, **params):
    """A replay of several tiles with a ruin among them, and its price file."""
    cfg = dataclasses.replace(BASE, episode_bars=20, flatten_at_end=True, **params)
    table = BarTable.from_arrays(draw_bars(160, 4), interval_s=3_600.0)
    prices = write_prices(table, folder / "bars.csv")
    played = play_tiles(table, cfg, split_tiles(table, cfg, "test"), make_policy(cfg, 4))
    trace = folder / "replay_actions.csv"
    with TraceWriter(trace, table, cfg, run_id="r", split="test") as writer:
        writer.write(played.batch, played.alive)
    return trace, prices


@pytest.mark.parametrize("name", CONFIGS)
def test_a_training_trace_adds_up(name, tmp_path):
    totals = audit_trace(*make_trace(tmp_path, seed=sum(map(ord, name)), **CONFIGS[name]))
    assert (totals.rows, totals.lanes, totals.notes) == (STEPS * BASE.lanes, BASE.lanes, [])
    assert abs(totals.difference) < 0.005
    assert totals.fills["entry"] > 100
    assert totals.episodes > BASE.lanes
    if "ruin" in name:
        assert totals.ruined > 0
        assert totals.fills["liquidation"] > 0


@pytest.mark.parametrize("params", [{}, WILD, {"trailing": True, "funding_bps_per_day": 9.0}])
def test_a_replay_of_tiles_adds_up(params, tmp_path):
    totals = audit_trace(*make_replay(tmp_path, **params))
    assert totals.lanes == totals.episodes == 8
    assert totals.fills["end"] > 0
    assert totals.truncated + totals.ruined == 8
    assert (totals.ruined > 0) == (params is WILD)


def test_parquet_thinned_lanes_and_several_batches_add_up(tmp_path):
    kept = [1, 4, 11]
    totals = audit_trace(*make_trace(tmp_path, suffix=".parquet", lanes=kept, parts=5, **WILD))
    assert (totals.rows, totals.lanes) == (STEPS * 3, 3)
    assert totals.ruined > 0


def test_short_holes_long_holes_and_quotes_of_a_file_are_understood(tmp_path):
    times = pd.date_range("2025-01-01", periods=3_000, freq="1min", tz="UTC")
    frame = pd.DataFrame(draw_bars(3_000, 8), columns=["open", "high", "low", "close", "volume"])
    frame.insert(0, "time", times)
    frame = frame.drop(index=[*range(500, 503), *range(600, 1500, 7), *range(1_600, 1_610)])
    quote = frame.iloc[[520]].assign(time=frame["time"].iloc[520] + pd.Timedelta("17s"), volume=0.0)
    quote[["open", "high", "low"]] = quote[["close"]].to_numpy().repeat(3, 1)
    frame = pd.concat([frame.iloc[:521], quote, frame.iloc[521:], frame.iloc[-5:]])
    prices = tmp_path / "bars.csv"
    frame.to_csv(prices, index=False)
    cfg = dataclasses.replace(BASE, paths=6, accounts=2, max_participation=0.1)
    table = build_table(DataConfig(path=str(prices)), window=4, episode_bars=30)
    assert table.meta.report["holes"] == 1
    assert table.meta.report["forming_bars"] == 1
    env = MarketEnv(table, cfg, seed=3)
    played = env.rollout(STEPS, make_policy(cfg, 3), break_when_any_done=False)
    trace = tmp_path / "train_actions.csv"
    with TraceWriter(trace, table, cfg, run_id="r", split="train") as writer:
        writer.write(played)
    assert audit_trace(trace, prices).rows == STEPS * 12
    with pytest.raises(DoesNotAddUp) as caught:  # without the filled bars the times do not follow
        audit_trace(trace, prices, fill_gap_bars=0)
    assert caught.value.finding.column == "timestamp"


# Cells that were changed --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A trace in which everything happens: its rows, and (trace, prices)."""
    trace, prices = make_trace(tmp_path_factory.mktemp("clean"), seed=5, **CONFIGS["all"])
    return read_rows(trace), trace, prices


def audit_changed(rows, clean, folder, **simulator):
    """What the audit finds in changed rows; `simulator` changes parameters beside them."""
    about = json.loads(clean[1].with_suffix(".json").read_text())
    about["simulator"] |= simulator
    trace = folder / "changed.csv"
    trace.with_suffix(".json").write_text(json.dumps(about))
    with trace.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(DoesNotAddUp) as caught:
        audit_trace(trace, clean[2])
    return caught.value.finding


def changed(column, text):
    """Another value of a cell, hardly different if it is a number."""
    if column in ("run_id", "split", "asset"):
        return f"{text}x"
    if column == "timestamp":
        return (pd.Timestamp(text) + pd.Timedelta("1h")).strftime("%Y-%m-%dT%H:%M:%SZ")
    if column in ("terminated", "truncated"):
        return {"true": "false", "false": "true"}[text]
    if column.endswith("reason"):
        return "stop" if text != "stop" else "take_profit"
    if column in (*HEADS, "direction_value"):
        return str(int(text) - 1) if int(text) > 0 else str(int(text) + 1)
    if column in ("env_frame", "lane", "episode", "step"):
        return str(int(text) + 1)
    return repr(float(text) * (1 + 1e-7) + 1e-6)


SHOWN_BY = dict(
    zip(
        HEADS,
        ("direction_value", "risk_multiple", "stop_distance_bps", "take_profit_r"),
        strict=True,
    )
)


@pytest.mark.parametrize("column", [c for c in COLUMNS if c not in UNKNOWN])
@pytest.mark.parametrize("start", [0, 700])
def test_one_changed_cell_is_found_at_its_row_and_column(column, start, clean, tmp_path):
    rows = [dict(row) for row in clean[0]]
    if start == 0 and column in ("env_frame", "timestamp"):
        start = 12  # nothing says with which frame and bar a trace begins
    at = next(i for i in range(start, len(rows)) if rows[i][column] != "")
    rows[at][column] = changed(column, rows[at][column])
    finding = audit_changed(rows, clean, tmp_path)
    assert (finding.row, finding.column) == (at + 1, SHOWN_BY.get(column, column))
    assert finding.rule.startswith("R-")


OPTIONAL = [c for c in COLUMNS if c.endswith(("_units", "_price", "_reason"))]


@pytest.mark.parametrize("column", OPTIONAL)
def test_a_cell_that_was_emptied_or_invented_is_found(column, clean, tmp_path):
    for invent in (False, True):
        rows = [dict(row) for row in clean[0]]
        at = next(i for i in range(300, len(rows)) if (rows[i][column] == "") == invent)
        rows[at][column] = ("stop" if "reason" in column else "1.5") if invent else ""
        finding = audit_changed(rows, clean, tmp_path)
        assert (finding.row, finding.column) == (at + 1, column)


@pytest.mark.parametrize("column", [c for c in COLUMNS if c not in (*OPTIONAL, *UNKNOWN)])
def test_a_cell_that_must_not_be_empty_is_found(column, clean, tmp_path):
    rows = [dict(row) for row in clean[0]]
    rows[300][column] = ""
    finding = audit_changed(rows, clean, tmp_path)
    assert (finding.row, finding.column) == (301, column)


@pytest.mark.parametrize("value", ["true", "false"])
def test_endings_that_were_changed_are_found(value, clean, tmp_path):
    for column in ("terminated", "truncated"):
        rows = [dict(row) for row in clean[0]]
        at = next(i for i in range(200, len(rows)) if rows[i][column] == value)
        rows[at][column] = changed(column, value)
        finding = audit_changed(rows, clean, tmp_path)
        assert (finding.row, finding.column) == (at + 1, column)


def test_a_row_that_is_missing_doubled_or_out_of_order_is_found(clean, tmp_path):
    rows = clean[0]
    for wrong, at in (
        (rows[:500] + rows[501:], 500),
        (rows[:501] + rows[500:], 501),
        ([*rows[:500], rows[501], rows[500], *rows[502:]], 500),
        (rows[:5] + rows[6:], 5),
        (rows[:500] + rows[512:], 500),
    ):
        finding = audit_changed(wrong, clean, tmp_path)
        assert (finding.row, finding.column) == (at + 1, "env_frame")


@pytest.mark.parametrize(
    ("key", "value", "column"),
    [
        ("taker_fee_bps", 4.9, "fee"),
        ("funding_bps_per_day", 99.0, "funding"),
        ("max_participation", 3.9, "entry_units"),
        ("maintenance_margin_rate", 0.01, None),
        ("trailing", False, "stop_price"),
        ("reward_scale", 101.0, "reward"),
        ("episode_bars", 31, None),
        ("initial_cash", 100_001.0, "requested_units"),
    ],
)
def test_parameters_that_were_not_the_run_s_are_found(key, value, column, clean, tmp_path):
    finding = audit_changed(clean[0], clean, tmp_path, **{key: value})
    assert column in (None, finding.column)


@pytest.mark.parametrize("params", [{}, WILD])
def test_a_tile_that_ends_too_early_or_not_at_all_is_found(params, tmp_path):
    trace, prices = make_replay(tmp_path, **params)
    rows = read_rows(trace)
    short = [row for row in rows if row["lane"] == "7"][-1]  # the last tile is cut by the data
    assert short["truncated"] == "true"
    assert int(short["step"]) < 19
    flat = next(i for i in range(60, 160) if float(rows[i]["position"]) == 0)
    held = next(i for i in range(60, 160) if float(rows[i]["position"]) != 0)
    for at, value in ((rows.index(short), "false"), (flat, "true"), (held, "true")):
        wrong = [dict(row) for row in rows]
        wrong[at]["truncated"] = value
        finding = audit_changed(wrong, (rows, trace, prices), tmp_path)
        assert (finding.row, finding.column) == (at + 1, "truncated")


# Faults of the simulator ----------------------------------------------------------------------

FAULTS = {
    "fills": [
        ("units.abs() * price * fee_rate", "units.abs() * price * fee_rate / 100"),
        ("units.abs() * price * fee_rate", "(-units).clamp_min(0.0) * price * fee_rate"),
        ("(1.0 + side * slippage)", "(1.0 - side * slippage)"),
        ("(1.0 + side * slippage)", "(1.0 + side.abs() * slippage)"),
        ("(1.0 + side * slippage), side)", "(1.0 + side * slippage), -side)"),
        ("(1.0 - side * margin_rate)", "(1.0 + side * margin_rate)"),
        ("(1.0 - side * fee_rate)", "(1.0 + side * fee_rate)"),
    ],
    "simulator": [
        ("stop_touched = held &", "stop_touched = (side > 2) &"),
        ("stop_touched = held &", "stop_touched = (holding.bars_held > 0) &"),
        ("worst = torch.where(long, bar.low, bar.high)", "worst = bar.close.expand_as(side)"),
        ("liquidation_touched = held &", "liquidation_touched = (side > 2) &"),
        ("liquidated = held & (side", "liquidated = (side > 2) & (side"),
        ("(bar.open - holding.stop_price) <= rules.touch", "(bar.open - holding.stop_price) > 9e9"),
        ("stop_fill = fill_price(open_,", "stop_fill = fill_price(holding.stop_price,"),
        (">= rules.through", ">= -1e3 * rules.through"),
        ("stopped = stop_touched & (stop_first | ~liquidation_touched)",
         "stopped = stop_touched & (stop_first | ~liquidation_touched)"
         " & ~(side * (best - holding.take_profit_price) >= rules.through)"),
        ("side * torch.minimum(side * torch", "side * torch.maximum(side * torch"),
        ("rules.funding\n", "rules.funding * (holding.bars_held == 0)\n"),
        ("ruined = book.cash + book.position * bar.close", "ruined = book.cash + 1e9"),
        ("<= rules.ruin_equity", "<= 0.5 * rules.ruin_equity"),
        ("equity = book.cash + book.position * bar.close\n    peak",
         "equity = book.cash + book.position * bar.open\n    peak"),
        ("peak = torch.maximum(account.peak, equity)", "peak = account.peak"),
        ("favourable = side * (stop - holding.stop_price) > 0", "favourable = side != 0"),
        ("units = torch.minimum(units, rules.max_participation * volume_t)", "pass"),
        ("(1.0 + rules.max_leverage * rules.taker)", "1.0"),
        ("rules.lots.toward(units, -1.0)", "rules.lots.toward(units, 1.0)"),
        ("price - side * distance, -side", "price - side * distance, side"),
        ("book.cash / distance", "account_cash(book) / distance"),
        ("~carried_exit & (order.side != side)", "~carried_exit & (order.side == -side)"),
        ("free & (side != 0)", "(side != 0)"),
    ],
}  # fmt: skip


def plant(monkeypatch, module, sound, faulty):
    """Let the environment run on sources with one text replaced."""
    sources = {name: inspect.getsource(getattr(envs, name)) for name in FAULTS}
    assert sound in sources[module], sound
    sources[module] = sources[module].replace(sound, faulty)
    fills, simulator = types.ModuleType("envs.fills"), types.ModuleType("envs.simulator")
    exec(sources["fills"], fills.__dict__)  # noqa: S102
    exec(sources["simulator"], simulator.__dict__)  # noqa: S102
    for name in ("Book", "bankruptcy_price", "fill_price", "liquidation_price"):
        setattr(simulator, name, getattr(fills, name))
    simulator.account_cash = lambda book: torch.full_like(book.cash, BASE.initial_cash)
    monkeypatch.setattr(envs.market, "advance", simulator.advance)


def first_difference(rows, others):
    for number, (row, other) in enumerate(zip(rows, others, strict=True), start=1):
        for column in COLUMNS:
            if row[column] != other[column]:
                return number, column
    return None


@pytest.mark.parametrize(
    ("module", "sound", "faulty"), [(m, *fault) for m, faults in FAULTS.items() for fault in faults]
)
def test_a_fault_of_the_simulator_is_found_where_it_first_shows(
    module, sound, faulty, clean, tmp_path, monkeypatch
):
    plant(monkeypatch, module, sound, faulty)
    trace, prices = make_trace(tmp_path, seed=5, **CONFIGS["all"])
    with pytest.raises(DoesNotAddUp) as caught:
        audit_trace(trace, prices)
    finding = caught.value.finding
    rows = read_rows(trace)
    assert (finding.row, finding.column) == first_difference(clean[0], rows)


# The command ------------------------------------------------------------------------------------


def test_the_command_prints_a_page_and_returns_0(clean, capsys):
    cfg = compose_config("audit", [f"trace={clean[1]}", f"data.path={clean[2]}"])
    assert main(cfg) == 0
    page = capsys.readouterr().out
    assert "every row adds up" in page
    assert "1,200 rows, 12 lanes" in page
    assert page.count("\n") < 60
    unexplained = next(line for line in page.splitlines() if "unexplained" in line)
    assert float(unexplained.split()[-1]) == 0.0


def test_the_command_names_row_column_rule_and_returns_1(clean, tmp_path, capsys):
    rows = [dict(row) for row in clean[0]]
    rows[600]["cash"] = repr(float(rows[600]["cash"]) + 0.01)
    audit_changed(rows, clean, tmp_path)
    words = [f"trace={tmp_path / 'changed.csv'}", f"data.path={clean[2]}"]
    assert main(compose_config("audit", words)) == 1
    page = capsys.readouterr().out
    for text in ("row 601 ", "lane 0", "column    cash", "R-FILL-1", rows[600]["cash"]):
        assert text in page


def test_what_is_no_trace_is_refused_in_one_line(clean, tmp_path, capsys):
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    for words, text in (
        ([f"trace={tmp_path / 'none.csv'}"], "none.csv: No such file"),
        ([f"trace={other}"], "other.json"),
        ([f"trace={clean[1]}", f"data.path={other}"], "other.csv: no column"),
        ([f"trace={clean[1]}", f"data.path={tmp_path / 'none.csv'}"], "none.csv"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(compose_config("audit", words))
        assert text in capsys.readouterr().err
    whole = clean[1].with_suffix(".json").read_text()
    other.with_suffix(".json").write_text(whole[:200])
    with pytest.raises(ValueError, match=f"^{other.with_suffix('.json')}: "):
        audit_trace(other, clean[2])
    other.with_suffix(".json").write_text(whole)
    with pytest.raises(ValueError, match="R-TRACE-1"):
        audit_trace(other, clean[2])


@pytest.mark.parametrize(
    ("words", "text"),
    [([], "trace"), (["trace=a.txt"], "parquet"), (["check=all", "trace=a.csv"], "one of trace, free_lunch")],
)
def test_a_command_line_that_asks_for_nothing_is_refused(words, text):
    with pytest.raises(ValueError, match=text):
        compose_config("audit", words)


def test_a_finding_without_a_time_can_be_printed():
    assert "no time" in explain(Finding(1, None, None, "lane", 0, None, "R-TRACE-6"), "t.csv")


def test_the_columns_are_those_of_a_trace():
    assert Row._fields == COLUMNS


def test_another_file_with_the_same_bars_is_noted(tmp_path):
    trace, prices = make_trace(tmp_path)
    about = json.loads(trace.with_suffix(".json").read_text())
    about["data"]["sha256"] = "0" * 64
    trace.with_suffix(".json").write_text(json.dumps(about))
    assert "not the very file" in audit_trace(trace, Path(prices)).notes[0]
