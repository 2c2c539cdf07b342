"""The audit of a trace: clean ones add up, and what the command says of these and of others."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from audited_trace import (
    BASE,
    CONFIGS,
    STEPS,
    WILD,
    audit_changed,
    draw_bars,
    make_clean,
    make_policy,
    make_replay,
    make_trace,
    read_rows,
)
from envs.data_config import DataConfig
from envs.market import MarketEnv
from envs.table import build_table
from envs.trace import TraceWriter
from envs.trace_reader import read_trace
from envs.trace_schema import COLUMNS
from pipelines.audit import main
from pipelines.auditing.audit_report import explain
from pipelines.auditing.audit_rows import DoesNotAddUp, Finding, Row
from pipelines.auditing.trace_audit import audit_trace
from pipelines.config import compose_config


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


@pytest.mark.parametrize("name", ["coarse", "all", "flatten"])
def test_what_is_summed_up_is_what_the_rows_say(name, tmp_path):
    trace, prices = make_trace(tmp_path, seed=sum(map(ord, name)), **CONFIGS[name])
    totals, rows = audit_trace(trace, prices), read_trace(trace)
    for column, total in (
        ("fee", totals.fees), ("slippage_cost", totals.slippage_cost), ("funding", totals.funding),
    ):  # fmt: skip
        assert total == pytest.approx(rows[column].sum(), rel=1e-9)
    reasons = pd.concat([rows["open_exit_reason"], rows["exit_reason"]]).value_counts()
    entries = rows["entry_units"].notna()
    fills = {reason: count for reason, count in reasons.items() if reason}
    assert dict(totals.fills) == fills | {"entry": entries.sum()}
    assert totals.unfilled == (rows["requested_units"].notna() & ~entries).sum()
    assert (totals.unfilled > 0) == (name != "flatten")
    assert (totals.ruined, totals.truncated) == (rows["terminated"].sum(), rows["truncated"].sum())
    ends = rows.groupby(["lane", "episode"])["equity"].last()
    assert totals.episodes == len(ends)
    profit = ends - json.loads(trace.with_suffix(".json").read_text())["simulator"]["initial_cash"]
    assert totals.profit == pytest.approx(profit.sum(), rel=1e-9)
    costs = totals.fees + totals.slippage_cost + totals.funding
    assert totals.moves == pytest.approx(profit.sum() + costs, rel=1e-9)
    times = rows["timestamp"].astype("int64")
    assert (totals.first_ns, totals.last_ns) == (times.min(), times.max())


def test_a_trace_that_was_cut_off_within_a_step_is_said_to_be(clean, tmp_path):
    trace = tmp_path / "train_actions.csv"
    lines = clean[1].read_text().splitlines(keepends=True)
    trace.with_suffix(".json").write_text(clean[1].with_suffix(".json").read_text())
    for rows, notes in ((600, 0), (607, 1)):
        trace.write_text("".join(lines[: 1 + rows]))
        totals = audit_trace(trace, clean[2])
        assert (totals.rows, len(totals.notes)) == (rows, notes)
    assert "cut off" in totals.notes[0]


@pytest.mark.parametrize(
    ("seed", "params", "ended"),
    [(0, {"episode_bars": 1}, 12), (7, {"ruin_equity_frac": 0.99, "risk_pct": 20.0}, 4)],
)
def test_a_training_whose_accounts_end_with_their_first_row_adds_up(seed, params, ended, tmp_path):
    """Accounts that sell what they hold at an end may be tiles, whose number stands nowhere."""
    made = make_trace(tmp_path, seed=seed, flatten_at_end=True, **params)
    rows = read_trace(made[0])
    assert (rows["terminated"] | rows["truncated"])[: BASE.lanes].sum() == ended
    assert rows["terminated"][0] or rows["truncated"][0]
    totals = audit_trace(*made)
    assert (totals.rows, totals.lanes) == (STEPS * BASE.lanes, BASE.lanes)


@pytest.mark.parametrize("params", [{}, WILD, {"trailing": True, "funding_bps_per_day": 9.0}])
def test_a_replay_of_tiles_adds_up(params, tmp_path):
    totals = audit_trace(*make_replay(tmp_path, **params))
    assert totals.lanes == totals.episodes == 8
    assert totals.fills["end"] > 0
    assert totals.truncated + totals.ruined == 8
    assert (totals.ruined > 0) == (params is WILD)


def test_a_last_tile_that_its_split_cuts_short_adds_up(tmp_path):
    """More bars follow in the file, which are another split's: the trace shows none of them."""
    trace, prices = make_replay(tmp_path, until=100)
    rows = read_rows(trace)
    last = [row for row in rows if row["lane"] == "4"][-1]
    assert (last["truncated"], last["step"]) == ("true", "15")
    assert audit_trace(trace, prices).rows == len(rows) == 96


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


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return make_clean(tmp_path_factory.mktemp("clean"))


