"""Money is conserved: every step of random accounts on wild bars, recomputed from its trace.

Nothing here calls the simulator's arithmetic: references, fees, funding and the change of equity
are derived in numpy from the account before the step, the bars, and what the step says it filled.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from candle_tables import NO_COSTS
from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS, LEDGER, REASONS
from envs.market import MarketEnv
from random_walk import wild_bars

PATHS, ACCOUNTS, STEPS = 16, 16, 100
TICK = 0.1
CODE = {reason: code for code, reason in enumerate(REASONS)}
MARKETS = {
    "defaults": {},
    "no costs": NO_COSTS,
    "trailing, funding, unequal slippage": {
        "trailing": True,
        "funding_bps_per_day": 30.0,
        "slippage_bps": 2.0,
        "stop_slippage_bps": 8.0,
        "flatten_at_end": True,
    },
    "tight margin": {
        "risk_pct": 40.0,
        "max_leverage": 10.0,
        "maintenance_margin_rate": 0.05,
        "funding_bps_per_day": 100.0,
        "flatten_at_end": True,
    },
    "forty times": {
        "risk_pct": 100.0,
        "max_leverage": 40.0,
        "stop_step_bps": 50.0,
        "maker_fee_bps": 0.5,
        "tp_through_ticks": 0.0,
    },
    "thin market, large lots": {
        "max_participation": 0.1,
        "max_units": 12.0,
        "lot_size": 0.25,
        "min_units": 0.5,
        "take_profit_r": [0.0, 0.5, 1.0],
        "trailing": True,
    },
}


def random_actions(cfg, rng, steps=STEPS):
    """Indices [steps, paths, accounts] a head; half of the lanes keep a direction for a while."""
    shape = (steps, PATHS, ACCOUNTS)
    drawn = {head: rng.integers(0, count, shape) for head, count in cfg.num_actions.items()}
    keep = rng.random(shape) < np.where(np.arange(ACCOUNTS) % 2, 0.9, 0.0)
    direction = drawn["direction"]
    for t in range(1, steps):
        direction[t] = np.where(keep[t], direction[t - 1], direction[t])
    return {head: torch.from_numpy(values) for head, values in drawn.items()}


def roll(cfg, *, seed=0, interval_s=3_600.0):
    """Random accounts on random bars: numpy columns [steps, paths, accounts]."""
    rng = np.random.default_rng(seed)
    bars = wild_bars(1_500, rng)
    table = BarTable.from_arrays(bars, interval_s=interval_s)
    env = MarketEnv(table, cfg, seed=seed)
    actions = random_actions(cfg, rng)
    td, steps = env.reset(), []
    for t in range(STEPS):
        action = env.full_action_spec.zero()["action"]
        td["action"] = action.update({head: values[t] for head, values in actions.items()})
        td, following = env.step_and_maybe_reset(td)
        steps.append(td)
        td = following
    data = torch.stack(steps)
    before = dict(zip(LEDGER, data["ledger"].numpy().transpose(3, 0, 1, 2), strict=True))
    fills = dict(zip(FILLS, data["next", "fills"].numpy().transpose(3, 0, 1, 2), strict=True))
    pointer = data["bar"].numpy()[..., 0]
    keys = ("open", "high", "low", "close")
    now = dict(zip(keys, bars[pointer + 1].transpose(3, 0, 1, 2)[:4], strict=True))
    return SimpleNamespace(
        before=SimpleNamespace(**before),
        fills=SimpleNamespace(**fills),
        bar=SimpleNamespace(**now),
        close_t=bars[pointer, 3],
        volume_t=bars[pointer, 4],
        actions={head: values.numpy() for head, values in actions.items()},
        terminated=data["next", "terminated"].numpy()[..., 0],
        truncated=data["next", "truncated"].numpy()[..., 0],
        reward=data["next", "reward"].numpy()[..., 0],
        funding_rate=cfg.funding_bps_per_day * 1e-4 * interval_s / 86_400,
    )


def same(got, want, scale=100_000.0, where=...):
    """Equal to 1e-9 of the number or, through cancellation, of the account."""
    np.testing.assert_allclose(got[where], want[where], rtol=1e-9, atol=1e-9 * scale)


def tick_round(value, direction):
    """Up to the tick where `direction` is above 0, else down; a millionth of a tick is on it."""
    up = np.ceil(value * 10 - 1e-6) / 10
    down = np.floor(value * 10 + 1e-6) / 10
    return np.where(direction > 0, up, down)


@pytest.fixture(scope="module", params=list(MARKETS), ids=lambda name: name.replace(" ", "_"))
def played(request):
    """One market's configuration and everything that happened in it."""
    cfg = EnvConfig(
        paths=PATHS,
        accounts=ACCOUNTS,
        workers=0,
        window=4,
        episode_bars=60,
        **MARKETS[request.param],
    )
    return cfg, roll(cfg)


