"""Which rule of ``docs/simulator.md`` a column that does not add up has broken."""

from typing import Any

from pipelines.auditing.double_entry import Fill, Order, Step

# Of a reason that is shown, but that nothing in the bar allows.
_AT_OPEN = {
    "liquidation": "R-OPEN-1",
    "stop": "R-OPEN-2",
    "take_profit": "R-OPEN-3",
    "signal": "R-ACTION-6",
    "flip": "R-ACTION-7",
}
_AFTER_OPEN = {
    "stop": "R-BAR-1",
    "liquidation": "R-BAR-4",
    "take_profit": "R-BAR-2",
    "ruin": "R-RUIN-2",
    "end": "R-CLOSE-3",
}
_PLAIN = {
    "requested_units": "R-SIZE-8",
    "entry_fill_price": "R-FILL-4",
    "fee": "R-FILL-8",
    "slippage_cost": "R-MONEY-2",
    "funding": "R-FUNDING-1",
    "cash": "R-FILL-1",
    "position": "R-FILL-1",
    "entry_price": "R-TRACE-3",
    "equity": "R-MONEY-1",
    "drawdown": "R-REWARD-3",
    "reward": "R-REWARD-1",
}


def rule_of(column: str, want: Any, found: Any, step: Step, order: Order) -> tuple[str, str]:
    """The rule behind what a column should show, and a few words why.

    Args:
        column: one of `pipelines.auditing.audit_rows.OUTCOME`.
        want: what the rules give.
        found: what the row shows.
        step: what happened in the bar, by the rules.
        order: what the action asked for.
    """
    if column.endswith("_reason"):
        return _of_reason(column, want, found, step)
    if column in ("open_exit_units", "exit_units"):
        return "R-FILL-1", "an exit closes the whole position"
    if column in ("open_exit_price", "exit_price"):
        fill = _leg(step, column.removesuffix("_price"))
        if fill is None:
            return "R-TRACE-3", "nothing was closed"
        return fill.pricing, f"{fill.reason}, reference {fill.reference}"
    if column == "entry_units":
        return step.sized_by, f"requested {step.requested}"
    if column in ("stop_price", "take_profit_price"):
        return step.stop_rule if column == "stop_price" else _of_target(step), ""
    if column == "requested_units" and want is not None and found is not None:
        return "R-SIZE-2", f"stop distance {order.stop_bps} bps, risk x{order.risk_multiple}"
    return _PLAIN[column], ", ".join(_told(fill) for fill in step.fills)


def _of_reason(column: str, want: Any, found: Any, step: Step) -> tuple[str, str]:
    leg = column.removesuffix("_reason")
    fill = _leg(step, leg)
    if fill is not None:
        return fill.rule, f"{want} at {fill.reference} must close {-fill.units} units"
    rules = _AT_OPEN if leg == "open_exit" else _AFTER_OPEN
    return rules.get(found, "R-TRACE-3"), f"nothing in the bar allows {found!r}"


def _of_target(step: Step) -> str:
    return "R-SIZE-1" if _leg(step, "entry") else "R-ACTION-5"


def _leg(step: Step, leg: str) -> Fill | None:
    return next((fill for fill in step.fills if fill.leg == leg), None)


def _told(fill: Fill) -> str:
    return f"{fill.reason or 'entry'} of {fill.units} at {fill.price}"
