"""A second simulator, one account and one bar at a time in plain numbers, that must agree.

Written from ``docs/simulator.md`` in its order, with nothing of the batched arithmetic: every
column of every fill, the reward, the ends and all that is observed are compared over long random
runs in markets where everything happens and, on coarse ticks, touches are exact.
"""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS, HEADS, REASONS
from envs.market import MarketEnv
from envs.observation import ACCOUNT

EPSILON = 1e-6  # of a tick or a lot


class Oracle:
    """One account."""

    def __init__(self, cfg, interval_s):
        self.cfg, self.days = cfg, interval_s / 86_400
        self.cash = self.equity = self.peak = cfg.initial_cash
        self.position, self.drawdown, self.bars_held = 0.0, 0.0, 0
        self.entry = self.stop = self.target = self.distance = None
        self.happened = Counter()

    def on_grid(self, value, step, way):
        """Round to a grid; up for `way` 1, down for -1, not at all on it."""
        n = value / step
        n = math.ceil(n - EPSILON) if way > 0 else math.floor(n + EPSILON)
        return n * step

    def beyond(self, price, level):
        """Whether `price` has reached `level` on the way that hurts the position."""
        self.happened["exact touch of a stop"] += price == level == self.stop
        return (level - price) * self.side / self.cfg.tick_size >= -EPSILON

    def through(self, price):
        """Whether `price` lies far enough beyond the take-profit."""
        if self.target is None:
            return False
        ticks = (price - self.target) * self.side / self.cfg.tick_size
        exact = abs(ticks - self.cfg.tp_through_ticks) < EPSILON
        self.happened["exactly through a take-profit"] += exact
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
        self.traded += abs(units) * price
        return price

    def leave(self, leg, reason, reference, **kwargs):
        """Close the position."""
        units = -self.position
        price = self.fill(units, reference, **kwargs)
        self.row.update({f"{leg}_reason": reason, f"{leg}_units": units, f"{leg}_price": price})
        self.happened[f"{leg} {reason}"] += 1
        self.position, self.entry, self.bars_held = 0.0, None, 0
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
        self.target = target if multiple and target > 0 else None

    def bar(self, order, bar, volume_t, last):
        """Live through one bar and say what happened."""
        cfg, (opens, high, low, close) = self.cfg, bar
        self.row = dict.fromkeys(FILLS, math.nan) | {"fee": 0.0, "slippage_cost": 0.0}
        self.row |= {"open_exit_reason": "", "exit_reason": ""}
        self.traded, self.heads = 0.0, ()
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
        self.row |= {"funding": funding, "cash": self.cash, "position": self.position}
        self.row |= {"entry_price": self.entry, "stop_price": self.stop}
        self.row["take_profit_price"] = self.target
        self.settle(close)
        return self.row, ruined

    def settle(self, close):
        """Equity, drawdown and the reward for the bar."""
        cfg, before, drawdown = self.cfg, self.equity, self.drawdown
        floor = 0.01 * cfg.initial_cash
        self.equity = self.cash + self.position * close
        self.peak = max(self.peak, self.equity)
        self.drawdown = 1 - self.equity / self.peak
        self.bars_held += self.side != 0
        reward = math.log(max(self.equity, floor)) - math.log(max(before, floor))
        reward -= cfg.drawdown_penalty * max(self.drawdown - drawdown, 0.0)
        reward -= cfg.turnover_penalty * self.traded / max(before, floor)
        self.row |= {"equity": self.equity, "drawdown": self.drawdown}
        self.row["reward"] = cfg.reward_scale * reward

    def observed(self, close):
        """The columns of the account, as the page lists them."""
        cfg, side = self.cfg, self.side
        relative = self.equity / cfg.initial_cash
        log_equity = min(max(math.log(relative), -3.0), 3.0) if relative > 0 else -3.0
        if not side:
            return [0.0, log_equity, self.drawdown, 0.0, 0.0, 0.0, 0.0, 0.0]
        step = close * cfg.stop_step_bps * 1e-4
        return [
            side,
            log_equity,
            self.drawdown,
            abs(self.position) * close / (self.equity * cfg.max_leverage),
            side * (close - self.entry) / self.distance,
            side * (close - self.stop) / step,
            side * (self.target - close) / step if self.target else 0.0,
            min(self.bars_held / cfg.episode_bars, 1.0),
        ]

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
        self.heads = HEADS[:1]
        if self.side and wanted != self.side:
            reason = "flip" if wanted else "signal"
            self.leave("open_exit", reason, opens, slippage_bps=cfg.slippage_bps)
        if wanted and not self.side:
            self.heads = HEADS
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


