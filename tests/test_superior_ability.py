"""Hansen's test: arch itself, the paper's recipe by hand, and how often it errs."""

import numpy as np
import pytest
from arch.bootstrap import SPA

from pipelines.judging.bootstrap import draw_periods
from pipelines.judging.superior_ability import excess_returns, superior_ability


def returns_of(seed, periods=250, trials=1, mean=0.0):
    return np.random.default_rng(seed).standard_t(5, (periods, trials)) * 0.01 + mean


@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_equally_wild_candidates_has_the_p_value_of_arch(seed):
    excess = returns_of(seed, trials=6, mean=5e-4)
    excess = excess / excess.std(0, ddof=1)
    excess = excess[:, np.argsort(-excess.mean(0))]
    seeded = np.random.Generator(np.random.PCG64(7))
    theirs = SPA(np.zeros(250), -excess, block_size=3.0, reps=500, seed=seeded)
    theirs.compute()
    ours = superior_ability(excess, 3.0, draws=500, seed=7)
    # What was seen is one of the draws, and a draw as large as it counts (Phipson and Smyth 2010).
    assert ours == pytest.approx((1 + 500 * theirs.pvalues["consistent"]) / 501)


def test_it_is_the_recipe_of_the_paper():
    excess = returns_of(3, trials=5, mean=6e-4)
    excess[:, 1] -= 0.004  # so bad that the paper leaves it where it is
    candidate = excess[:, 0]
    root = np.sqrt(len(excess))
    spread = excess.std(0, ddof=1)
    statistic = root * candidate.mean() / spread[0]
    drawn = draw_periods(250, 1.0, draws=2_000, seed=1)
    threshold = -spread * np.sqrt(2 * np.log(np.log(250)))
    means = excess.mean(0)
    # Hansen's recentring: what is far below the benchmark stays at its own mean.
    centre = np.where(root * means >= threshold, means, 0.0)
    simulated = root * (excess[drawn].mean(1) - centre) / spread
    by_hand = (simulated.max(1) > statistic).mean()
    assert superior_ability(excess, 1.0, seed=2) == pytest.approx(by_hand, abs=0.03)


def test_how_much_anybody_stakes_changes_nothing():
    excess = returns_of(4, trials=4, mean=4e-4)
    staked = excess * [1e-3, 30.0, 1.0, 1e-4]
    same = superior_ability(staked, 2.0, draws=200)
    assert same == pytest.approx(superior_ability(excess, 2.0, draws=200), abs=1e-9)
    assert same != pytest.approx(superior_ability(excess[:, :1], 2.0, draws=200), abs=0.02)


def test_a_rival_that_is_better_does_not_lend_its_p_value():
    alone = returns_of(0, trials=1)
    alone += 2e-4 - alone.mean()  # who lost has 1, whoever stands beside
    better = returns_of(1, trials=1, mean=0.01)
    joint = superior_ability(np.concatenate([alone, better], 1), 1.0)
    assert superior_ability(better, 1.0) < 0.001
    assert joint >= superior_ability(alone, 1.0) > 0.02


@pytest.mark.parametrize("mean", [-1e-4, -0.05])
def test_what_lost_is_superior_to_nothing_however_much_it_lost(mean):
    """Far below its baseline an excess is not centred: half of its draws lie above it."""
    excess = returns_of(0)
    excess += mean - excess.mean()
    assert superior_ability(excess, 1.0) == 1.0
    beside = np.concatenate([excess, returns_of(1, mean=0.01)], 1)
    assert superior_ability(beside, 1.0) == 1.0


def test_choosing_the_best_of_many_is_allowed_for():
    p_values, naive = [], []
    for seed in range(60):
        excess = returns_of(seed, trials=20)
        best_first = excess[:, np.argsort(-(excess.mean(0) / excess.std(0)))]
        p_values.append(superior_ability(best_first, 1.0, draws=150))
        naive.append(superior_ability(best_first[:, :1], 1.0, draws=150))
    assert np.mean(np.array(p_values) <= 0.05) <= 0.1  # 0.05, and two standard errors of it
    assert np.mean(np.array(naive) <= 0.05) > 0.4


def test_correlated_returns_are_allowed_for():
    rng = np.random.default_rng(0)
    wrong, right = [], []
    for seed in range(70):
        noise = rng.normal(0, 0.01, (300, 1))
        for t in range(1, 300):
            noise[t] += 0.5 * noise[t - 1]
        wrong.append(superior_ability(noise, 1.0, draws=150, seed=seed) <= 0.05)
        right.append(superior_ability(noise, 12.0, draws=150, seed=seed) <= 0.05)
    assert np.mean(right) < 0.15 < np.mean(wrong)  # 0.05 asked for


def test_what_follows_a_rising_baseline_is_no_excess():
    market = returns_of(0, periods=2_000, mean=1e-3)[:, 0]
    own = returns_of(1, periods=2_000, mean=4e-4)[:, 0]
    policy = (0.7 * market + own)[:, None]
    left = excess_returns(policy, market)[:, 0]
    beta = np.cov(policy[:, 0], market)[0, 1] / market.var(ddof=1)
    assert left == pytest.approx(policy[:, 0] - beta * market)
    assert left.mean() == pytest.approx(own.mean(), abs=1e-4)
    # With an intercept, the same as a regression's.
    design = np.column_stack([np.ones(2_000), market])
    alpha = np.linalg.lstsq(design, policy[:, 0], rcond=None)[0][0]
    assert left.mean() == pytest.approx(alpha, abs=1e-12)


def test_a_baseline_that_lost_explains_no_gain_on_either_side():
    market = returns_of(0, mean=-2e-3)[:, 0]
    policy = (0.7 * market)[:, None] + returns_of(1)
    assert np.array_equal(excess_returns(policy, market), policy)
    short = -policy  # which always-short explains, a baseline that pays for being short
    assert np.array_equal(excess_returns(short, market), short)
    assert not np.array_equal(excess_returns(short, -market - 1e-5), short)


def test_flat_takes_nothing_out_and_an_idle_candidate_is_never_superior():
    policy = returns_of(2, trials=3)
    assert np.array_equal(excess_returns(policy, np.zeros(250)), policy)
    idle = np.concatenate([np.zeros((250, 1)), policy], 1)
    assert superior_ability(idle, 1.0) == 1.0
    for rivals in (1, 2):
        with_idle_rival = np.concatenate([policy[:, :rivals], np.zeros((250, 1))], 1)
        assert superior_ability(with_idle_rival, 1.0) == superior_ability(policy[:, :rivals], 1.0)
