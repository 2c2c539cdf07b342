"""Accounts that try to break the simulator: its margin, its ruin, its grids.

Random and scripted accounts, some of which know the next bar and seek the worst or the best of it,
live on bars with gaps of percents. ``pytest -m long`` runs the same with thirty times the steps.
"""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from candle_tables import NO_COSTS
from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS, HEADS, LEDGER, REASONS
from envs.market import MarketEnv
from random_walk import wild_bars

LIQUIDATION = REASONS.index("liquidation")
PATHS, ACCOUNTS, BARS = 32, 64, 4_000
ALWAYS_NUMBERS = (
    "fee", "slippage_cost", "funding", "cash", "position", "equity", "drawdown", "reward"
)  # fmt: skip

MARKETS = {
    "defaults": {},
    "no costs": {**NO_COSTS, "max_leverage": 20.0, "risk_pct": 50.0},
    "hundred times": {
        "max_leverage": 100.0,
        "risk_pct": 100.0,
        "funding_bps_per_day": 100.0,
        "trailing": True,
        "initial_cash": 1_000.0,
    },
    "tight margin": {
        "max_leverage": 9.0,
        "risk_pct": 100.0,
        "maintenance_margin_rate": 0.1,
        "stop_step_bps": 300.0,
        "lot_size": 0.001,
    },
    "large lots, coarse ticks": {
        "max_leverage": 30.0,
        "risk_pct": 100.0,
        "lot_size": 0.25,
        "min_units": 0.25,
        "tick_size": 2.5,
        "max_participation": 0.5,
        "slippage_bps": 2.0,
        "stop_slippage_bps": 8.0,
    },
}


class Seen(NamedTuple):
    """What a script goes by, each [paths, accounts]; `falls` knows the next bar."""

    position: torch.Tensor
    losing: torch.Tensor  # below the initial cash
    falls: torch.Tensor  # the next low is further from the close than the next high
    step: int


SHORT, FLAT, LONG = 0, 1, 2
# Direction, size, stop and target as indices; -1 is a head's last.
SCRIPTS = {
    "random": None,
    "random, but stays for long": None,
    "as large as it goes, long": lambda s: (LONG, -1, 0, 0),
    "as large as it goes, short": lambda s: (SHORT, -1, 0, 0),
    "liquidated before it is stopped, long": lambda s: (LONG, -1, -1, 0),
    "liquidated before it is stopped, short": lambda s: (SHORT, -1, -1, 0),
    "flips at every bar": lambda s: (2 * (s.step % 2), -1, -1, 0),
    "in and out": lambda s: (LONG - s.step % 2, -1, 0, -1),
    "larger when losing": lambda s: (LONG, torch.where(s.losing, -1, 0), 0, 1),
    "knows the next bar and seeks its worst": lambda s: (2 * s.falls.long(), -1, -1, 0),
    "knows the next bar and seeks its best": lambda s: (2 - 2 * s.falls.long(), -1, 0, 1),
    "keeps what it has": lambda s: (torch.where(s.position < 0, SHORT, LONG), -1, 3, 0),
}


def choose(env, td, step, previous):
    """Actions of a step: account `k` of every path follows script `k` modulo their number."""
    close_t = env.ohlcv[td["bar"][..., 0], 3]
    ahead = env.ohlcv[(td["bar"][..., 0] + 1).clamp_max(len(env.ohlcv) - 1)]
    cash, position = td["ledger"][..., 0], td["ledger"][..., 1]
    seen = Seen(
        position=position,
        losing=cash + position * close_t < env.cfg.initial_cash,
        falls=close_t - ahead[..., 2] > ahead[..., 1] - close_t,
        step=step,
    )
    drawn = env.full_action_spec.rand()["action"]
    chosen = torch.stack([drawn[head] for head in HEADS])
    number = torch.arange(ACCOUNTS) % len(SCRIPTS)
    stays = (number == 1) & (torch.rand(PATHS, ACCOUNTS) < 0.95) & (step > 0)
    chosen[0] = torch.where(stays, previous, chosen[0])
    for k, script in enumerate(SCRIPTS.values()):
        for head, value in enumerate(script(seen) if script else ()):
            index = torch.as_tensor(value).expand(PATHS, ACCOUNTS)
            count = env.cfg.num_actions[HEADS[head]]
            chosen[head] = torch.where(number == k, index % count, chosen[head])
    return TensorDict(dict(zip(HEADS, chosen, strict=True)), env.batch_size)


