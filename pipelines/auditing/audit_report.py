"""What an audit says: one page of totals, or the row that does not add up."""

from datetime import UTC, datetime
from typing import Any

from pipelines.auditing.audit_rows import Finding
from pipelines.auditing.trace_audit import Totals

_REASONS = ("entry", "signal", "flip", "stop", "take_profit", "liquidation", "ruin", "end")


def summary(totals: Totals, trace: str) -> str:
    """One page on a trace in which every row adds up."""
    t = totals
    going = t.episodes - t.ruined - t.truncated
    lines = [
        f"{trace}: every row adds up",
        f"  {t.rows:,} rows, {t.lanes:,} lanes, {_time(t.first_ns)} to {_time(t.last_ns)}",
        f"  {t.episodes:,} episodes: {t.truncated:,} to their last bar, {t.ruined:,} ruined, "
        f"{going:,} still open",
        "",
        "fills",
        *(f"  {reason:<12}{t.fills[reason]:>16,}" for reason in _REASONS if t.fills[reason]),
        *([f"  {'unfilled':<12}{t.unfilled:>16,}  (orders under min_units)"] * bool(t.unfilled)),
        "",
        "money, quote currency",
        f"  {'price moves':<16}{_cents(t.moves)}",
        f"  {'fees':<16}{_cents(-t.fees)}",
        f"  {'slippage':<16}{_cents(-t.slippage_cost)}",
        f"  {'funding':<16}{_cents(-t.funding)}",
        f"  {'profit':<16}{_cents(t.profit)}  (equities at the end less the initial cash)",
        f"  {'unexplained':<16}{_cents(t.difference)}",
    ]
    return "\n".join([*lines, *(f"note: {note}" for note in t.notes)])


def explain(finding: Finding, trace: str) -> str:
    """The first row that does not add up: where, what, and by which rule."""
    f = finding
    where = f"row {f.row:,} (1 is the first after the header), lane {f.lane}, {_time(f.time_ns)}"
    expected, found = (_shown(value, f.column) for value in (f.expected, f.found))
    lines = [
        f"{trace}: does not add up",
        f"  {where}",
        f"  column    {f.column}",
        f"  expected  {expected}",
        f"  found     {found}",
        f"  rule      {f.rule} of docs/simulator.md",
    ]
    return "\n".join([*lines, *([f"  because   {f.why.lstrip('; ')}"] * bool(f.why))])


def _shown(value: Any, column: str) -> str:
    if value is None:
        return "nothing"
    return _time(value) if column == "timestamp" and isinstance(value, int) else str(value)


def _cents(money: float) -> str:
    return f"{round(money, 2) + 0.0:>20,.2f}"  # without a minus before 0


def _time(time_ns: int | None) -> str:
    if time_ns is None:
        return "no time"
    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
