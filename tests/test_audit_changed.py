"""A trace of which one thing was changed: the audit finds it at its row and column."""

import pandas as pd
import pytest

from audited_trace import (
    BASE,
    CONFIGS,
    WILD,
    audit_changed,
    make_clean,
    make_replay,
    make_trace,
    read_rows,
)
from envs.ledger import HEADS
from envs.trace_schema import COLUMNS

UNKNOWN = ("log_prob", "state_value")  # only the policy knows


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return make_clean(tmp_path_factory.mktemp("clean"))


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
        ("maintenance_margin_rate", 0.01, "exit_price"),
        ("trailing", False, "stop_price"),
        ("reward_scale", 101.0, "reward"),
        ("episode_bars", 31, "truncated"),
        ("initial_cash", 100_001.0, "requested_units"),
    ],
)
def test_parameters_that_were_not_the_run_s_are_found(key, value, column, clean, tmp_path):
    finding = audit_changed(clean[0], clean, tmp_path, **{key: value})
    assert finding.column == column


@pytest.mark.parametrize(
    ("simulator", "rule"),
    [({"paths": 1, "accounts": 12}, "R-EPISODE-4"), ({"window": 100}, "R-EPISODE-1")],
)
def test_bars_that_accounts_do_not_share_or_no_window_leads_up_to_are_found(
    simulator, rule, clean, tmp_path
):
    finding = audit_changed(clean[0], clean, tmp_path, **simulator)
    assert (finding.column, finding.rule) == ("timestamp", rule)


@pytest.mark.parametrize("ahead", [-7, 29])  # takes the oldest bar of the window, or the last one
def test_an_episode_whose_window_or_end_lies_beyond_a_hole_is_found(ahead, clean, tmp_path):
    prices = pd.read_csv(clean[2])
    times = pd.to_datetime(prices["timestamp"])
    start = int(times.searchsorted(pd.Timestamp(clean[0][0]["timestamp"])))
    hole = range(start + ahead, start + ahead + 4)  # 3 would be filled
    short = tmp_path / "bars.csv"
    prices.drop(index=hole).to_csv(short, index=False)
    finding = audit_changed(clean[0], (*clean[:2], short), tmp_path)
    assert (finding.row, finding.column, finding.rule) == (1, "timestamp", "R-EPISODE-1")


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


def test_a_last_row_that_says_that_its_tile_is_over_is_found_if_the_next_bar_is_shown(tmp_path):
    """In the midst of an episode, at the end of the trace: no row of the lane follows."""
    trace, prices = make_trace(tmp_path, seed=sum(map(ord, "flatten")), **CONFIGS["flatten"])
    rows = read_rows(trace)
    shown = {pd.Timestamp(row["timestamp"]) for row in rows}
    at = next(
        i for i in range(len(rows) - BASE.lanes, len(rows))
        if float(rows[i]["position"]) == 0.0 and int(rows[i]["step"]) < 20
        and "true" not in (rows[i]["truncated"], rows[i]["terminated"])
        and pd.Timestamp(rows[i]["timestamp"]) + pd.Timedelta("1h") in shown
    )  # fmt: skip
    rows[at]["truncated"] = "true"
    finding = audit_changed(rows, (rows, trace, prices), tmp_path)
    assert (finding.row, finding.column, finding.rule) == (at + 1, "truncated", "R-EPISODE-8")
