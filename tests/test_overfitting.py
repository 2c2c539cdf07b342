"""The probability of backtest overfitting: two other programs, a plain loop, and known cases."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from pipelines.judging.overfitting import overfitting


def matrix(periods, trials, seed=0, edge=0.0):
    """Returns with tails; the first trial has an edge."""
    returns = np.random.default_rng(seed).standard_t(4, (periods, trials)) * 0.01
    returns[:, 0] += edge * 0.01
    return returns


def plain_loop(returns, blocks):
    """The definition, one half at a time."""
    cut = np.array_split(returns[: len(returns) // blocks * blocks], blocks)
    logits = []
    for half in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([cut[i] for i in half])
        outside = np.concatenate([cut[i] for i in range(blocks) if i not in half])
        best = (inside.mean(0) / inside.std(0, ddof=1)).argmax()
        rank = rankdata(outside.mean(0) / outside.std(0, ddof=1))[best] / (returns.shape[1] + 1)
        logits.append(np.log(rank / (1 - rank)))
    return np.array(logits)


@pytest.mark.parametrize(("periods", "trials", "blocks"), [(160, 5, 8), (101, 8, 10), (64, 2, 4)])
def test_it_is_the_definition(periods, trials, blocks):
    returns = matrix(periods, trials, seed=periods)
    found = overfitting(returns, blocks)
    assert found.logits == pytest.approx(plain_loop(returns, blocks))
    assert found.probability == (found.logits <= 0).mean()


@pytest.mark.oracle
@pytest.mark.parametrize(("trials", "edge"), [(6, 0.0), (7, 0.0), (10, 0.1), (3, 0.2)])
def test_it_is_that_of_ffn(trials, edge):
    ffn = pytest.importorskip("ffn")
    returns = matrix(165, trials, seed=trials, edge=edge)
    theirs = ffn.calc_prob_backtest_overfitting(pd.DataFrame(returns), 10, full_output=True)
    ours = overfitting(returns, 10)
    assert ours.probability == theirs["pbo"]
    assert ours.logits == pytest.approx(theirs["logits"].to_numpy())


@pytest.mark.oracle
@pytest.mark.parametrize(("trials", "edge"), [(6, 0.0), (10, 0.1), (4, 0.2), (7, 0.0)])
def test_it_is_that_of_purgedcv(trials, edge):
    purgedcv = pytest.importorskip("purgedcv")
    returns = matrix(160, trials, seed=trials, edge=edge)
    theirs = purgedcv.probability_of_backtest_overfitting(returns.T, 10)
    ours = overfitting(returns, 10)
    # It lists the halves by what is tried on, and calls a rank at the median no overfitting.
    assert np.sort(ours.logits) == pytest.approx(np.sort(theirs.logits))
    assert (ours.logits < -1e-12).mean() == theirs.pbo
    if trials % 2 == 0:  # no rank is the median
        assert ours.probability == theirs.pbo


def test_choosing_among_equals_is_worth_nothing():
    found = [overfitting(matrix(160, 9, seed), 8).probability for seed in range(60)]
    assert np.mean(found) == pytest.approx(0.55, abs=0.07)  # the median counts: 5 ranks of 9


def test_a_trial_that_is_better_everywhere_is_never_overfitted():
    found = overfitting(matrix(320, 10, edge=1.5))
    assert found.probability == 0.0
    assert found.logits.min() > 0.0
    assert len(found.logits) == 12_870


def test_what_wins_one_half_and_loses_the_other_is_overfitted():
    rng = np.random.default_rng(0)
    returns = rng.normal(0, 0.01, (160, 10))
    returns -= returns.mean(0)  # nobody has a mean over all: who wins here loses there
    assert overfitting(returns, 8).probability > 0.9


def test_a_trial_that_never_moved_counts_as_zero():
    returns = np.abs(matrix(160, 4)) * -1.0
    returns[:, 2] = 0.0
    found = overfitting(returns, 8)
    assert found.probability == 0.0
    still = np.zeros((160, 3))
    assert (overfitting(still, 8).logits == 0.0).all()


def test_the_scale_of_a_trial_does_not_matter():
    returns = matrix(160, 6, seed=3)
    scaled = returns * np.array([1e-6, 1.0, 1e3, 10.0, 0.1, 5.0])
    assert overfitting(scaled, 8).logits == pytest.approx(overfitting(returns, 8).logits)


@pytest.mark.parametrize(
    ("shape", "blocks"), [((160, 1), 8), ((15, 3), 8), ((160, 3), 7), ((160, 3), 0)]
)
def test_what_cannot_be_cut_is_refused(shape, blocks):
    with pytest.raises(ValueError, match="cannot be cut"):
        overfitting(np.zeros(shape), blocks)


def test_returns_that_are_none_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        overfitting(np.full((160, 3), np.nan), 8)