def test_the_command_prints_a_page_and_returns_0(clean, capsys):
    cfg = compose_config("audit", [f"trace={clean[1]}", f"data.path={clean[2]}"])
    assert main(cfg) == 0
    page = capsys.readouterr().out
    assert "every row adds up" in page
    times = [pd.Timestamp(row["timestamp"]) for row in clean[0]]
    first, last = (f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (min(times), max(times)))
    assert f"1,200 rows, 12 lanes, {first} to {last}" in page
    assert page.count("\n") < 60
    unexplained = next(line for line in page.splitlines() if "unexplained" in line)
    assert float(unexplained.split()[-1]) == 0.0
    money = {
        line.split("  ")[1]: float(line[18:].split()[0].replace(",", ""))
        for line in page.split("money, quote currency\n")[1].splitlines()
    }
    assert money["fees"] == pytest.approx(-sum(float(row["fee"]) for row in clean[0]), abs=0.01)
    parts = sum(money[name] for name in ("price moves", "fees", "slippage", "funding"))
    assert money["profit"] == pytest.approx(parts, abs=0.03)
    (line,) = (line for line in page.splitlines() if " episodes: " in line)
    episodes, ended, ruined, going = (int(word) for word in line.split() if word.isdigit())
    assert ruined == sum(row["terminated"] == "true" for row in clean[0])
    assert ended == sum(row["truncated"] == "true" for row in clean[0])
    assert episodes == ended + ruined + going


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
    other.write_text(clean[1].read_text().split("\n")[0] + "\n")
    with pytest.raises(ValueError, match=r"other\.csv: no rows"):  # which would all add up
        audit_trace(other, clean[2])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "trace"),
        (["trace=a.txt"], "parquet"),
        (["check=all", "trace=a.csv"], "one of trace, free_lunch"),
    ],
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


def rename_bars(trace, name):
    """Have the JSON beside a trace say that it was made on bars of a name."""
    beside = trace.with_suffix(".json")
    about = json.loads(beside.read_text())
    about["data"]["file"] = name
    beside.write_text(json.dumps(about))


def test_other_bars_than_the_trace_was_made_on_are_named(tmp_path, capsys):
    trace, prices = make_trace(tmp_path)
    rename_bars(trace, prices.name)
    assert main(compose_config("audit", [f"trace={trace}"])) == 1  # the embedded bars
    said = capsys.readouterr().out
    assert "does not add up" in said
    assert f"BTC-USD-15-MIN.csv; the trace was made on {prices.name}: see data.path" in said
    assert main(compose_config("audit", [f"trace={trace}", f"data.path={prices}"])) == 0
    assert "see data.path" not in capsys.readouterr().out


def test_a_trace_of_a_generated_market_has_no_price_file(tmp_path, capsys):
    trace, _ = make_trace(tmp_path)
    rename_bars(trace, "synthetic/planted, seed 0")
    with pytest.raises(SystemExit, match="2"):
        main(compose_config("audit", [f"trace={trace}"]))
    assert "synthetic/planted, seed 0, a generated market: there is no" in capsys.readouterr().err
