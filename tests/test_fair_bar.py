"""Every way that one fair bar can go, for any account under any order: the exact expectation.

A bar is a fair jump and nine fair coins of a tick. Equity after it, averaged over all the ways, is
no more than before, to the last digits: so no policy of any length earns, whatever it looks at.
Nothing is drawn but the accounts, so that a gift of a millionth shows, where a simulated average
would need years.
"""

import inspect
import math
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
import torch

import envs.simulator
from candle_tables import NO_COSTS
from envs.config import EnvConfig
from envs.fills import Grid
from envs.ledger import REASONS
from envs.market import REWARD_EQUITY_FLOOR
from envs.rules import Rules
from envs.simulator import Account, Bar, Order, Outcome, advance
from faulty_module import load_faulty

COINS, ACCOUNTS, FARTHEST = 9, 500, 14  # ticks of stops and targets from the close
LIQUIDATION = REASONS.index("liquidation")
STILL, EITHER_WAY, SELDOM_FAR_UP, SELDOM_FAR_DOWN = (0,), (0, 0, -3, 3), (-1, -1, -1, 3), (1, 1, -2)
# Under e times the reward's floor an account has less to lose than to win: R-REWARD-1.
LEAST = math.e * REWARD_EQUITY_FLOOR
SLIPS = {"stop_slippage_bps": 0.1}  # and falls on a tick

# Price in ticks, jumps, parameters.
MARKETS = {
    "no costs": (200, EITHER_WAY, {}),
    "rare jumps up": (200, SELDOM_FAR_UP, {"trailing": True, "tick_size": 1e-6}),
    "rare jumps down": (200, SELDOM_FAR_DOWN, {"flatten_at_end": True, "tick_size": 2.5}),
    "targets at a touch": (200, EITHER_WAY, {"tp_through_ticks": 0.0, "risk_pct": 100.0}),
    "targets far through": (200, EITHER_WAY, {"tp_through_ticks": 5.0, "take_profit_r": [0.1, 7]}),
    "few ticks": (15, STILL, {"stop_step_bps": 2_500.0, "stop_steps": 3, "max_leverage": 1.0}),
    "large lots": (200, EITHER_WAY, {"lot_size": 25.0, "min_units": 50.0}),
    "leverage": (
        200, EITHER_WAY, {"max_leverage": 18.0, "maintenance_margin_rate": 0.05, **SLIPS},
    ),
    "near ruin": (200, EITHER_WAY, {"ruin_equity_frac": 0.99, "max_leverage": 9.0}),
    "ruined late": (
        200, EITHER_WAY, {"ruin_equity_frac": 0.01, "max_leverage": 18.0,
                          "maintenance_margin_rate": 0.05, **SLIPS},
    ),
    "the costs of the defaults": (
        200, EITHER_WAY, {"taker_fee_bps": 5.0, "maker_fee_bps": 2.0, "slippage_bps": 5.0, **SLIPS},
    ),
}  # fmt: skip


class Lived(NamedTuple):
    """Accounts before a bar, [ACCOUNTS], and after every way of it."""

    equity: torch.Tensor
    notional: torch.Tensor
    after: Outcome
    cfg: EnvConfig

    @property
    def reward(self):
        """Mean change of the log of equity above its floor."""
        floor = REWARD_EQUITY_FLOOR * self.cfg.initial_cash
        return self.after.equity.clamp_min(floor).log().mean(0) - self.equity.log()

    @property
    def gain(self):
        """Mean change of equity over the larger of equity and notional."""
        scale = torch.maximum(self.equity, self.notional)
        return (self.after.equity.mean(0) - self.equity) / scale


def configure(**params):
    """Stops of four ticks of a price of 200, and no costs."""
    return EnvConfig(**{"stop_step_bps": 200.0, "tick_size": 0.1, **NO_COSTS, **params})


def every_way(close, jumps, tick_size):
    """All bars after a close, in ticks: each jump as often as it is listed, then all coins."""
    coins = torch.tensor(list(product((-1, 1), repeat=COINS))).cumsum(1)
    opens = (close + torch.tensor(jumps))[:, None, None]
    walk = torch.cat([opens.expand(-1, len(coins), 1), opens + coins], -1).flatten(0, 1)
    prices = (walk[:, 0], walk.amax(1), walk.amin(1), walk[:, -1])
    return Bar(*(on_tick(price[:, None].double(), tick_size) for price in prices))


def on_tick(ticks, tick_size):
    """Prices of whole ticks, as a file has them."""
    return Grid(tick_size).toward(ticks * tick_size, 1.0)


