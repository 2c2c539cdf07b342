"""Advantages: the baseline across the accounts of a path."""

import pytest
import torch

from pipelines.advantage import less_the_others


def test_the_others_mean_is_taken_and_never_ones_own():
    advantage = torch.tensor([[1.0, 4.0, 10.0]])
    expected = torch.tensor([[1.0 - 7.0, 4.0 - 5.5, 10.0 - 2.5]])
    torch.testing.assert_close(less_the_others(advantage, 1), expected)


def test_an_account_alone_has_no_others():
    with pytest.raises(ValueError, match="accounts=1"):
        less_the_others(torch.ones(4, 1), 1)


def test_the_baseline_leaves_the_policy_gradient_where_it_was_and_takes_variance():
    """Accounts choose independently: a score times another account's luck is 0 in the mean."""
    torch.manual_seed(0)
    draws, accounts = 200_000, 4
    luck = 3.0 * torch.randn(draws, 1)  # of the path, whatever is chosen
    long = (torch.rand(draws, accounts) < 0.3).float()
    advantage = luck + 0.5 * long
    score = long - 0.3  # derivative of the log-probability by the logit
    plain = (score * advantage).mean(1)
    less = (score * less_the_others(advantage, 1)).mean(1)
    exact = 0.5 * 0.3 * 0.7
    for estimate in (plain, less):
        error = float(estimate.std()) / draws**0.5
        assert abs(float(estimate.mean()) - exact) < 4 * error
    assert less.var() < 0.05 * plain.var()