def draw_config(rng, tick):
    """A random configuration that the checks allow."""
    zero, bold = rng.random() < 0.3, rng.random() < 0.5  # the bold meet liquidation and ruin
    slippage = [0.0, 0.0] if zero else [float(rng.uniform(0.5, 8)) for _ in range(2)]
    fees = [0.0, 0.0] if zero else [float(rng.uniform(0.5, 9)) for _ in range(2)]
    return EnvConfig(
        paths=1,
        accounts=24,
        workers=0,
        episode_bars=int(rng.choice([5, 240])),
        tick_size=tick,
        risk_pct=100.0 if bold else float(rng.choice([0.5, 1, 5, 40])),
        max_leverage=float(rng.choice([10, 30] if bold else [0.5, 1, 3])),
        max_units=None if bold else rng.choice([None, 3.0]),
        max_participation=None if bold else rng.choice([None, 0.05]),
        lot_size=float(rng.choice([1e-8, 0.01, 0.25])),
        min_units=float(rng.choice([5e-5, 1.0])),
        stop_step_bps=float(rng.choice([25, 60, 140])) if tick < 10 else 140.0,
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
        reward_scale=float(rng.choice([1, 100])),
        drawdown_penalty=float(rng.choice([0, 0.5])),
        turnover_penalty=float(rng.choice([0, 1e-3])),
    )


def draw_bars(count, rng, tick):
    """Bars on the tick with gaps, wicks, and closes that repeat, about 10,000 however long."""
    steps = np.where(
        rng.random(count) < 0.8, rng.normal(0, 0.002, count), rng.normal(0, 0.03, count)
    )
    moves = steps * (rng.random(count) < 0.9)
    walk = np.zeros(count)
    for i in range(1, count):
        walk[i] = 0.97 * walk[i - 1] + moves[i]
    close = 10_000 * np.exp(walk)
    gap = np.exp(np.where(rng.random(count) < 0.15, rng.normal(0, 0.04, count), 0))
    opens = np.concatenate([close[:1], close[:-1]]) * gap
    wicks = rng.exponential(np.where(rng.random((2, count)) < 0.85, 0.001, 0.03))
    high, low = np.maximum(opens, close) * (1 + wicks[0]), np.minimum(opens, close) / (1 + wicks[1])
    # The doubles nearest to the decimals, as a file has them.
    prices = np.round(np.round(np.stack([opens, high, low, close], -1) / tick) * tick, 1)
    volume = rng.exponential(100, count) * (rng.random(count) < 0.8)
    return np.concatenate([prices, volume[:, None]], -1)


class Run:
    """A market, a configuration, and orders for every account and bar."""

    def __init__(self, seed, count):
        rng = np.random.default_rng(seed)
        tick = float(rng.choice([0.1, 5.0, 25.0]))
        self.cfg, self.count = draw_config(rng, tick), count
        self.bars = draw_bars(count + 1, rng, tick)
        self.interval_s = float(rng.choice([60, 3_600, 86_400]))
        shape = (count, self.cfg.accounts)
        self.orders = {h: rng.integers(n, size=shape) for h, n in self.cfg.num_actions.items()}
        persists = (rng.random(shape) < 0.7) & (np.arange(self.cfg.accounts) % 2 == 1)
        for t in range(1, count):
            kept = self.orders["direction"][t - 1]
            self.orders["direction"][t, persists[t]] = kept[persists[t]]

    def oracles(self):
        """Fresh accounts."""
        return [Oracle(self.cfg, self.interval_s) for _ in range(self.cfg.accounts)]

    def order(self, t, lane):
        """Indices of one action."""
        return {head: int(values[t, lane]) for head, values in self.orders.items()}

    def live(self, oracle, t, lane):
        """One account through bar t+1: its row and whether it is ruined."""
        bar, last = self.bars[t + 1, :4].tolist(), t == self.count - 1
        return oracle.bar(self.order(t, lane), bar, float(self.bars[t, 4]), last)