def legs(run):
    """Units, price and reason of the three fills of a step, 0 where there was none."""
    f = run.fills
    entry_reason = np.zeros_like(f.open_exit_reason)
    for units, price, reason in (
        (f.open_exit_units, f.open_exit_price, f.open_exit_reason),
        (f.entry_units, f.entry_fill_price, entry_reason),
        (f.exit_units, f.exit_price, f.exit_reason),
    ):
        yield np.nan_to_num(units), np.nan_to_num(price), reason


def references(cfg, run):
    """The price each fill is measured against, before slippage and rounding."""
    f, b, bar = run.fills, run.before, run.bar
    took_at_open = f.open_exit_reason == CODE["take_profit"]
    yield np.where(took_at_open, b.take_profit_price, bar.open)
    yield bar.open

    entered = ~np.isnan(f.entry_units)
    side = np.where(entered, np.sign(f.entry_units), np.sign(b.position))
    distance = f.entry_fill_price * (run.actions["stop_loss"] + 1) * cfg.stop_step_bps * 1e-4
    multiple = np.array(cfg.take_profit_r)[run.actions["take_profit"]]
    entry_stop = tick_round(f.entry_fill_price - side * distance, -side)
    entry_target = tick_round(f.entry_fill_price + side * multiple * distance, side)
    stop = np.where(entered, entry_stop, b.stop_price)
    target = np.where(entered, entry_target, b.take_profit_price)
    cash, position = b.cash, b.position
    for units, price, reason in list(legs(run))[:2]:
        maker = reason == CODE["take_profit"]
        rate = np.where(maker, cfg.maker_fee_bps, cfg.taker_fee_bps) * 1e-4
        cash = cash - units * price - np.abs(units) * price * rate
        position = position + units
    with np.errstate(divide="ignore", invalid="ignore"):
        liquidation = -cash / (position * (1 - side * cfg.maintenance_margin_rate))
    gapped = np.where(side > 0, np.minimum(stop, bar.open), np.maximum(stop, bar.open))
    yield np.select(
        [
            f.exit_reason == CODE["stop"],
            f.exit_reason == CODE["take_profit"],
            f.exit_reason == CODE["liquidation"],
            f.exit_reason > 0,
        ],
        [gapped, target, liquidation, bar.close],
        default=0.0,
    )


def test_the_sample_is_large_and_everything_happens_in_it(played):
    cfg, run = played
    assert run.terminated.size * len(MARKETS) >= 100_000
    happened = {REASONS[int(c)] for c in np.unique(run.fills.open_exit_reason)}
    happened |= {REASONS[int(c)] for c in np.unique(run.fills.exit_reason)}
    expected = {"signal", "flip", "stop", "take_profit"} | (
        {"end"} if cfg.flatten_at_end else set()
    )
    expected |= {"liquidation"} if cfg.risk_pct > 1 else set()
    assert happened >= expected
    assert run.truncated.any()


def test_cash_and_position_move_by_the_fills_and_nothing_else(played):
    _, run = played
    cash, position = run.before.cash - run.fills.fee - run.fills.funding, run.before.position
    for units, price, _ in legs(run):
        cash, position = cash - units * price, position + units
    same(run.fills.cash, cash)
    same(run.fills.position, position)


def test_equity_is_cash_and_the_position_at_the_close(played):
    _, run = played
    same(run.fills.equity, run.fills.cash + run.fills.position * run.bar.close)