def draw_accounts(cfg, close, least, rng):
    """Accounts as a bar may begin with: any side, debt, stop and target; and any order."""

    def drawn(values):
        return torch.from_numpy(rng.choice(values, ACCOUNTS))

    side = drawn([-1.0, 0.0, 1.0])
    held, price = side != 0, on_tick(torch.tensor(close).double(), cfg.tick_size)
    low = 1.001 * max(cfg.ruin_equity_frac, least)
    equity = cfg.initial_cash * torch.from_numpy(
        low * rng.uniform(1.0, 200.0, ACCOUNTS) ** rng.random(ACCOUNTS)
    )
    position = side * cfg.max_leverage * torch.from_numpy(rng.random(ACCOUNTS)) * equity / price
    through = int(cfg.tp_through_ticks)  # a target that was not gone far enough through still waits
    stop, target = drawn(range(1, FARTHEST)), drawn(range(1 - through, FARTHEST))
    has_target = held & (drawn([0, 1]) == 1)
    zero = torch.zeros_like(equity)
    account = Account(
        cash=equity - position * price,
        position=position,
        entry_price=price * held,
        stop_price=on_tick(close - side * stop, cfg.tick_size) * held,
        take_profit_price=on_tick(close + side * target, cfg.tick_size) * has_target,
        stop_distance=4 * cfg.tick_size * held.double(),
        bars_held=held.double(),
        peak=equity.clamp_min(cfg.initial_cash),
        last_bar=zero,
    )
    order = Order(
        side=drawn([-1.0, 0.0, 1.0]),
        risk_multiple=drawn(cfg.risk_multiples),
        stop_fraction=drawn(range(1, cfg.stop_steps + 1)) * cfg.stop_step_bps * 1e-4,
        take_profit_r=drawn([float(r) for r in cfg.take_profit_r]),
    )
    return equity, account, order


def live_every_way(close, jumps, *, advance=advance, last=False, least=LEAST, **params):
    """Let accounts under orders live through a bar in every way; `least` of the initial cash."""
    cfg = configure(**params)
    equity, account, order = draw_accounts(cfg, close, least, np.random.default_rng(31))
    bar = every_way(close, jumps, cfg.tick_size)
    grid = (len(bar.open), ACCOUNTS)
    wide = [type(row)(*(column.expand(grid) for column in row)) for row in (account, order)]
    ends = torch.full(grid, last)
    volume = torch.full_like(bar.open, 1e12)
    after = advance(Rules.of(cfg, 60.0), *wide, bar, volume, ends)
    return Lived(equity, (account.position * close * cfg.tick_size).abs(), after, cfg)


@pytest.mark.parametrize("last", [False, True], ids=["midway", "last bar"])
@pytest.mark.parametrize("market", MARKETS)
def test_a_fair_bar_pays_no_account_under_no_order(market, last):
    close, jumps, params = MARKETS[market]
    lived = live_every_way(close, jumps, last=last, **params)
    assert lived.gain.max() < 1e-13
    assert lived.reward.max() < 1e-13


def test_under_e_times_the_floor_a_fair_bet_has_a_reward():
    close, jumps, params = MARKETS["ruined late"]
    lived = live_every_way(close, jumps, least=REWARD_EQUITY_FLOOR, **params)
    assert lived.gain.max() < 1e-13
    assert lived.reward.max() > 1e-3
    assert lived.equity[lived.reward > 1e-13].max() < LEAST * lived.cfg.initial_cash


def test_everything_that_can_happen_in_a_bar_happens_in_these():
    seen = set()
    for close, jumps, params in MARKETS.values():
        after = live_every_way(close, jumps, last=True, **params).after
        for leg, part in (("open", after.open_exit), ("bar", after.exit)):
            seen |= {(leg, REASONS[int(code)]) for code in part.reason.unique()}
        assert (after.entry.units > 0).any()
        assert (after.entry.units < 0).any()
    ordered, within = ("signal", "flip"), ("ruin", "end")
    either = ("", "stop", "take_profit", "liquidation")
    assert seen == {*product(("open",), either + ordered), *product(("bar",), either + within)}


def test_a_bar_without_costs_takes_nothing_either_but_by_a_target():
    """A target fills at its own price, and is not met where the stop is touched too."""
    lived = live_every_way(200, EITHER_WAY)
    left = (lived.after.open_exit.reason, lived.after.exit.reason)
    took = sum((reason == REASONS.index("take_profit")).any(0) for reason in left) > 0
    assert lived.gain[~took].abs().max() < 1e-13
    assert lived.gain[took].min() < -1e-4


def test_a_liquidation_between_two_ticks_is_the_one_gift_of_a_stop_without_slippage():
    """R-FILL-5: up to a tick better than the market, which trades on the next tick only."""
    leverage = {"max_leverage": 18.0, "maintenance_margin_rate": 0.05}
    lived = live_every_way(200, EITHER_WAY, **leverage)
    left = lived.after.exit
    units = torch.where(left.reason == LIQUIDATION, left.units.abs(), 0.0).mean(0)
    most = units * lived.cfg.tick_size / torch.maximum(lived.equity, lived.notional)
    assert lived.gain.max() > 1e-5
    assert (lived.gain - most).max() < 1e-13


FAULTS = {
    "a stop that must be traded through": (
        "stop_touched = held & (side * (worst - stop) <= rules.touch)",
        "stop_touched = held & (side * (worst - stop) < -rules.touch)",
    ),
    "a liquidation that slips in the account's favour": (
        "price = fill_price(met, -side, rules.stop_slippage, rules.ticks)",
        "price = fill_price(met, side, rules.stop_slippage, rules.ticks)",
    ),
    "a ruin that pays a millionth of the price": (
        'reason = _reasons(side, "end", ruin=ruined)',
        'reason = _reasons(side, "end", ruin=ruined); price = price * (1 + 1e-6 * side * ruined)',
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_small_fault_shows_in_the_exact_expectation(fault, tmp_path):
    source = inspect.getsource(envs.simulator)
    sound, faulty = FAULTS[fault]
    assert sound in source
    mutant = load_faulty("envs.simulator", source.replace(sound, faulty), tmp_path)
    largest = max(
        live_every_way(close, jumps, advance=mutant.advance, **params).gain.max()
        for close, jumps, params in (MARKETS["near ruin"], MARKETS["leverage"])
    )
    assert largest > 1e-9
