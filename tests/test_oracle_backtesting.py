"""Brackets by another program: backtesting.py holds the same stops and targets to the same bars.

It is told when to open and when to leave, how many units and where stop and target lie; when and at
what price a bracket ends a trade is its own finding. Two of its rules are not ours by definition,
and where they apply the difference itself is asserted:

- a target that the open has gapped through fills there at the open, here at its own price;
- a bar that opens beyond the target and comes back to the stop is a stop there, a target here.

A mere touch fills its targets, hence `tp_through_ticks` of 0, and one fee rate serves all fills.
"""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tensordict import TensorDict

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS, HEADS, REASONS
from envs.market import MarketEnv

pytestmark = [
    pytest.mark.oracle,
    # Their modules and their use of pandas are not ours to mend.
    pytest.mark.filterwarnings("ignore"),
]
TICK, FEE, CASH = 0.5, 1e-4, 1e8
STOP_STEP = 25e-4
CFG = EnvConfig(
    paths=1,
    accounts=1,
    workers=0,
    initial_cash=CASH,
    risk_pct=0.05,  # of so much cash that it never runs out, nor is anything liquidated
    stop_step_bps=1e4 * STOP_STEP,
    stop_steps=4,
    take_profit_r=[1.0, 2.0],  # every trade has a target
    tick_size=TICK,
    lot_size=1.0,  # whole units are all that backtesting.py trades
    min_units=1.0,
    taker_fee_bps=1e4 * FEE,
    maker_fee_bps=1e4 * FEE,
    slippage_bps=0.0,
    stop_slippage_bps=0.0,
    tp_through_ticks=0.0,
    allow_zero_costs=True,
)
STOP, TARGET = REASONS.index("stop"), REASONS.index("take_profit")


@pytest.fixture(scope="module")
def backtesting():
    return pytest.importorskip("backtesting")


