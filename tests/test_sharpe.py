"""Sharpe ratios after many tries: published numbers, other people's programs, simulated tries."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.judging.sharpe import (
    SharpeEstimate,
    beyond_tries,
    deviation,
    expected_maximum,
)

# Bailey and López de Prado 2014, the numerical example: an annual ratio of 2.5 over five years of
# 250 days, a variance of 1/2 between the trials' annual ratios.
FOUND = {"ratio": 2.5 / math.sqrt(250), "periods": 1250}
VARIANCE = 0.5 / 250


def deflated(estimate, trials, variance):
    """As published, with the variance of the tries' ratios."""
    luck = math.sqrt(variance) * expected_maximum(trials)
    return beyond_tries((estimate.ratio - luck) / estimate.standard_error, 1)


def probabilistic(estimate, benchmark=0.0):
    return beyond_tries((estimate.ratio - benchmark) / estimate.standard_error, 1)


@pytest.mark.parametrize(
    ("trials", "skewness", "kurtosis", "expected"),
    [(100, -3.0, 10.0, 0.9004), (46, -3.0, 10.0, 0.9505), (88, 0.0, 3.0, 0.9505)],
)
def test_the_published_examples_of_deflation(trials, skewness, kurtosis, expected):
    estimate = SharpeEstimate(**FOUND, skewness=skewness, kurtosis=kurtosis)
    assert deflated(estimate, trials, VARIANCE) == pytest.approx(expected, abs=5e-5)


def test_the_published_benchmark_of_a_hundred_tries():
    assert math.sqrt(VARIANCE) * expected_maximum(100) == pytest.approx(0.1132, abs=5e-5)


@pytest.mark.parametrize(("moments", "expected"), [((-2.448, 10.164), 0.913), ((0.0, 3.0), 0.982)])
def test_the_published_example_of_two_years_of_months(moments, expected):
    # Bailey and López de Prado 2012: 24 months, a monthly ratio of 0.458.
    estimate = SharpeEstimate(0.458, 24, *moments)
    assert probabilistic(estimate) == pytest.approx(expected, abs=5e-4)


def daily(seed, days=700, mean=4e-4):
    rng = np.random.default_rng(seed)
    return rng.standard_t(5, days) * 5e-3 + mean + 2e-3 * rng.exponential(1, days) - 2e-3


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(5))
def test_deflation_is_that_of_ffn(seed):
    ffn = pytest.importorskip("ffn")
    returns = daily(seed)
    trials = np.random.default_rng(seed).normal(0, 0.05, 30)
    series = pd.Series(returns, index=pd.date_range("2020-01-01", periods=len(returns)))
    theirs = ffn.calc_deflated_sharpe_ratio(series, trials, nperiods=365, annualized_trials=False)
    ours = deflated(SharpeEstimate.of(returns), 30, trials.var(ddof=1))
    assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(5))
def test_probability_and_deflation_are_those_of_purgedcv(seed):
    purgedcv = pytest.importorskip("purgedcv")
    returns = daily(seed)
    estimate = SharpeEstimate.of(returns)
    # Its standard deviation divides by n: the ratio is larger by sqrt(n / (n - 1)).
    theirs_is = SharpeEstimate(
        estimate.ratio * (len(returns) / (len(returns) - 1)) ** 0.5,
        estimate.periods, estimate.skewness, estimate.kurtosis,
    )  # fmt: skip
    for benchmark in (0.0, 0.05):
        theirs = purgedcv.probabilistic_sharpe_ratio(returns, benchmark)
        assert probabilistic(theirs_is, benchmark) == pytest.approx(theirs, rel=1e-9)
    for trials in (1, 7, 200):
        theirs = purgedcv.deflated_sharpe_ratio(returns, trials, 4e-4)
        assert deflated(theirs_is, trials, 4e-4) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(3))
def test_moments_are_those_of_pandas(seed):
    returns = daily(seed, days=40)
    series, estimate = pd.Series(returns), SharpeEstimate.of(returns)
    assert estimate.ratio == pytest.approx(series.mean() / series.std(), rel=1e-12)
    assert estimate.skewness == pytest.approx(series.skew(), rel=1e-9)
    assert estimate.kurtosis == pytest.approx(series.kurt() + 3.0, rel=1e-9)


@pytest.mark.parametrize("trials", [2, 10, 100, 1000])
def test_the_best_of_many_normals_is_about_as_high_as_expected(trials):
    best = np.random.default_rng(0).standard_normal((20_000, trials)).max(1).mean()
    assert expected_maximum(trials) == pytest.approx(best, abs=0.06)


@pytest.mark.parametrize("trials", [1, 12, 300])
def test_tries_without_an_edge_vary_by_a_standard_error(trials):
    estimate = SharpeEstimate.of(daily(0))
    error = estimate.standard_error
    published = deflated(estimate, trials, error**2)
    assert beyond_tries(estimate.ratio / error, trials) == pytest.approx(published, rel=1e-9)


def test_one_try_is_not_deflated():
    assert expected_maximum(1) == 0.0


@given(st.floats(-30.0, 30.0), st.integers(1, 10**6), st.integers(1, 10**6))
def test_more_tries_never_make_a_ratio_more_believable(z, few, many):
    few, many = sorted((few, many))
    assert beyond_tries(z, many) <= beyond_tries(z, few)


def test_probability_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    true = 0.08
    said = [
        probabilistic(SharpeEstimate.of(rng.normal(true, 1.0, 250)), true) for _ in range(2_000)
    ]
    # Its own uncertainty is uniform: 5 % of the time it says more than 0.95.
    assert np.mean(np.array(said) > 0.95) == pytest.approx(0.05, abs=0.015)
    assert np.mean(np.array(said) < 0.05) == pytest.approx(0.05, abs=0.015)


def test_what_has_no_ratio_is_refused_by_name():
    with pytest.raises(ValueError, match="3 returns"):
        SharpeEstimate.of(np.array([0.1, 0.2, 0.3]))
    with pytest.raises(ValueError, match="standard deviation 0"):
        SharpeEstimate.of(np.full(100, 0.1))
    with pytest.raises(ValueError, match="trials=0"):
        expected_maximum(0)


def test_a_spread_of_rounding_is_none():
    assert deviation(np.full(7, 0.1) + np.array([0, 0, 1e-17, 0, 0, 0, 0])) == 0.0
    assert deviation(np.array([0.1])) == 0.0
    assert deviation(np.array([1.0, 2.0, 3.0])) == 1.0
