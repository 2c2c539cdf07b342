"""A second simulator, one account and one bar at a time in plain numbers, that must agree.

Written from ``docs/simulator.md`` in its order, with nothing of the batched arithmetic: every
column of every fill is compared over long random runs in markets where everything happens.
"""

import math

import numpy as np
import pytest
import torch

from envs.config import EnvConfig
from envs.ledger import FILLS, REASONS
from envs.market import MarketEnv
from envs.table import BarTable

EPSILON = 1e-6  # of a tick or a lot


class Oracle:
    """One account."""

    def __init__(self, cfg, interval_s):
        self.cfg, self.days = cfg, interval_s / 86_400
        self.cash, self.position, self.peak = cfg.initial_cash, 0.0, cfg.initial_cash
        self.entry = self.stop = self.target = self.distance = None

    def on_grid(self, value, step, way):
        """Round to a grid; up for `way` 1, down for -1, not at all on it."""
        n = value / step
        n = math.ceil(n - EPSILON) if way > 0 else math.floor(n + EPSILON)
        return n * step

    def beyond(self, price, level):
        """Whether `price` has reached `level` on the way that hurts the position."""
        return (level - price) * self.side / self.cfg.tick_size >= -EPSILON

    def through(self, price):
        """Whether `price` lies far enough beyond the take-profit."""
        if self.target is None:
            return False
        ticks = (price - self.target) * self.side / self.cfg.tick_size
        return ticks >= self.cfg.tp_through_ticks - EPSILON

    @property
    def side(self):
        """-1, 0, 1."""
        return (self.position > 0) - (self.position < 0)

    def liquidation(self):
        """The price at which equity is the maintenance margin."""
        m = self.cfg.maintenance_margin_rate
        if self.side > 0:
            return -self.cash / (self.position * (1 - m)) if self.cash < 0 else -math.inf
        return self.cash / (-self.position * (1 + m))

    def fill(self, units, reference, *, slippage_bps=0.0, maker=False, floored=False):
        """Move money: the price, rounded against the account, and the fee."""
        buying = 1 if units > 0 else -1
        price = reference
        if slippage_bps:
            slipped = reference * (1 + buying * slippage_bps * 1e-4)
            price = self.on_grid(slipped, self.cfg.tick_size, buying)
        rate = (self.cfg.maker_fee_bps if maker else self.cfg.taker_fee_bps) * 1e-4
        if floored:
            worst = self.cash / (-self.position * (1 - self.side * rate))
            price = max(price, worst) if self.side > 0 else min(price, worst)
        fee = abs(units) * price * rate
        self.cash -= units * price + fee
        self.position += units
        self.row["fee"] += fee
        self.row["slippage_cost"] += units * (price - reference)
        return price

    def leave(self, leg, reason, reference, **kwargs):
        """Close the position."""
        units = -self.position
        price = self.fill(units, reference, **kwargs)
        self.row.update({f"{leg}_reason": reason, f"{leg}_units": units, f"{leg}_price": price})
        self.position, self.entry = 0.0, None
        self.stop = self.target = self.distance = None

    def enter(self, side, order, opens, volume_t):
        """Size and open a position."""
        cfg = self.cfg
        p = opens
        if cfg.slippage_bps:
            p = self.on_grid(opens * (1 + side * cfg.slippage_bps * 1e-4), cfg.tick_size, side)
        d = p * (order["stop_loss"] + 1) * cfg.stop_step_bps * 1e-4
        wanted = cfg.risk_pct / 100 * cfg.risk_multiples[order["size"]] * self.cash / d
        self.row["requested_units"] = wanted
        leverage = cfg.max_leverage
        limits = [wanted, leverage * self.cash / (p * (1 + leverage * cfg.taker_fee_bps * 1e-4))]
        if cfg.max_units is not None:
            limits.append(cfg.max_units)
        if cfg.max_participation is not None:
            limits.append(cfg.max_participation * volume_t)
        units = self.on_grid(min(limits), cfg.lot_size, -1)
        if units < cfg.min_units * (1 - 1e-12) or units <= 0:
            return
        self.fill(side * units, opens, slippage_bps=cfg.slippage_bps)
        self.row.update(entry_units=side * units, entry_fill_price=p)
        self.entry, self.distance = p, d
        self.stop = self.on_grid(p - side * d, cfg.tick_size, -side)
        multiple = cfg.take_profit_r[order["take_profit"]]
        target = self.on_grid(p + side * multiple * d, cfg.tick_size, side)
        self.target = target if multiple else None

    def bar(self, order, bar, volume_t, last):
        """Live through one bar and say what happened."""
        cfg, (opens, high, low, close) = self.cfg, bar
        self.row = dict.fromkeys(FILLS, math.nan) | {"fee": 0.0, "slippage_cost": 0.0}
        self.row |= {"open_exit_reason": "", "exit_reason": ""}
        self.at_the_open(order, opens, volume_t)
        if self.side:
            self.within(opens, *((low, high) if self.side > 0 else (high, low)))
        funding = abs(self.position) * close * cfg.funding_bps_per_day * 1e-4 * self.days
        self.cash -= funding
        mark = self.cash + self.position * close
        ruined = mark <= cfg.ruin_equity_frac * cfg.initial_cash
        if self.side and (ruined or (last and cfg.flatten_at_end)):
            reason = "ruin" if ruined else "end"
            self.leave("exit", reason, close, slippage_bps=cfg.slippage_bps)
        if self.side and cfg.trailing:
            follow = self.on_grid(close - self.side * self.distance, cfg.tick_size, -self.side)
            self.stop = max(follow * self.side, self.stop * self.side) * self.side
        equity = self.cash + self.position * close
        self.peak = max(self.peak, equity)
        self.row.update(
            funding=funding,
            cash=self.cash,
            position=self.position,
            entry_price=self.entry,
            stop_price=self.stop,
            take_profit_price=self.target,
            equity=equity,
            drawdown=1 - equity / self.peak,
        )
        return self.row, ruined

    def at_the_open(self, order, opens, volume_t):
        """Carried exits, else the action's orders."""
        cfg, wanted = self.cfg, order["direction"] - 1
        stop_slip = {"slippage_bps": cfg.stop_slippage_bps}
        if self.side and self.beyond(opens, self.liquidation()):
            return self.leave("open_exit", "liquidation", opens, floored=True, **stop_slip)
        if self.side and self.beyond(opens, self.stop):
            return self.leave("open_exit", "stop", opens, **stop_slip)
        if self.side and self.through(opens):
            return self.leave("open_exit", "take_profit", self.target, maker=True)
        if self.side and wanted != self.side:
            reason = "flip" if wanted else "signal"
            self.leave("open_exit", reason, opens, slippage_bps=cfg.slippage_bps)
        if wanted and not self.side:
            self.enter(wanted, order, opens, volume_t)
        return None

    def within(self, opens, worst, best):
        """The bar's range: what it touched, the adverse first."""
        stop_slip = {"slippage_bps": self.cfg.stop_slippage_bps}
        liquidation = self.liquidation()
        nearer = max if self.side > 0 else min
        farther = min if self.side > 0 else max
        if self.beyond(worst, nearer(self.stop, liquidation)):
            if self.beyond(liquidation, self.stop):  # the stop is met first, or they are one
                return self.leave("exit", "stop", farther(self.stop, opens), **stop_slip)
            reference = farther(liquidation, opens)
            return self.leave("exit", "liquidation", reference, floored=True, **stop_slip)
        if self.through(best):
            return self.leave("exit", "take_profit", self.target, maker=True)
        return None


