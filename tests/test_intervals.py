"""Intervals of an account's figures: those of arch, around the figures of the same returns."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import StationaryBootstrap

from pipelines.judging.bootstrap import DRAWS, block_length
from pipelines.judging.intervals import intervals
from pipelines.judging.performance import equity_figures
from pipelines.judging.period_returns import PeriodReturns

DAY = 86_400.0


def periods(values):
    index = pd.date_range("2024-01-01", periods=len(values), freq="D", tz="UTC")
    return PeriodReturns(pd.DataFrame({"a": values}, index=index), DAY, len(values), DAY)


def noise(days=300, seed=0, mean=1e-3):
    return np.random.default_rng(seed).standard_t(5, days) * 0.01 + mean


def test_they_lie_around_the_figures_of_the_same_returns():
    values = noise()
    found, figures = intervals(periods(values), "a"), equity_figures(np.cumprod(1 + values), DAY)
    for name, interval in found.items():
        assert interval.estimate == pytest.approx(getattr(figures, name), rel=1e-9), name
        assert interval.low < interval.estimate < interval.high, name
    assert set(found) == {"cagr_fraction", "volatility_fraction", "sharpe", "max_drawdown_fraction"}
    json.dumps({name: asdict(interval) for name, interval in found.items()}, allow_nan=False)


@pytest.mark.parametrize(
    ("name", "method", "figure"),
    [
        ("volatility_fraction", "percentile", lambda x: x.std(ddof=1) * 365**0.5),
        ("sharpe", "basic", lambda x: x.mean() / x.std(ddof=1) * 365**0.5),
        ("cagr_fraction", "basic", lambda x: np.log1p(x).mean()),
        (
            "max_drawdown_fraction",
            "percentile",
            lambda x: equity_figures(np.cumprod(1 + x), DAY).max_drawdown_fraction,
        ),
    ],
)
def test_they_are_those_of_arch(name, method, figure):
    values = noise(120, seed=1)
    generator = np.random.Generator(np.random.PCG64(0))
    bootstrap = StationaryBootstrap(block_length(values), values, seed=generator)
    theirs = bootstrap.conf_int(figure, reps=DRAWS, method=method)[:, 0]
    if name == "cagr_fraction":
        theirs = np.expm1(theirs * 365)
    ours = intervals(periods(values), "a")[name]
    assert [ours.low, ours.high] == pytest.approx(theirs, rel=1e-6)


def test_an_account_that_never_fell_has_no_drawdown_of_minus_nothing():
    rising = np.random.default_rng(0).uniform(0.001, 0.01, 60)
    fall = intervals(periods(rising), "a")["max_drawdown_fraction"]
    assert f"{fall.estimate:.2f} {fall.low:.2f} {fall.high:.2f}" == "0.00 0.00 0.00"


def test_more_days_are_surer():
    widths = [
        (found := intervals(periods(noise(days)), "a")["sharpe"]).high - found.low
        for days in (100, 1_600)
    ]
    assert widths[0] / widths[1] == pytest.approx(4.0, rel=0.3)


def test_nothing_is_known_of_an_account_that_never_moved_or_hardly_lived():
    assert intervals(periods(np.zeros(100)), "a") == {}
    assert intervals(periods(noise(3)), "a") == {}


def test_a_total_loss_has_figures():
    values = noise(50)
    values[20] = -1.0
    found = intervals(periods(values), "a")
    assert found["max_drawdown_fraction"].estimate == pytest.approx(1.0)
    json.dumps({name: asdict(interval) for name, interval in found.items()}, allow_nan=False)
