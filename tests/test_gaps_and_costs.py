"""The worse the market, the less is left: by the depth of a gap, by fees, slippage and funding.

Accounts, orders and bars are generated and carried through one bar, at once, by the simulator.
"""

import dataclasses

import numpy as np
import pytest
import torch

from envs.config import EnvConfig
from envs.ledger import REASONS
from envs.rules import Rules
from envs.simulator import Account, Bar, Order, advance

LIQUIDATION = REASONS.index("liquidation")
CASES = 4_000
COST_KEYS = (
    "taker_fee_bps", "maker_fee_bps", "slippage_bps", "stop_slippage_bps", "funding_bps_per_day"
)  # fmt: skip


def uniform(rng, low, high, *shape):
    """float64 tensor of uniform draws."""
    return torch.from_numpy(rng.uniform(low, high, shape))


def held(leverage, side, *, stop_bps, target_bps, price=10_000.0):
    """Accounts of 100,000 that hold `side` (0: nothing) at `leverage`, bought at `price`."""
    units = side * leverage * 100_000.0 / price
    distance = torch.where(side != 0, price * stop_bps * 1e-4, 0.0)
    target = torch.where((side != 0) & (target_bps > 0), price * (1 + side * target_bps * 1e-4), 0)
    entry = torch.where(side != 0, price, 0.0)
    return Account(
        cash=100_000.0 - units * price,
        position=units,
        entry_price=entry,
        stop_price=torch.where(side != 0, entry - side * distance, 0.0),
        take_profit_price=target,
        stop_distance=distance,
        bars_held=(side != 0).double(),
        peak=torch.full_like(units, 100_000.0),
        last_bar=torch.full_like(units, 1e6),
    )


