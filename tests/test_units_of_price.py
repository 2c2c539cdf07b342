"""A coin of a millionth is traded as one of ten thousand: only ratios of prices matter.

Prices and ticks are divided by a power of two, sizes, lots and volumes multiplied by it, which is
exact in binary: the same money, down to the last bit.
"""

import dataclasses

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS, REASONS
from envs.market import MarketEnv

STEPS = 200
CFG = EnvConfig(
    paths=8,
    accounts=32,
    workers=0,
    window=4,
    episode_bars=60,
    risk_pct=40.0,
    max_leverage=40.0,
    take_profit_r=[0.0, 0.5, 1.0],
    trailing=True,
    funding_bps_per_day=30.0,
    maintenance_margin_rate=0.02,
    lot_size=2.0**-12,
    min_units=0.01,
    max_units=300.0,
    max_participation=0.5,
    flatten_at_end=True,
)
HAPPENED = ("signal", "flip", "stop", "take_profit", "liquidation", "end")


def draw_bars(count: int = 600) -> np.ndarray:
    """Wild bars on the tick about 10,000, [count, 5]."""
    rng = np.random.default_rng(0)
    moves = rng.normal(0, 0.004, count) * np.where(rng.random(count) < 0.1, 8, 1)
    close = 10_000 * np.exp(np.cumsum(moves - moves.mean()))
    gaps = rng.normal(0, 0.001, count) * np.where(rng.random(count) < 0.1, 50, 1)
    opens = np.r_[10_000.0, close[:-1]] * np.exp(gaps)
    wick = rng.exponential(0.002, (2, count))
    high, low = np.maximum(opens, close) * (1 + wick[0]), np.minimum(opens, close) * (1 - wick[1])
    prices = np.round(np.stack([opens, high, low, close], -1) * 10) / 10
    return np.c_[prices, rng.exponential(1_000, count)]


def play(exponent: int) -> TensorDict:
    """Random accounts where a unit of the asset costs ``2 ** exponent`` times as much."""
    unit = 2.0**exponent
    cfg = dataclasses.replace(
        CFG,
        tick_size=CFG.tick_size * unit,
        lot_size=CFG.lot_size / unit,
        min_units=CFG.min_units / unit,
        max_units=CFG.max_units / unit,
    )
    bars = draw_bars() * np.array([unit, unit, unit, unit, 1 / unit])
    env = MarketEnv(BarTable.from_arrays(bars, interval_s=3_600.0), cfg, seed=0)
    torch.manual_seed(0)
    return env.rollout(STEPS, break_when_any_done=False)


@pytest.fixture(scope="module")
def dear():
    """The same at ten thousand."""
    return play(0)


@pytest.mark.parametrize("exponent", [-34, -14, -1])
def test_the_same_market_in_other_units_is_the_same_money(dear, exponent):
    other = play(exponent)
    for key in ("action", "bar", "account"):
        for name, value in other.select(key).items(True, True):
            assert torch.equal(value, dear[name]), name
    assert torch.equal(other["next", "reward"], dear["next", "reward"])
    for i, name in enumerate(FILLS):
        power = -exponent if "units" in name or name == "position" else 0
        power = exponent if "price" in name else power
        want = dear["next", "fills"][..., i] * 2.0**power
        torch.testing.assert_close(
            other["next", "fills"][..., i], want, rtol=0, atol=0, equal_nan=True, msg=name
        )


def test_everything_happened_on_the_way(dear):
    fills = dear["next", "fills"]
    codes = {*fills[..., FILLS.index("exit_reason")].unique().tolist()}
    codes |= {*fills[..., FILLS.index("open_exit_reason")].unique().tolist()}
    assert {REASONS[int(code)] for code in codes if code == code} >= set(HAPPENED)
