"""Figures of an account, by hand and by empyrical-reloaded."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.config import EnvConfig
from hand_rows import make_rows
from pipelines.judging.metrics import in_order
from pipelines.judging.performance import equity_figures, performance
from pipelines.judging.period_returns import growth_curve

DAY = 86_400.0
CFG = EnvConfig(initial_cash=1000.0, taker_fee_bps=10.0, maker_fee_bps=5.0)


def random_growth(bars, seed=0, drift=0.0):
    rng = np.random.default_rng(seed)
    return np.exp(np.cumsum(rng.standard_t(4, bars) * 1e-3 + drift))


@pytest.mark.oracle
@pytest.mark.parametrize("interval_s", [60.0, 900.0, 3600.0, DAY])
@pytest.mark.parametrize(("seed", "drift"), [(0, 0.0), (1, 3e-5), (2, -3e-5)])
def test_equity_figures_are_those_of_empyrical(interval_s, seed, drift):
    empyrical = pytest.importorskip("empyrical")
    bars = 4_000
    growth = random_growth(bars, seed, drift)
    returns = pd.Series(growth / np.r_[1.0, growth[:-1]] - 1.0)
    year = {"annualization": 365 * DAY / interval_s}
    ours = equity_figures(growth, interval_s)
    worst = -empyrical.max_drawdown(returns)
    expected = {
        "total_return_fraction": empyrical.cum_returns_final(returns),
        "cagr_fraction": empyrical.cagr(returns, **year),
        "volatility_fraction": empyrical.annual_volatility(returns, **year),
        "sharpe": empyrical.sharpe_ratio(returns, **year),
        "sortino": empyrical.sortino_ratio(returns, **year),
        "calmar": empyrical.calmar_ratio(returns, **year),
        "max_drawdown_fraction": worst,
    }
    for name, value in expected.items():
        assert getattr(ours, name) == pytest.approx(value, rel=1e-9), name


def test_equity_figures_by_hand():
    figures = equity_figures(np.array([1.1, 0.99, 1.0, 1.21]), DAY)
    assert figures.total_return_fraction == pytest.approx(0.21)
    assert figures.cagr_fraction == pytest.approx(1.21 ** (365 / 4) - 1)
    assert figures.max_drawdown_fraction == pytest.approx(0.1)
    assert figures.longest_drawdown_days == 2.0  # the second and the third day
    returns = [0.1, -0.1, 0.01 / 0.99, 0.21]
    mean, deviation = np.mean(returns), np.std(returns, ddof=1)
    assert figures.sharpe == pytest.approx(mean / deviation * 365**0.5)
    assert figures.sortino == pytest.approx(mean / (0.01 / 4) ** 0.5 * 365**0.5)
    assert (figures.bars, figures.days) == (4, 4.0)


def test_a_loss_from_the_start_is_a_drawdown_of_the_initial_cash():
    figures = equity_figures(np.array([0.9, 0.95, 0.8, 0.99]), DAY)
    assert figures.max_drawdown_fraction == pytest.approx(0.2)
    assert figures.longest_drawdown_days == 4.0


def test_an_account_that_never_moved_has_no_ratios():
    figures = equity_figures(np.ones(500), 60.0)
    assert (figures.sharpe, figures.sortino, figures.calmar) == (None, None, None)
    assert figures.volatility_fraction == figures.cagr_fraction == 0.0


def test_equal_gains_have_no_sharpe_ratio_that_rounding_made():
    assert equity_figures(np.cumprod(np.full(64, 1.5)), DAY).sharpe is None


def test_a_total_loss_is_one_and_nothing_comes_of_it():
    figures = equity_figures(np.array([1.2, 0.0, 0.0]), DAY)
    assert figures.total_return_fraction == figures.cagr_fraction == -1.0
    assert figures.max_drawdown_fraction == 1.0
    assert figures.longest_drawdown_days == 2.0


def test_what_no_float_can_hold_is_none_and_the_figures_are_json():
    figures = equity_figures(np.array([3.0, 9.0]), 60.0)
    assert figures.cagr_fraction is None
    json.dumps(asdict(figures), allow_nan=False)


def test_a_ratio_that_no_float_can_hold_is_none_and_what_it_is_made_of_stays():
    growth = np.concatenate([[0.9999], np.linspace(1.0, 2.613, 719)])  # in half a day
    figures = equity_figures(growth, 60.0)
    assert figures.cagr_fraction > 1e304
    assert figures.calmar is None
    json.dumps(asdict(figures), allow_nan=False)


@given(st.integers(2, 400), st.integers(0, 99), st.floats(0.01, 100.0))
@settings(max_examples=50)
def test_figures_hold_together(bars, seed, interval_min):
    growth = random_growth(bars, seed)
    figures = equity_figures(growth, 60.0 * interval_min)
    assert 0.0 <= figures.max_drawdown_fraction < 1.0
    assert 0.0 <= figures.longest_drawdown_days <= figures.days
    assert (figures.longest_drawdown_days > 0) == (figures.max_drawdown_fraction > 0)
    doubled = equity_figures(growth, 120.0 * interval_min)
    assert figures.sharpe == pytest.approx(doubled.sharpe * 2**0.5, rel=1e-9, abs=1e-12)


# A long of 2 from 100 to 110 over two bars, then a short of 1 from 110 to 112 within one bar.
STEPS = [
    {"entry_units": 2, "entry_fill_price": 100, "fee": 0.2, "funding": 0.3, "position": 2,
     "slippage_cost": 0.1, "equity": 1009.5},
    {"position": 2, "equity": 1019.5},
    {"open_exit_reason": "flip", "open_exit_units": -2, "open_exit_price": 110,
     "entry_units": -1, "entry_fill_price": 110, "exit_reason": "stop", "exit_units": 1,
     "exit_price": 112, "fee": 0.22 + 0.11 + 0.112, "slippage_cost": 0.2, "equity": 1017.058},
    {"equity": 1017.058},
]  # fmt: skip


def test_trade_figures_by_hand():
    figures = performance(in_order(make_rows(STEPS)), CFG, 60.0).trades
    long, short = 20 - 0.2 - 0.22 - 0.3, -2 - 0.11 - 0.112
    assert figures.trades == 2
    assert figures.hit_rate_fraction == 0.5
    assert figures.profit_factor == pytest.approx(long / -short)
    assert figures.mean_holding_hours == pytest.approx((2 + 1) / 2 / 60)
    assert figures.median_holding_hours == pytest.approx(1.5 / 60)
    assert figures.exposure_fraction == 0.5
    assert figures.turnover == pytest.approx((200 + 220 + 110 + 112) / 1000)
    assert figures.turnover_a_day == pytest.approx(figures.turnover * 360)
    assert figures.gross_profit == pytest.approx(17.058 + 0.642 + 0.3 + 0.3)
    assert figures.fees_of_gross_fraction == pytest.approx(0.642 / 18.3)
    assert figures.costs_of_gross_fraction == pytest.approx(1.242 / 18.3)


def test_the_rest_of_a_tile_in_which_an_account_was_ruined_is_time_too():
    """As for the accounts beside it: else its ratios would be of a shorter year."""
    ruined = {"exit_units": -2, "exit_price": 60, "exit_reason": "ruin", "equity": 90.0}
    rows = in_order(make_rows([STEPS[0], STEPS[1], STEPS[0] | ruined | {"terminated": True}]))
    times = pd.date_range(rows["timestamp"].iloc[0], periods=8, freq="min")
    found = performance(rows, CFG, 60.0, times)
    curve = growth_curve(rows, CFG.initial_cash, times)
    assert curve.index.equals(times)
    assert curve.tolist()[2:] == [0.09] * 6
    assert found.equity == equity_figures(curve.to_numpy(), 60.0)
    assert found.equity.bars == 8
    alone = performance(rows, CFG, 60.0)
    assert abs(found.equity.sharpe) < 0.7 * abs(alone.equity.sharpe)
    for name in ("exposure_fraction", "turnover_a_day"):
        assert getattr(found.trades, name) == pytest.approx(getattr(alone.trades, name) * 3 / 8)
    assert found.trades.turnover == alone.trades.turnover


def test_an_account_without_trades_has_no_rates():
    figures = performance(in_order(make_rows([{}, {}])), CFG, 60.0)
    assert figures.trades.trades == 0
    assert figures.trades.hit_rate_fraction is None
    assert figures.trades.profit_factor is None
    assert figures.trades.mean_holding_hours is None
    assert figures.trades.fees_of_gross_fraction is None
    assert figures.equity.total_return_fraction == 0.0
    json.dumps(asdict(figures), allow_nan=False)


def test_costs_of_an_account_that_earned_nothing_before_them_are_no_share():
    stopped = {"exit_units": -2, "exit_price": 90, "exit_reason": "stop", "equity": 979.0}
    figures = performance(in_order(make_rows([STEPS[0] | stopped])), CFG, 60.0).trades
    assert figures.gross_profit < 0
    assert figures.fees_of_gross_fraction is None
    assert figures.profit_factor == 0.0