def test_fees_are_their_rate_on_every_fill(played):
    cfg, run = played
    fee = 0.0
    for units, price, reason in legs(run):
        maker = reason == CODE["take_profit"]
        rate = np.where(maker, cfg.maker_fee_bps, cfg.taker_fee_bps) * 1e-4
        fee = fee + np.abs(units) * price * rate
    np.testing.assert_allclose(run.fills.fee, fee, rtol=1e-9, atol=1e-12)


def test_funding_is_on_what_is_held_at_the_close(played):
    _, run = played
    at_close = np.isin(run.fills.exit_reason, [CODE["ruin"], CODE["end"]])
    held = run.fills.position - np.where(at_close, np.nan_to_num(run.fills.exit_units), 0)
    funding = np.abs(held) * run.bar.close * run.funding_rate
    np.testing.assert_allclose(run.fills.funding, funding, rtol=1e-9, atol=1e-12)


def test_the_change_of_equity_is_moves_less_fees_slippage_and_funding(played):
    cfg, run = played
    f = run.fills
    change = run.before.position * (run.bar.close - run.close_t)
    slippage = np.zeros_like(change)
    for (units, price, _), reference in zip(legs(run), references(cfg, run), strict=True):
        happened = units != 0
        change = change + np.where(happened, units * (run.bar.close - reference), 0)
        slippage = slippage + np.where(happened, units * (price - reference), 0)
    same(f.slippage_cost, slippage)
    equity_t = run.before.cash + run.before.position * run.close_t
    same(f.equity - equity_t, change - f.fee - slippage - f.funding)


def test_no_fill_is_better_than_its_reference_but_a_liquidation_at_its_floor(played):
    cfg, run = played
    for (units, price, reason), reference in zip(legs(run), references(cfg, run), strict=True):
        worse = units * (price - reference) >= -1e-6
        floored = (reason == CODE["liquidation"]) & (run.fills.cash < 1e-6)
        assert (worse | floored | (units == 0)).all()
        slipped = (units != 0) & (reason != CODE["take_profit"]) & ~floored
        stops = np.isin(reason, [CODE["stop"], CODE["liquidation"]])
        bps = np.where(stops, cfg.stop_slippage_bps, cfg.slippage_bps)
        least = reference * bps * 1e-4
        assert (np.sign(units) * (price - reference) >= least - 2e-7)[slipped].all()
        assert (np.sign(units) * (price - reference) <= least + TICK)[slipped].all()


def test_a_liquidation_leaves_at_least_nothing(played):
    _, run = played
    f = run.fills
    gone = (f.open_exit_reason == CODE["liquidation"]) | (f.exit_reason == CODE["liquidation"])
    assert (f.cash[gone] >= -1e-6).all()


def test_prices_and_sizes_lie_on_their_grids(played):
    cfg, run = played
    f = run.fills
    entered = ~np.isnan(f.entry_units)
    units, lots_in_one = np.abs(f.entry_units[entered]), round(1 / cfg.lot_size)
    np.testing.assert_array_equal(units, np.round(units * lots_in_one) / lots_in_one)
    for price in (f.stop_price, f.take_profit_price, f.entry_fill_price):
        price = price[~np.isnan(price)]
        assert (price == np.round(price * 10) / 10).all()  # bit for bit the decimal


def test_sizes_respect_every_limit(played):
    cfg, run = played
    f = run.fills
    entered = ~np.isnan(f.entry_units)
    units, price = np.abs(f.entry_units), f.entry_fill_price
    open_units, open_price = np.nan_to_num(f.open_exit_units), np.nan_to_num(f.open_exit_price)
    taker = cfg.taker_fee_bps * 1e-4
    cash = run.before.cash - open_units * open_price - np.abs(open_units) * open_price * taker
    equity = cash - units * price * taker
    slack = 1e-6 * cfg.lot_size * price
    assert (units * price <= cfg.max_leverage * equity * (1 + 1e-9) + slack)[entered].all()
    assert (units >= cfg.min_units)[entered].all()
    assert (units <= f.requested_units * (1 + 1e-9) + 1e-6 * cfg.lot_size)[entered].all()
    distance = price * (run.actions["stop_loss"] + 1) * cfg.stop_step_bps * 1e-4
    risk = cfg.risk_pct / 100 * np.array(cfg.risk_multiples)[run.actions["size"]]
    same(f.requested_units, risk * cash / distance, where=entered)
    if cfg.max_units:
        assert (units <= cfg.max_units)[entered].all()
    if cfg.max_participation:
        assert (units <= cfg.max_participation * run.volume_t + 1e-6)[entered].all()