def differences(got, want, columns, slack):
    """Where two arrays [lanes, columns] differ, in words."""
    near = np.isclose(got, want, rtol=1e-9, atol=slack, equal_nan=True)
    return [f"lane {i}, {columns[j]}: {got[i, j]!r}, oracle {want[i, j]!r}"
            for i, j in np.argwhere(~near)]  # fmt: skip


def as_numbers(row):
    """A row of the oracle in the order and the codes of `FILLS`."""
    values = (row[key] for key in FILLS)
    codes = (REASONS.index(v) if isinstance(v, str) else v for v in values)
    return [math.nan if v is None else v for v in codes]


FILL_SLACK = np.array([1e-10 if "units" in k or "price" in k else 1e-6 for k in FILLS])


def compare(seed, count):
    """Every observable of every step; a ruined account starts anew in both."""
    run = Run(seed, count)
    table = BarTable.from_arrays(run.bars, interval_s=run.interval_s)
    env = MarketEnv(table, run.cfg, starts=torch.tensor([[0, count]]))
    oracles, td = run.oracles(), env.reset()
    for t in range(count):
        td["action"] = TensorDict(
            {h: torch.from_numpy(v[t : t + 1]) for h, v in run.orders.items()}, td.batch_size
        )
        stepped, td = env.step_and_maybe_reset(td)
        after, where = stepped["next"][0], f"seed {seed}, bar {t + 1}"
        lived = [run.live(oracle, t, lane) for lane, oracle in enumerate(oracles)]
        want = np.array([as_numbers(row) for row, _ in lived])
        fills = after["fills"].numpy()
        assert not differences(fills, want, FILLS, FILL_SLACK), where
        seen = np.array([oracle.observed(float(run.bars[t + 1, 3])) for oracle in oracles])
        assert not differences(after["account"].numpy(), seen, ACCOUNT, 1e-6 + 1e-6 * abs(seen))
        reward = after["reward"][:, 0].numpy()
        assert np.allclose(reward, want[:, FILLS.index("reward")], rtol=1e-6, atol=1e-5), where
        ruined = [is_ruined for _, is_ruined in lived]
        ended = t == count - 1
        assert after["terminated"][:, 0].tolist() == ruined, where
        assert after["truncated"][:, 0].tolist() == [ended and not r for r in ruined], where
        used = [[head in oracle.heads for head in HEADS] for oracle in oracles]
        assert after["head_used"].tolist() == used, where
        for lane in np.flatnonzero(ruined):
            oracles[lane] = Oracle(run.cfg, run.interval_s)


@pytest.mark.parametrize("seed", range(24))
def test_the_batched_simulator_agrees_with_one_account_at_a_time(seed):
    compare(seed, 60)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 140))
def test_the_batched_simulator_agrees_over_a_thousand_bars(seed):
    compare(seed, 1_000)


def test_everything_happens_in_these_runs():
    happened = Counter()
    for seed in range(24):
        run = Run(seed, 60)
        for lane, oracle in enumerate(run.oracles()):
            ruined = False
            for t in range(run.count):
                if not ruined:
                    _, ruined = run.live(oracle, t, lane)
            happened += oracle.happened
    carried = ("signal", "flip", "stop", "take_profit", "liquidation")
    later = ("stop", "take_profit", "liquidation", "ruin", "end")
    legs = [*(f"open_exit {r}" for r in carried), *(f"exit {r}" for r in later)]
    ties = ["exact touch of a stop", "exactly through a take-profit"]
    assert {name: happened[name] for name in [*legs, *ties] if happened[name] < 10} == {}