@pytest.mark.parametrize("where", ["at the open", "within the bar"])
@pytest.mark.parametrize("leave_by", ["liquidation", "stop"])
def test_a_deeper_gap_never_leaves_more_and_never_less_than_nothing(where, leave_by):
    """Leverage, side, margin and costs at random, each through a ladder of gaps up to 60 %.

    Ruin is set lower than any liquidation: it closes with the other slippage.
    """
    rng = np.random.default_rng(12)
    shape = (CASES // 8, 80)
    depth = torch.linspace(0, 0.6, 80, dtype=torch.float64).expand(shape)
    zero, liquidated = torch.zeros_like(depth), 0
    for _ in range(8):
        costs = {key: float(rng.uniform(0.5, 15)) for key in COST_KEYS[:4]}
        margin = float(rng.uniform(0.004, 0.05))
        cfg = EnvConfig(
            stop_step_bps=50.0, maintenance_margin_rate=margin, ruin_equity_frac=0.01, **costs
        )
        side = torch.from_numpy(rng.choice([-1.0, 1.0], (shape[0], 1))).expand(shape)
        leverage = uniform(rng, 0.02 / margin, 0.9 / margin, shape[0], 1).expand(shape)
        stop_bps = uniform(rng, 25, 900, shape[0], 1).expand(shape)
        stop_bps = stop_bps if leave_by == "stop" else zero + 9_999
        account = held(leverage, side, stop_bps=stop_bps, target_bps=zero)
        end = 10_000.0 * (1 - side * depth)
        opens = end if where == "at the open" else zero + 10_000
        bar = Bar(opens, torch.maximum(opens, end), torch.minimum(opens, end), end)
        hold = Order(side, zero + 1, zero + 0.01, zero)
        out = advance(Rules.of(cfg, 60.0), account, hold, bar, zero, zero > 0)
        gone = (out.open_exit.reason == LIQUIDATION) | (out.exit.reason == LIQUIDATION)
        liquidated += int(gone.sum())
        slack = 1e-9 * 100_000.0 * leverage
        change = out.equity.diff(dim=1)
        assert (change <= slack[:, 1:]).all()
        if where == "at the open":  # every step of the ladder costs, until nothing is left
            assert (change < 0)[gone[:, :-1] & (out.equity > slack)[:, :-1]].all()
        assert (out.equity[gone] >= -slack[gone]).all()
        assert (out.equity <= 100_000.0 + slack).all()
    print(f"{8 * zero.numel()} gaps, {liquidated} liquidations")
    assert liquidated > CASES


def generated(rng):
    """Accounts, orders and bars of which everything that can be filled is: [CASES, 1] each."""
    side = torch.from_numpy(rng.choice([-1.0, 0.0, 1.0], (CASES, 1)))
    account = held(
        uniform(rng, 0.1, 15, CASES, 1),
        side,
        stop_bps=uniform(rng, 30, 900, CASES, 1),
        target_bps=uniform(rng, -300, 900, CASES, 1).clamp_min(0),
    )
    order = Order(
        torch.from_numpy(rng.choice([-1.0, 0.0, 1.0], (CASES, 1))),
        uniform(rng, 0.5, 2, CASES, 1),
        uniform(rng, 0.02, 0.1, CASES, 1),
        torch.from_numpy(rng.choice([0.0, 1.0, 2.0], (CASES, 1))),
    )
    opens = 10_000 * torch.exp(uniform(rng, -1, 1, CASES, 1) ** 3 * 0.1)
    close = opens * torch.exp(uniform(rng, -1, 1, CASES, 1) ** 3 * 0.1)
    high = torch.maximum(opens, close) * torch.exp(uniform(rng, 0, 1, CASES, 1) ** 3 * 0.08)
    low = torch.minimum(opens, close) * torch.exp(-(uniform(rng, 0, 1, CASES, 1) ** 3) * 0.08)
    bar = Bar(*((10 * price).round() / 10 for price in (opens, high, low, close)))
    return account, order, bar


def same_fills(one, two):
    """Where both filled the same units, for the same reasons, from the same reference prices.

    The bracket of a position that was opened in this bar lies where its fill put it: an exit by it
    has another reference when the entry's fill differs.
    """
    same = torch.ones_like(one.equity, dtype=torch.bool)
    for a, b in ((one.open_exit, two.open_exit), (one.exit, two.exit)):
        same &= (a.reason == b.reason) & (a.units == b.units)
    same &= one.entry.units == two.entry.units
    by_bracket = (one.exit.reason > 0) & (one.exit.reason <= LIQUIDATION)
    return same & ~((one.entry.units != 0) & by_bracket)


@pytest.mark.parametrize("key", COST_KEYS)
def test_a_dearer_market_never_leaves_more_for_the_same_fills(key):
    rng = np.random.default_rng(COST_KEYS.index(key))
    compared = poorer = 0
    for _ in range(4):
        cheap = EnvConfig(
            stop_step_bps=200.0,
            stop_steps=40,
            max_leverage=15.0,
            maintenance_margin_rate=0.03,
            max_units=float(rng.uniform(0.1, 1.0)),
            flatten_at_end=bool(rng.random() < 0.5),
            **{name: float(rng.uniform(0.1, 10)) for name in COST_KEYS},
        )
        dear = dataclasses.replace(cheap, **{key: getattr(cheap, key) + float(rng.uniform(1, 60))})
        account, order, bar = generated(rng)
        last = torch.from_numpy(rng.random((CASES, 1)) < 0.3)
        volume = torch.ones(CASES, 1, dtype=torch.float64)
        one, two = (
            advance(Rules.of(cfg, 86_400.0), account, order, bar, volume, last)
            for cfg in (cheap, dear)
        )
        same = same_fills(one, two)
        change = (two.equity - one.equity)[same]
        assert (change <= 1e-9 * 100_000.0).all()
        compared, poorer = compared + int(same.sum()), poorer + int((change < -1e-6).sum())
    print(f"{key}: {compared} cases with the same fills, {poorer} of them poorer")
    assert compared > 10_000
    assert poorer > 500
