"""What the simulator refuses: configurations that cannot be meant, and actions off the map."""

import numpy as np
import pytest
import torch

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import HEADS
from envs.market import MarketEnv


@pytest.fixture
def build():
    """Build an environment on bars at one price."""

    def build(price=10_000.0, **params):
        table = BarTable.from_arrays(np.tile([price] * 4 + [100.0], (8, 1)))
        cfg = EnvConfig(paths=1, accounts=2, workers=0, **params)
        return MarketEnv(table, cfg, starts=torch.tensor([[0, 7]]))

    return build


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"taker_fee_bps": 0.02}, r"env\.taker_fee_bps=0\.02"),  # percent, taken for basis points
        ({"maker_fee_bps": 0.0}, r"env\.maker_fee_bps=0\.0.*allow_zero_costs"),
        ({"slippage_bps": 101.0, "stop_step_bps": 400.0}, r"env\.slippage_bps=101"),
        ({"stop_slippage_bps": -1.0}, r"env\.stop_slippage_bps=-1"),
        ({"taker_fee_bps": 0.05, "allow_zero_costs": True}, r"env\.taker_fee_bps=0\.05"),
        ({"taker_fee_bps": float("nan")}, r"env\.taker_fee_bps=nan"),
        ({"stop_step_bps": 4.9, "slippage_bps": 1.0, "stop_slippage_bps": 1.0}, "stop_step_bps"),
        ({"stop_step_bps": 14.9}, r"env\.stop_step_bps=14\.9.*three times the slippage"),
        ({"stop_step_bps": 29.0, "stop_slippage_bps": 10.0}, r"env\.stop_step_bps=29"),
        ({"stop_step_bps": 29.0, "slippage_bps": 10.0}, r"env\.stop_step_bps=29"),
        # taker 5 + slippage 5 bps: a liquidation at this margin would leave a debt
        ({"maintenance_margin_rate": 0.001}, "maintenance_margin_rate"),
        ({"maintenance_margin_rate": 0.0012, "stop_slippage_bps": 7.0}, "maintenance_margin_rate"),
        ({"max_leverage": 0.0}, r"env\.max_leverage=0"),
        ({"ruin_equity_frac": 0.0}, r"env\.ruin_equity_frac"),
        ({"initial_cash": -1.0}, r"env\.initial_cash=-1"),
        ({"tick_size": 0.0}, r"env\.tick_size"),
        ({"lot_size": -1e-8}, r"env\.lot_size"),
        ({"max_participation": 0.0}, r"env\.max_participation"),
        ({"max_units": float("inf")}, r"env\.max_units"),
        ({"risk_multiples": []}, r"env\.risk_multiples"),
        ({"risk_multiples": [1.0, -1.0]}, r"env\.risk_multiples"),
        ({"take_profit_r": [-1.0]}, r"env\.take_profit_r"),
        ({"stop_steps": 400}, r"env\.stop_step_bps \* env\.stop_steps"),
        ({"funding_bps_per_day": -1.0}, r"env\.funding_bps_per_day"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused_by_name(params, message):
    with pytest.raises(ValueError, match=message):
        EnvConfig(**params)


@pytest.mark.parametrize(
    "params",
    [
        {"taker_fee_bps": 0.1},
        {"taker_fee_bps": 0.0, "allow_zero_costs": True},
        {"stop_step_bps": 15.0},
        {"stop_step_bps": 5.0, "slippage_bps": 1.0, "stop_slippage_bps": 1.0},
        {"maintenance_margin_rate": 0.00101},
    ],
)
def test_a_configuration_on_the_edge_is_taken(params):
    EnvConfig(**params)


def test_the_defaults_are_the_documented_ones():
    cfg = EnvConfig()
    assert (cfg.window, cfg.episode_bars, cfg.initial_cash) == (64, 240, 100_000)
    assert (cfg.risk_pct, cfg.max_leverage, cfg.max_units, cfg.max_participation) == (
        1.0,
        3.0,
        None,
        None,
    )
    assert (cfg.tick_size, cfg.lot_size, cfg.min_units) == (0.1, 1e-8, 5e-5)
    assert (cfg.taker_fee_bps, cfg.maker_fee_bps) == (5.0, 2.0)
    assert (cfg.slippage_bps, cfg.stop_slippage_bps) == (5.0, 5.0)
    assert (cfg.risk_multiples, cfg.take_profit_r) == ([0.5, 1.0, 1.5, 2.0], [0.0, 1.0, 2.0, 3.0])
    assert (cfg.stop_step_bps, cfg.stop_steps, cfg.tp_through_ticks) == (25.0, 10, 1.0)
    assert (cfg.maintenance_margin_rate, cfg.ruin_equity_frac) == (0.004, 0.1)
    assert (cfg.funding_bps_per_day, cfg.trailing, cfg.flatten_at_end) == (0.0, False, False)
    assert not cfg.allow_zero_costs


@pytest.mark.parametrize(("tick", "fits"), [(8.33, True), (8.34, False)])
def test_a_tick_over_a_third_of_the_tightest_stop_is_refused(build, tick, fits):
    # 10,000 * 25 bps / 3 = 8.333...
    if fits:
        build(tick_size=tick)
    else:
        with pytest.raises(ValueError, match="tick_size"):
            build(tick_size=tick)


def test_the_default_tick_does_not_fit_a_cheap_asset(build):
    with pytest.raises(ValueError, match="tick_size"):
        build(price=100.0)
    build(price=100.0, tick_size=0.01)


@pytest.mark.parametrize(("lowest", "fits"), [(0.2, True), (0.1, False)])
def test_an_open_under_two_ticks_is_refused_for_a_sale_there_would_be_at_a_price_of_0(
    play, lowest, fits
):
    """A crash of a second: the bar's open is the price that a short would be sized on."""
    crash = (lowest, 10_000, lowest, 10_000, 9)
    rows = [(10_000, 10_000, 10_000, 10_000, 9), crash, (10_000, 10_000, 10_000, 10_000, 9)]
    if not fits:
        with pytest.raises(ValueError, match=r"env\.tick_size=0\.1.*half of the lowest open"):
            play(rows, ["short"])
        return
    (step,) = play(rows, ["short"])  # at a tick, and bought back at its liquidation price
    assert step.entry_fill_price == 0.1
    assert np.isfinite(step.cash)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("index", [-1, 99])
@pytest.mark.parametrize("direction", [1, 2])
def test_an_index_off_the_map_is_refused(build, actions, head, index, direction):
    env = build()
    td = env.reset()
    good = dict.fromkeys(HEADS, 0) | {"direction": direction}
    bad = {**good, head: index}
    td["action"] = actions([good, bad], (1, 2))
    with pytest.raises(IndexError, match=rf"action\.{head} holds indices from .*{index}"):
        env.step(td)


@pytest.mark.parametrize("head", HEADS)
def test_the_last_index_is_on_the_map_and_the_next_is_not(build, actions, head):
    env = build()
    td = env.reset()
    last = {"direction": 2, "size": 3, "stop_loss": 9, "take_profit": 3}
    td["action"] = actions([last, last], (1, 2))
    env.step(td)
    td["action"] = actions([last, {**last, head: last[head] + 1}], (1, 2))
    with pytest.raises(IndexError, match=rf"action\.{head} .* allowed are 0 to {last[head]}$"):
        env.step(td)