def bars_on_the_tick(paths, count, rng):
    """Bars around 1,000 in ticks of 0.5: calm opens, opens with a gap, now and then a long wick.

    Returns float64 [paths, count, 5], and where the open has a gap, bool [paths, count].
    """
    shape = (paths, count)
    gapped = rng.random(shape) < 0.25
    gap = np.where(gapped, rng.integers(-24, 25, shape), rng.integers(-1, 2, shape))
    body = rng.integers(-4, 5, shape)
    opens, close = np.empty(shape), np.empty(shape)
    last = np.full(paths, 2_000)
    for t in range(count):
        opens[:, t] = last + gap[:, t] - np.clip((last - 2_000) // 100, -3, 3) * gapped[:, t]
        close[:, t] = last = (opens[:, t] + body[:, t]).astype(np.int64)
    wick = rng.geometric(np.where(rng.random((2, *shape)) < 0.6, 0.5, 0.08)) - 1
    high, low = np.maximum(opens, close) + wick[0], np.minimum(opens, close) - wick[1]
    volume = np.full(shape, 2e6)
    return np.stack([opens, high, low, close, volume], -1) * TICK, gapped


def play(bars, gapped, rng):
    """Traders who open only at calm opens, and hold, leave or flip: columns [paths, count].

    `direction` [t] is decided on bar t, the columns of the fills at [t + 1] are what came of it.
    """
    paths, count = gapped.shape
    first = torch.arange(paths) * count
    starts = torch.stack([first, first + count - 1], -1)
    env = MarketEnv(BarTable.from_arrays(bars.reshape(-1, 5)), CFG, starts=starts)
    columns = np.full((count, len(FILLS), paths), np.nan)
    columns[0] = 0.0
    orders = {head: np.zeros((paths, count), dtype=np.int64) for head in HEADS}
    td, wanted = env.reset(), np.zeros(paths, dtype=np.int64)
    for t in range(count - 1):
        held = np.sign(columns[t, FILLS.index("position")]).astype(np.int64)
        new = np.where(held == 0, rng.choice([-1, 1], paths), rng.integers(-1, 2, paths))
        decides = ~gapped[:, t + 1] & ((held == 0) | (rng.random(paths) < 0.05)) & (t > 0)
        wanted = np.where(decides, new, held)
        orders["direction"][:, t] = wanted
        for head in HEADS[1:]:
            orders[head][:, t] = rng.integers(0, CFG.num_actions[head], paths)
        action = {head: torch.from_numpy(order[:, t, None]) for head, order in orders.items()}
        action["direction"] = action["direction"] + 1
        td["action"] = TensorDict(action, (paths, 1))
        td = env.step(td)["next"]
        columns[t + 1] = td["fills"][:, 0].numpy().T
    named = dict(zip(FILLS, columns.transpose(1, 2, 0), strict=True))
    named["open_exit_reason"][:, 0] = named["exit_reason"][:, 0] = 0
    named["entry_units"][:, 0] = np.nan
    return SimpleNamespace(**orders, **named)


def away(value, side):
    """Rounded to the tick, up for a `side` of 1 and down for -1."""
    return np.where(side > 0, np.ceil(value / TICK - 1e-6), np.floor(value / TICK + 1e-6)) * TICK


def our_entries(run, path):
    """One row a position that a path opened, its bracket by R-SIZE-1."""
    bar = np.flatnonzero(np.isfinite(run.entry_units[path]))
    units, price = run.entry_units[path, bar], run.entry_fill_price[path, bar]
    side = np.sign(units)
    distance = price * (run.stop_loss[path, bar - 1] + 1) * STOP_STEP
    multiple = np.array(CFG.take_profit_r)[run.take_profit[path, bar - 1]]
    stop = away(price - side * distance, -side)
    target = away(price + side * multiple * distance, side)
    columns = {"entry_bar": bar, "entry_price": price, "units": units, "side": side}
    return pd.DataFrame(columns | {"stop": stop, "target": target})


def our_exits(run, path):
    """One row a position that a path closed, in the order of time."""
    legs = []
    for leg in ("open_exit", "exit"):
        bar = np.flatnonzero(getattr(run, f"{leg}_reason")[path])
        price, reason = (getattr(run, f"{leg}_{name}")[path, bar] for name in ("price", "reason"))
        columns = {"exit_bar": bar, "exit_price": price, "reason": reason}
        legs.append(pd.DataFrame(columns | {"within": leg == "exit"}))
    return pd.concat(legs).sort_values(["exit_bar", "within"], ignore_index=True)


def their_run(backtesting, bars, direction, entries):
    """backtesting.py on the same bars: its closed trades by entry, and its equity a bar."""
    opened = {row.entry_bar: row for row in entries.itertuples()}

    class Replay(backtesting.Strategy):
        """Leaves when the direction says so, opens what was opened, leaves brackets alone."""

        def init(self):
            pass

        def next(self):
            t = len(self.data) - 1
            for trade in self.trades:
                if np.sign(trade.size) != direction[t]:
                    trade.close()
            order = opened.get(t + 1)
            if order is not None:
                place = self.buy if order.units > 0 else self.sell
                place(size=abs(order.units), sl=order.stop, tp=order.target)

    names = ["Open", "High", "Low", "Close", "Volume"]
    frame = pd.DataFrame(bars, columns=names)
    frame.index = pd.date_range("2025-01-01", periods=len(bars), freq="min")
    test = backtesting.Backtest(
        frame,
        Replay,
        cash=CASH,
        spread=0.0,
        margin=0.01,
        commission=lambda units, price: abs(units) * price * FEE,
        finalize_trades=False,
    )
    found = test.run()
    closed = found._trades.sort_values(["EntryBar", "ExitBar"], ignore_index=True)
    return closed, found._equity_curve["Equity"].to_numpy()


def classify(trades, bars, direction):
    """What the bar of each exit did to the bracket, and the price that their rules give it."""
    opens, high, low, _ = bars[trades.exit_bar, :4].T
    side, stop, target = trades.side, trades.stop, trades.target
    carried = trades.entry_bar < trades.exit_bar
    worst, best = np.where(side > 0, low, high), np.where(side > 0, high, low)
    stopped, gained = side * (worst - stop) <= 0, side * (best - target) >= 0
    through = carried & (side * (opens - target) >= 0)
    # An order to leave goes before the bracket: it is filled at the open, whatever follows.
    left = direction[trades.exit_bar - 1] != side
    comes_back = through & stopped & ~left
    touch = np.where(trades.reason == STOP, worst == stop, best == target)
    return trades.assign(
        theirs=np.where(comes_back, stop, np.where(through, opens, trades.exit_price)),
        both=stopped & gained & trades.within,
        past_stop=carried & (side * (opens - stop) < 0),
        past_target=through & (opens != target),
        comes_back=comes_back,
        touch=touch & trades.within & trades.reason.isin([STOP, TARGET]),
    )


def compare(backtesting, paths, count, seed):
    """Let both play the same bars: every trade of ours beside theirs, and the worst equity."""
    rng = np.random.default_rng(seed)
    bars, gapped = bars_on_the_tick(paths, count, rng)
    run = play(bars, gapped, rng)
    every, worst = [], 0.0
    for path in range(paths):
        entries, exits = our_entries(run, path), our_exits(run, path)
        direction = run.direction[path]
        closed, equity = their_run(backtesting, bars[path], direction, entries)
        assert len(closed) == len(exits) >= len(entries) - 1
        trades = pd.concat([entries[: len(exits)], exits], axis=1)
        trades = classify(trades, bars[path], direction).join(closed)
        gain = trades.units * (trades.theirs - trades.exit_price)
        gain -= trades.units.abs() * (trades.theirs - trades.exit_price) * FEE
        surplus = np.bincount(trades.exit_bar, gain, minlength=count).cumsum()
        difference = np.abs(equity - (run.equity[path] + surplus))[1:] / CASH
        worst = max(worst, difference.max())
        every.append(trades)
    return pd.concat(every, ignore_index=True), worst


def check(trades, worst, factor):
    """No mismatch, and every kind of exit often enough to mean something."""
    same = (
        (trades.EntryBar == trades.entry_bar)
        & (trades.EntryPrice == trades.entry_price)
        & (trades.Size == trades.units)
        & (trades.ExitBar == trades.exit_bar)
        & (trades.ExitPrice == trades.theirs)
    )
    assert same.all(), trades[~same].head(10).to_string()
    assert worst < 1e-9
    counts = trades[["both", "past_stop", "past_target", "comes_back", "touch"]].sum()
    print(f"{len(trades)} trades, {counts.to_dict()}, equity within {worst:.1e}")
    assert len(trades) >= 10_000 * factor
    assert counts.both >= 1_000 * factor
    assert counts.past_stop >= 500 * factor
    assert counts.past_target >= 500 * factor
    assert counts.touch >= 200 * factor
    assert counts.comes_back > 0
    assert (trades.side > 0).mean() == pytest.approx(0.5, abs=0.1)
    # the difference by definition: never to the advantage of the account here
    differs = trades[trades.theirs != trades.exit_price]
    assert (differs.reason == TARGET).all()
    assert (differs.exit_price == differs.target).all()
    better = differs.side * (differs.theirs - differs.exit_price) > 0
    assert (better == ~differs.comes_back).all()


def test_brackets_end_where_backtesting_py_ends_them(backtesting):
    check(*compare(backtesting, paths=24, count=3_000, seed=11), factor=1)


@pytest.mark.long
def test_brackets_end_where_backtesting_py_ends_them_in_the_long_run(backtesting):
    check(*compare(backtesting, paths=220, count=3_000, seed=12), factor=10)
