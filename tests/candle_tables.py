"""Candle tables: a market drawn by hand, the actions on it, and what every step must show.

The tables are lists of ``(open, high, low, close, volume)`` rows. Row 0 is the bar on whose close
the first action is decided; action ``i`` executes in row ``i + 1``. Actions read as an order
ticket: ``"long x1 stop100 tp2R"`` is a long of risk multiple 1 with a stop 100 bps away and a
take-profit at twice the stop's distance; what is left out is x1, stop100 and no take-profit.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS, HEADS, LEDGER, REASONS
from envs.market import MarketEnv
from envs.observation import ACCOUNT

CENTRE = 10_000.0  # mirrored tables are reflected at this price
NO_COSTS = {
    "taker_fee_bps": 0.0,
    "maker_fee_bps": 0.0,
    "slippage_bps": 0.0,
    "stop_slippage_bps": 0.0,
    "allow_zero_costs": True,
}
# What a step shows when nothing was filled; `check` expects these unless a test says otherwise.
NOTHING = {
    "open_exit_reason": "",
    "open_exit_units": None,
    "open_exit_price": None,
    "requested_units": None,
    "entry_units": None,
    "entry_fill_price": None,
    "exit_reason": "",
    "exit_units": None,
    "exit_price": None,
    "fee": 0.0,
    "slippage_cost": 0.0,
    "funding": 0.0,
    "terminated": False,
}


def near(value):
    """The expected number to 1e-9 relative; a zero to 1e-12 of a 100,000 account."""
    return pytest.approx(value, rel=1e-9, abs=1e-7 if value == 0 else 1e-12)


def action_indices(ticket: str, cfg: EnvConfig, side: int = 1) -> dict[str, int]:
    """Indices of an order ticket; with `side` -1 long and short are exchanged."""
    direction, *rest = ticket.split()
    sign = {"short": -1, "flat": 0, "long": 1}[direction] * side
    multiple, stop_bps, take_profit = 1.0, 100.0, 0.0
    for word in rest:
        if word.startswith("x"):
            multiple = float(word[1:])
        elif word.startswith("stop"):
            stop_bps = float(word[4:])
        elif word.startswith("tp"):
            take_profit = float(word[2:].removesuffix("R"))
        else:
            raise ValueError(f"{word!r} in the ticket {ticket!r}")
    steps = stop_bps / cfg.stop_step_bps
    assert steps == round(steps), f"{ticket!r}: no such stop"
    return {
        "direction": sign + 1,
        "size": cfg.risk_multiples.index(multiple),
        "stop_loss": round(steps) - 1,
        "take_profit": cfg.take_profit_r.index(take_profit),
    }


def make_action(indices: list[dict[str, int]], batch: tuple[int, ...]) -> TensorDict:
    """The action TensorDict of one step; `indices` in the order of the flattened batch."""
    return TensorDict(
        {h: torch.tensor([i[h] for i in indices]).reshape(batch) for h in HEADS}, batch_size=batch
    )


def reflect(rows):
    """The table seen in a mirror at `CENTRE`: highs become lows."""
    return [(2 * CENTRE - o, 2 * CENTRE - lo, 2 * CENTRE - h, 2 * CENTRE - c, v)
            for o, h, lo, c, v in rows]  # fmt: skip


def read_step(td: TensorDict) -> SimpleNamespace:
    """The one lane of a stepped TensorDict as plain numbers: None for nothing, reasons by name."""
    after = td["next"]
    fills = dict(zip(FILLS, after["fills"].flatten().tolist(), strict=True))
    step = {k: None if math.isnan(v) else v for k, v in fills.items()}
    for key in ("open_exit_reason", "exit_reason"):
        step[key] = REASONS[int(step[key] or 0)]
    step["terminated"] = bool(after["terminated"].item())
    step["truncated"] = bool(after["truncated"].item())
    step["done"] = bool(after["done"].item())
    step["learner_reward"] = after["reward"].item()
    step["bar"] = after["bar"].item()
    used = after["head_used"].flatten().tolist()
    step["heads"] = tuple(h for h, u in zip(HEADS, used, strict=True) if u)
    step["account"] = dict(zip(ACCOUNT, after["account"].flatten().tolist(), strict=True))
    step["ledger"] = dict(zip(LEDGER, after["ledger"].flatten().tolist(), strict=True))
    return SimpleNamespace(**step)


def check_accounting(step, before, close: float, cfg: EnvConfig) -> None:
    """What holds at every step whatever the rules: the books balance and the reward is theirs."""
    fills = [
        (getattr(step, units), getattr(step, price))
        for units, price in (
            ("open_exit_units", "open_exit_price"),
            ("entry_units", "entry_fill_price"),
            ("exit_units", "exit_price"),
        )
        if getattr(step, units) is not None
    ]
    cash = before.cash - sum(u * p for u, p in fills) - step.fee - step.funding
    assert step.cash == pytest.approx(cash, rel=1e-9, abs=1e-7)
    assert step.position == pytest.approx(before.position + sum(u for u, _ in fills), abs=1e-9)
    assert step.equity == pytest.approx(step.cash + step.position * close, rel=1e-9, abs=1e-6)
    peak = max(before.peak, step.equity)
    assert step.drawdown == pytest.approx(1 - step.equity / peak, rel=1e-9, abs=1e-12)
    if cfg.drawdown_penalty == cfg.turnover_penalty == 0:
        floor = 0.01 * cfg.initial_cash
        reward = cfg.reward_scale * math.log(max(step.equity, floor) / max(before.equity, floor))
        assert step.reward == pytest.approx(reward, rel=1e-9, abs=1e-9)
        assert step.learner_reward == pytest.approx(reward, rel=1e-5, abs=1e-6)
    step.peak = peak
    assert step.done == (step.terminated or step.truncated)
    flat = step.position == 0
    for key in ("entry_price", "stop_price", "take_profit_price"):
        assert not (flat and getattr(step, key) is not None), f"a flat account shows {key}"


def play_table(rows, tickets, *, side=1, interval_s=60.0, last=None, **params):
    """Play order tickets on a candle table with one lane; a list of steps comes back."""
    cfg = EnvConfig(paths=1, accounts=1, workers=0, **params)
    rows = reflect(rows) if side < 0 else rows
    ohlcv = np.array(rows, dtype=np.float64)
    table = BarTable.from_arrays(ohlcv, interval_s=interval_s)
    last = len(rows) - 1 if last is None else last
    env = MarketEnv(table, cfg, starts=torch.tensor([[0, last]]))
    td, steps = env.reset(), []
    before = SimpleNamespace(
        cash=cfg.initial_cash, position=0.0, equity=cfg.initial_cash, peak=cfg.initial_cash
    )
    for number, ticket in enumerate(tickets, start=1):
        td["action"] = make_action([action_indices(ticket, cfg, side)], (1, 1))
        td = env.step(td)
        step = read_step(td)
        assert step.bar == number
        check_accounting(step, before, ohlcv[number, 3], cfg)
        steps.append(step)
        assert not step.done or number == len(tickets), f"done at step {number}"
        before, td = step, td["next"]
    return steps


def check_step(step, **expected) -> None:
    """Compare a step with the table's expectation; fills that are not mentioned must not be."""
    for key, want in {**NOTHING, **expected}.items():
        got = getattr(step, key)
        if isinstance(want, str | bool | tuple) or want is None:
            assert got == want, f"{key}: {got!r}, expected {want!r}"
        else:
            assert got is not None, f"{key}: nothing, expected {want!r}"
            assert got == near(want), f"{key}: {got!r}, expected {want!r}"
