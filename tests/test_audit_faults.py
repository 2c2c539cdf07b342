"""Faults of the simulator: the audit finds each in the first cell that it changes."""

import inspect

import pytest
import torch

import envs.fills
import envs.market
import envs.simulator
from audited_trace import BASE, CONFIGS, make_clean, make_trace, read_rows
from envs.trace_schema import COLUMNS
from faulty_module import load_faulty
from pipelines.auditing.audit_rows import DoesNotAddUp
from pipelines.auditing.trace_audit import audit_trace


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return make_clean(tmp_path_factory.mktemp("clean"))


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


def plant(monkeypatch, folder, module, sound, faulty):
    """Let the environment run on sources with one text replaced."""
    sources = {name: inspect.getsource(getattr(envs, name)) for name in FAULTS}
    assert sound in sources[module], sound
    sources[module] = sources[module].replace(sound, faulty)
    fills = load_faulty("envs.fills", sources["fills"], folder)
    simulator = load_faulty("envs.simulator", sources["simulator"], folder)
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
    plant(monkeypatch, tmp_path, module, sound, faulty)
    trace, prices = make_trace(tmp_path, seed=5, **CONFIGS["all"])
    with pytest.raises(DoesNotAddUp) as caught:
        audit_trace(trace, prices)
    finding = caught.value.finding
    rows = read_rows(trace)
    assert (finding.row, finding.column) == first_difference(clean[0], rows)
