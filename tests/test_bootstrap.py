"""Redrawn histories and the intervals they give: reproducible, and as sure as they say."""

import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap

from pipelines.judging.bootstrap import block_length, draw_periods, redrawn_sharpes, sharpe_interval
from pipelines.judging.sharpe import SharpeEstimate


def autocorrelated(rng, periods, phi):
    noise = rng.normal(0, 0.01, periods)
    for t in range(1, periods):
        noise[t] += phi * noise[t - 1]
    return noise


def interval_of(returns, seed=0, draws=2_000, level=0.975):
    drawn = draw_periods(len(returns), block_length(returns), draws=draws, seed=seed)
    return sharpe_interval(returns, redrawn_sharpes(returns, drawn), 365.0, level)


def test_an_interval_is_that_of_arch():
    returns = np.random.default_rng(0).standard_t(4, 200) * 0.01 + 1e-3
    generator = np.random.Generator(np.random.PCG64(3))
    theirs = StationaryBootstrap(2.0, returns, seed=generator).conf_int(
        lambda x: np.sqrt(365.0) * x.mean() / x.std(ddof=1), reps=1_000, method="basic", size=0.95
    )
    drawn = draw_periods(200, 2.0, draws=1_000, seed=3)
    ours = sharpe_interval(returns, redrawn_sharpes(returns, drawn), 365.0, 0.975)
    assert [ours.low, ours.high] == pytest.approx(theirs[:, 0], rel=1e-6)
    assert ours.estimate == pytest.approx(365**0.5 * SharpeEstimate.of(returns).ratio)


def test_the_same_seed_draws_the_same_histories_and_another_others():
    first, again, other = (draw_periods(50, 3.0, draws=20, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (20, 50)
    assert (first.min(), first.max()) == (0, 49)


def test_blocks_are_as_long_as_asked():
    drawn = draw_periods(400, 8.0, draws=200, seed=0)
    goes_on = np.diff(drawn, axis=1) % 400 == 1
    assert goes_on.mean() == pytest.approx(1 - 1 / 8, abs=0.01)


def test_persistence_asks_for_longer_blocks():
    rng = np.random.default_rng(0)
    short, long = (
        np.mean([block_length(autocorrelated(rng, 500, phi)) for _ in range(20)])
        for phi in (0.0, 0.6)
    )
    assert 1.0 <= short < 5.0 < 10.0 < long


def test_what_has_no_autocorrelation_has_blocks_of_one():
    assert block_length(np.zeros(500)) == 1.0
    assert block_length(np.full(500, 0.1)) == 1.0
    assert block_length(np.arange(9.0)) == 1.0


def test_a_history_in_which_nothing_moves_has_a_ratio_of_zero():
    returns = np.zeros(100)
    returns[3] = 0.01
    drawn = draw_periods(100, 1.0, draws=200)
    sharpes = redrawn_sharpes(returns, drawn)
    assert np.isfinite(sharpes).all()
    assert (sharpes == 0.0).sum() == (drawn != 3).all(1).sum() > 0


@pytest.mark.parametrize("phi", [0.0, 0.3])
def test_an_interval_covers_the_truth_about_as_often_as_it_says(phi):
    rng = np.random.default_rng(5)
    covered = [
        interval.low <= 0.0 <= interval.high
        for interval in (interval_of(autocorrelated(rng, 250, phi), draws=300) for _ in range(150))
    ]
    # 0.95; under autocorrelation, blocks of few periods miss some.
    assert 0.87 < np.mean(covered) < 0.98


def test_rare_large_losses_make_the_lower_end_lower():
    rng = np.random.default_rng(0)
    gains = rng.exponential(0.01, 400)
    skewed = 0.011 - gains  # many small gains, a few large losses
    interval = interval_of(skewed)
    assert interval.estimate - interval.low > interval.high - interval.estimate