def test_the_stop_is_moved_by_trailing_alone_and_never_against(played):
    cfg, run = played
    f, b = run.fills, run.before
    carried = (b.position != 0) & (f.position == b.position) & np.isnan(f.entry_units)
    side = np.sign(b.position)
    assert carried.any()
    target = np.where(b.take_profit_price > 0, b.take_profit_price, np.nan)
    np.testing.assert_array_equal(f.take_profit_price[carried], target[carried])
    if not cfg.trailing:
        assert (f.stop_price == b.stop_price)[carried].all()
        return
    follow = tick_round(run.bar.close - side * b.stop_distance, -side)
    best = np.where(side > 0, np.maximum(b.stop_price, follow), np.minimum(b.stop_price, follow))
    assert (f.stop_price == best)[carried].all()


def test_nothing_is_missing_and_nothing_is_infinite(played):
    _, run = played
    for name in ("fee", "slippage_cost", "funding", "cash", "position", "equity", "drawdown"):
        assert np.isfinite(getattr(run.fills, name)).all(), name
    assert np.isfinite(run.reward).all()
    flat = run.fills.position == 0
    for name in ("entry_price", "stop_price"):
        assert (np.isnan(getattr(run.fills, name)) == flat).all(), name


def test_rewards_sum_to_the_change_of_log_equity_of_each_episode(played):
    cfg, run = played
    floor = 0.01 * cfg.initial_cash
    done = run.terminated | run.truncated
    total, start = np.zeros(done.shape[1:]), np.full(done.shape[1:], cfg.initial_cash)
    for t in range(len(done)):
        total += run.fills.reward[t]
        want = 100 * np.log(np.maximum(run.fills.equity[t], floor) / start)
        np.testing.assert_allclose(total, want, rtol=1e-9, atol=1e-9)
        total = np.where(done[t], 0, total)
    np.testing.assert_allclose(run.reward, run.fills.reward, rtol=1e-5, atol=1e-6)


def test_ruin_is_the_mark_at_the_close_and_closes_everything(played):
    cfg, run = played
    f = run.fills
    reference = list(references(cfg, run))[2]
    at_close = np.isin(f.exit_reason, [CODE["ruin"], CODE["end"]])
    rate = cfg.taker_fee_bps * 1e-4
    paid = np.abs(f.exit_units) * f.exit_price * rate + f.exit_units * (f.exit_price - reference)
    mark = f.equity + np.where(at_close, np.nan_to_num(paid), 0)
    clear = np.abs(mark - 0.1 * cfg.initial_cash) > 1e-6
    assert (run.terminated == (mark <= 0.1 * cfg.initial_cash))[clear].all()
    assert (f.position[run.terminated] == 0).all()
    assert not (f.exit_reason[run.terminated] == CODE["end"]).any()


@pytest.mark.parametrize(
    "dearer",
    [
        {"taker_fee_bps": 12.0, "maker_fee_bps": 7.0},
        {"funding_bps_per_day": 100.0},
        {"maker_fee_bps": 9.0},
    ],
)
def test_dearer_markets_never_leave_more_for_the_same_fills(dearer):
    params = {"max_units": 0.25, "episode_bars": 200, "window": 4}
    grid = {"paths": PATHS, "accounts": ACCOUNTS, "workers": 0}
    cheap = roll(EnvConfig(**grid, **params), seed=3)
    dear = roll(EnvConfig(**grid, **params, **dearer), seed=3)
    for name in ("open_exit_units", "open_exit_price", "entry_units", "exit_units", "exit_price"):
        a, b = getattr(cheap.fills, name), getattr(dear.fills, name)
        np.testing.assert_array_equal(a, b)
    assert (dear.fills.equity <= cheap.fills.equity + 1e-9).all()
    assert (dear.fills.equity[-1] < cheap.fills.equity[-1]).mean() > 0.5