def draw_config(rng):
    """A random configuration that the checks allow."""
    zero = rng.random() < 0.3
    slippage = [0.0, 0.0] if zero else [float(rng.uniform(0.5, 8)) for _ in range(2)]
    fees = [0.0, 0.0] if zero else [float(rng.uniform(0.5, 9)) for _ in range(2)]
    return EnvConfig(
        paths=1,
        accounts=24,
        workers=0,
        risk_pct=float(rng.choice([0.5, 1, 5, 40, 100])),
        max_leverage=float(rng.choice([0.5, 1, 3, 10, 30])),
        max_units=rng.choice([None, 3.0]),
        max_participation=rng.choice([None, 0.05]),
        lot_size=float(rng.choice([1e-8, 0.01, 0.25])),
        min_units=float(rng.choice([5e-5, 1.0])),
        stop_step_bps=float(rng.choice([25, 60, 140])),
        trailing=bool(rng.random() < 0.5),
        taker_fee_bps=fees[0],
        maker_fee_bps=fees[1],
        slippage_bps=slippage[0],
        stop_slippage_bps=slippage[1],
        tp_through_ticks=float(rng.choice([0, 1, 4])),
        funding_bps_per_day=float(rng.choice([0, 3, 100])),
        allow_zero_costs=zero,
        maintenance_margin_rate=float(rng.choice([0.004, 0.02])),
        ruin_equity_frac=float(rng.choice([0.1, 0.5])),
        flatten_at_end=bool(rng.random() < 0.5),
    )


