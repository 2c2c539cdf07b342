"""Advantages: the baseline across the accounts of a path."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule

from pipelines.advantage import Advantage, bootstrap, less_the_others


def test_the_others_mean_is_taken_and_never_ones_own():
    advantage = torch.tensor([[1.0, 4.0, 10.0]])
    expected = torch.tensor([[1.0 - 7.0, 4.0 - 5.5, 10.0 - 2.5]])
    torch.testing.assert_close(less_the_others(advantage, 1), expected)


@pytest.mark.parametrize("path_baseline", [True, False])
def test_the_others_are_the_baseline_only_where_they_are_asked_for(path_baseline):
    torch.manual_seed(0)
    shape = (2, 3, 5)  # paths, accounts, time
    done = torch.zeros(*shape, 1, dtype=torch.bool)
    done[..., -1, :] = True
    batch = TensorDict({"state_value": torch.randn(*shape, 1)}, shape)
    batch["next"] = TensorDict(
        {"reward": torch.randn(*shape, 1), "done": done, "terminated": done.clone(),
         "truncated": torch.zeros_like(done)}, shape)  # fmt: skip
    critic = TensorDictModule(torch.zeros_like, ["reward"], ["state_value"])
    plain, value = batch["next", "reward"].clone(), batch["state_value"]
    for t in reversed(range(4)):  # with gamma and lambda of 1 the rest of the episode's rewards
        plain[..., t, :] += plain[..., t + 1, :]
    plain = plain - value
    Advantage(critic, "state_value", gamma=1.0, lmbda=1.0, path_baseline=path_baseline)(batch)
    want = less_the_others(plain, 1) if path_baseline else plain
    torch.testing.assert_close(batch["advantage"], want)


def test_who_is_ruined_on_an_episode_s_last_bar_takes_no_value_from_the_others():
    """Their episode is cut off there all the same: the next stored value is of another one."""
    shape = (2, 3, 5)  # paths, accounts, time
    truncated = torch.zeros(*shape, 1, dtype=torch.bool)
    truncated[0, 1:, 2] = True  # the first account ends in ruin instead
    state = torch.arange(30.0).view(*shape, 1)
    batch = TensorDict({"state_value": state}, shape)
    batch["next"] = TensorDict({"truncated": truncated, "state": 100.0 + state}, shape)
    critic = TensorDictModule(lambda seen: seen, ["state"], ["state_value"])
    bootstrap(batch, critic)
    found = batch["next", "state_value"][..., 0]
    expected = torch.cat([state[..., 1:, 0], 100.0 + state[..., -1:, 0]], -1)
    expected[0, 1:, 2] = 100.0 + state[0, 1:, 2, 0]
    counts = torch.ones(shape, dtype=torch.bool)
    counts[0, 0, 2] = False  # of the ruined one the entry has no meaning
    assert torch.equal(found[counts], expected[counts])


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