def check_step(cfg, before, after, close_t):
    """What no step may do, whatever was asked for; `before` and `after` by column."""
    mark = before["cash"] + before["position"] * close_t
    assert (mark > cfg.ruin_equity_frac * cfg.initial_cash).all(), "a step after ruin"

    # What is left of the cash when a flip has closed, and what the entry then did with it.
    units, price = after["entry_units"], after["entry_fill_price"]
    closed, at = after["open_exit_units"].nan_to_num(), after["open_exit_price"].nan_to_num()
    taker = cfg.taker_fee_bps * 1e-4
    cash = before["cash"] - closed * at - closed.abs() * at * taker
    entered = units.isfinite()
    notional = units.abs() * price
    limit = cfg.max_leverage * (cash - notional * taker)
    slack = 1e-9 * limit + 1e-6 * cfg.lot_size * price
    assert (notional <= limit + slack)[entered].all(), "leverage at the fill"
    lots = round(1 / cfg.lot_size)
    size = units.abs()[entered]
    assert torch.equal(size, (size * lots).round() / lots), "sizes off the lot grid"
    assert (size >= cfg.min_units).all()

    liquidated = (after["exit_reason"] == LIQUIDATION) | (after["open_exit_reason"] == LIQUIDATION)
    assert (after["cash"][liquidated] >= -1e-9 * cfg.initial_cash * cfg.max_leverage).all()
    assert (after["position"][liquidated] == 0).all()
    return entered.sum(), liquidated.sum()


def columns(names, packed):
    """Columns of a packed tensor by name."""
    return dict(zip(names, packed.unbind(-1), strict=True))


def attack(market, steps):
    """Let the scripts loose on a market; how many steps, entries, liquidations and ruins."""
    cfg = EnvConfig(
        paths=PATHS, accounts=ACCOUNTS, workers=0, window=2, episode_bars=60, **MARKETS[market]
    )
    table = BarTable.from_arrays(wild_bars(BARS, np.random.default_rng(8)), interval_s=3_600.0)
    env = MarketEnv(table, cfg, seed=8)
    torch.manual_seed(8)
    td, direction = env.reset(), torch.zeros(PATHS, ACCOUNTS, dtype=torch.int64)
    fresh, numbers = td["ledger"][0, 0, :-1].clone(), [FILLS.index(n) for n in ALWAYS_NUMBERS]
    entries = liquidations = ruins = 0
    for step in range(steps):
        td["action"] = choose(env, td, step, direction)
        direction = td["action", "direction"]
        td, following = env.step_and_maybe_reset(td)
        after = td["next"]
        for values in (after["ledger"], after["account"], after["reward"]):
            assert values.isfinite().all()
        assert after["fills"][..., numbers].isfinite().all()
        close_t = env.ohlcv[td["bar"][..., 0], 3]
        found = check_step(
            cfg, columns(LEDGER, td["ledger"]), columns(FILLS, after["fills"]), close_t
        )
        ruined = after["terminated"][..., 0]
        assert (following["ledger"][ruined][..., :-1] == fresh).all()
        entries, liquidations = entries + int(found[0]), liquidations + int(found[1])
        ruins += int(ruined.sum())
        td = following
    return steps * PATHS * ACCOUNTS, entries, liquidations, ruins


def attack_all(steps):
    """The sums over all markets; in the leveraged ones accounts are liquidated and ruined."""
    counts = {market: attack(market, steps) for market in MARKETS}
    total = [sum(column) for column in zip(*counts.values(), strict=True)]
    print("steps {:,}, entries {:,}, liquidations {:,}, ruins {:,}".format(*total))
    for market, (_, entries, liquidations, ruins) in counts.items():
        assert entries > steps * PATHS
        assert market == "defaults" or (liquidations > steps and ruins > steps), market
    return total


def test_no_adversary_breaks_margin_ruin_or_the_grids():
    assert attack_all(32)[0] > 300_000


@pytest.mark.long
def test_no_adversary_breaks_margin_ruin_or_the_grids_in_ten_million_steps():
    assert attack_all(1_000)[0] > 10_000_000