def draw_bars(count, rng):
    """Bars on the tick of 0.1 with gaps, wicks, and closes that repeat."""
    steps = np.where(
        rng.random(count) < 0.8, rng.normal(0, 0.002, count), rng.normal(0, 0.03, count)
    )
    close = 10_000 * np.exp(np.cumsum(steps * (rng.random(count) < 0.9)))
    gap = np.exp(np.where(rng.random(count) < 0.15, rng.normal(0, 0.04, count), 0))
    opens = np.concatenate([close[:1], close[:-1]]) * gap
    wicks = rng.exponential(np.where(rng.random((2, count)) < 0.85, 0.001, 0.03))
    high, low = np.maximum(opens, close) * (1 + wicks[0]), np.minimum(opens, close) / (1 + wicks[1])
    prices = np.round(np.stack([opens, high, low, close], -1) * 10) / 10
    volume = rng.exponential(100, count) * (rng.random(count) < 0.8)
    return np.concatenate([prices, volume[:, None]], -1)


@pytest.mark.parametrize("seed", range(24))
def test_the_batched_simulator_agrees_with_one_account_at_a_time(seed, actions):
    rng = np.random.default_rng(seed)
    cfg, bars = draw_config(rng), draw_bars(61, rng)
    interval_s = float(rng.choice([60, 3_600, 86_400]))
    table = BarTable.from_arrays(bars, interval_s=interval_s)
    env = MarketEnv(table, cfg, starts=torch.tensor([[0, 60]]))
    oracles = [Oracle(cfg, interval_s) for _ in range(cfg.accounts)]
    alive = [True] * cfg.accounts
    td, orders = env.reset(), [None] * cfg.accounts
    for t in range(60):
        for lane in range(cfg.accounts):
            drawn = {h: int(rng.integers(n)) for h, n in cfg.num_actions.items()}
            if orders[lane] and rng.random() < 0.7 * (lane % 2):
                drawn["direction"] = orders[lane]["direction"]
            orders[lane] = drawn
        td["action"] = actions(orders, (1, cfg.accounts))
        td = env.step(td)["next"]
        fills, terminated = td["fills"][0].tolist(), td["terminated"].flatten().tolist()
        for lane, oracle in enumerate(oracles):
            if not alive[lane]:
                continue
            want, ruined = oracle.bar(orders[lane], bars[t + 1, :4], bars[t, 4], t == 59)
            got = dict(zip(FILLS, fills[lane], strict=True))
            where = f"seed {seed}, bar {t + 1}, lane {lane}: {orders[lane]}"
            for key in set(FILLS) - {"reward"}:
                if key.endswith("reason"):
                    assert REASONS[int(got[key])] == want[key], f"{key}, {where}"
                    continue
                expected = math.nan if want[key] is None else want[key]
                slack = 1e-10 if "units" in key or "price" in key else 1e-6
                near = pytest.approx(expected, rel=1e-9, abs=slack, nan_ok=True)
                assert got[key] == near, f"{key}, {where}"
            assert terminated[lane] == ruined, where
            alive[lane] = not ruined
