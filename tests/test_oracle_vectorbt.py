"""Money by another program: vectorbt books the fills of random accounts and must own the same.

vectorbt is given the units, the price and the fee rate of every fill, and nothing else. It has no
funding, which is taken off its cash; it refuses longs on borrowed cash, so it is lent enough at the
start; and it takes one order a row, so a bar is three rows: exit at the open, entry, exit.
"""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS, REASONS
from envs.market import MarketEnv

pytestmark = [
    pytest.mark.oracle,
    # Their modules and their use of pandas are not ours to mend.
    pytest.mark.filterwarnings("ignore"),
]
ACCOUNTS, STEPS = 64, 400
TAKE_PROFIT = REASONS.index("take_profit")
LEGS = (
    ("open_exit_units", "open_exit_price", "open_exit_reason"),
    ("entry_units", "entry_fill_price", None),
    ("exit_units", "exit_price", "exit_reason"),
)
MARKETS = {
    "defaults": {},
    "trailing_and_funding": {
        "trailing": True,
        "funding_bps_per_day": 40.0,
        "maker_fee_bps": 0.3,
        "flatten_at_end": True,
    },
    "tight_margin": {
        "risk_pct": 100.0,
        "max_leverage": 4.0,
        "stop_step_bps": 200.0,
        "maintenance_margin_rate": 0.2,
        "ruin_equity_frac": 0.01,
    },
}


@pytest.fixture(scope="module")
def vbt():
    return pytest.importorskip("vectorbt")


def bars_with_gaps(rng):
    """Bars on the tick of 0.1 with gaps of percents and long wicks."""
    close = 10_000 * np.exp(np.cumsum(rng.normal(0, 0.003, STEPS + 1)))
    gap = np.where(rng.random(STEPS + 1) < 0.1, rng.normal(0, 0.02, STEPS + 1), 0)
    opens = np.concatenate([close[:1], close[:-1]]) * np.exp(gap)
    wick = rng.exponential(np.where(rng.random((2, STEPS + 1)) < 0.9, 0.001, 0.02))
    high, low = np.maximum(opens, close) * (1 + wick[0]), np.minimum(opens, close) / (1 + wick[1])
    prices = np.round(np.stack([opens, high, low, close], -1), 1)
    return np.concatenate([prices, np.full((STEPS + 1, 1), 50.0)], -1)


def play(cfg, seed):
    """Random accounts until each is ruined: columns of the fills [STEPS, ACCOUNTS] and closes."""
    rng = np.random.default_rng(seed)
    bars = bars_with_gaps(rng)
    table = BarTable.from_arrays(bars, interval_s=3_600.0)
    env = MarketEnv(table, cfg, starts=torch.tensor([[0, STEPS]]))
    direction = rng.integers(0, 3, (STEPS, ACCOUNTS))
    for t in range(1, STEPS):  # some change their mind at every bar, some hold for long
        keep = rng.random(ACCOUNTS) < np.linspace(0, 0.98, ACCOUNTS)
        direction[t] = np.where(keep, direction[t - 1], direction[t])
    torch.manual_seed(seed)
    td, rows = env.reset(), []
    alive = torch.ones(1, ACCOUNTS, dtype=torch.bool)
    for t in range(STEPS):
        td = env.rand_action(td)
        td["action", "direction"] = torch.from_numpy(direction[t])[None]
        td = env.step(td)["next"]
        rows.append(torch.where(alive[..., None], td["fills"], torch.nan)[0])
        alive &= ~td["terminated"][..., 0]
    columns = dict(zip(FILLS, torch.stack(rows).numpy().transpose(2, 0, 1), strict=True))
    return SimpleNamespace(close=bars[1:, 3], alive=~np.isnan(columns["cash"]), **columns)


def book(vbt, cfg, run, lent):
    """What vectorbt makes of the fills: cash, units and value after each bar [STEPS, ACCOUNTS]."""
    orders = np.full((3, STEPS, 3, ACCOUNTS), np.nan)  # units, price, fee rate
    for leg, (units, price, reason) in enumerate(LEGS):
        orders[0, :, leg], orders[1, :, leg] = getattr(run, units), getattr(run, price)
        maker = getattr(run, reason) == TAKE_PROFIT if reason else np.zeros_like(run.alive)
        orders[2, :, leg] = np.where(maker, cfg.maker_fee_bps, cfg.taker_fee_bps) * 1e-4
    size, price, fees = orders.reshape(3, 3 * STEPS, ACCOUNTS)
    time = pd.date_range("2025-01-01", periods=3 * STEPS, freq="20min")
    close = pd.DataFrame(np.repeat(run.close, 3)[:, None].repeat(ACCOUNTS, 1), index=time)
    portfolio = vbt.Portfolio.from_orders(
        close,
        size=size,
        price=price,
        fees=fees,
        size_type="amount",
        direction="both",
        init_cash=cfg.initial_cash + lent,
    )
    assert portfolio.orders.count().sum() == np.isfinite(size).sum()
    last = slice(2, None, 3)
    cash = portfolio.cash().to_numpy()[last] - lent
    value = portfolio.value().to_numpy()[last] - lent
    return cash, portfolio.assets().to_numpy()[last], value


@pytest.mark.parametrize("market", MARKETS)
def test_cash_position_and_equity_are_those_that_vectorbt_books(vbt, market):
    cfg = EnvConfig(paths=1, accounts=ACCOUNTS, workers=0, **MARKETS[market])
    run = play(cfg, seed=5)
    fills = sum(int(np.isfinite(getattr(run, units)).sum()) for units, _, _ in LEGS)
    liquidations = int((run.exit_reason == REASONS.index("liquidation")).sum())
    assert fills > (5_000 if market == "tight_margin" else 10_000)
    assert liquidations > 50 or market != "tight_margin"
    lent = cfg.initial_cash * (1 + cfg.max_leverage) * 2
    cash, position, value = book(vbt, cfg, run, lent)
    paid = np.nan_to_num(run.funding).cumsum(0)
    worst = 0.0
    for got, theirs in ((run.cash, cash - paid), (run.equity, value - paid)):
        scale = np.maximum(np.abs(theirs), cfg.initial_cash)
        worst = max(worst, (np.abs(got - theirs) / scale)[run.alive].max())
    units = (np.abs(run.position - position) / np.maximum(np.abs(position), 1.0))[run.alive].max()
    print(f"{market}: {fills} fills, {liquidations} liquidations")
    print(f"money within {worst:.1e}, units within {units:.1e}")
    assert worst < 1e-9
    assert units < 1e-9
