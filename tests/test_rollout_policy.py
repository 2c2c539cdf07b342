"""Encoded ahead: each window once, in batches of one shape, and the actions of step by step."""

import dataclasses

import pytest
import torch
from torch import nn
from torchrl.envs.utils import ExplorationType, set_exploration_type

from envs.config import EnvConfig
from envs.factory import make_env
from modules.path_encoder import PathEncoder
from pipelines import rollout_policy
from pipelines.held_out.rollout import play_tiles, split_tiles
from pipelines.held_out.ties import partings
from pipelines.rollout_policy import RolloutPolicy
from random_walk import fine_table
from small_networks import ENCODERS, make_opinionated

ENV = EnvConfig(
    paths=3, accounts=2, workers=0, window=8, episode_bars=10, tick_size=0.01, ruin_equity_frac=0.98
)


class Counter(PathEncoder):
    """Remembers the shapes it was called with."""

    def __init__(self, model):
        super().__init__(model)
        self.shapes = []

    def forward(self, bars_NC):
        """As the encoder."""
        self.shapes.append(tuple(bars_NC.shape))
        return super().forward(bars_NC)


def make_policy(table, encoder="transformer", env=ENV):
    model = make_opinionated(ENCODERS[encoder], env, table)
    counter = Counter(model)
    return RolloutPolicy(model, encode=counter, with_logits=True), counter


@torch.no_grad()
def roll(env, policy, steps, announced):
    policy.announce(announced)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        state, rows = env.reset(), []
        for _ in range(steps):
            played, state = env.step_and_maybe_reset(policy(state))
            rows.append(played)
    return torch.stack(rows, -1)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("workers", [0, pytest.param(3, marks=pytest.mark.long)])
def test_ahead_acts_and_values_as_step_by_step(encoder, workers):
    """Over ends of episodes, ruined accounts and new starts that nobody knew beforehand."""
    table, steps = fine_table(volatility=4e-3), 25
    cfg = dataclasses.replace(ENV, workers=workers)
    rollouts = []
    for announced in (steps, 0):
        policy, counter = make_policy(table, encoder, cfg)
        env = make_env(table, cfg, seed=3)
        rollouts.append(roll(env, policy, steps, announced))
        env.close(raise_if_closed=False)
        assert sum(n * c for n, c in counter.shapes) == cfg.paths * steps  # each window once
    ahead, each = rollouts
    assert ahead["next", "terminated"].any()
    assert ahead["next", "truncated"].any()
    assert torch.equal(ahead["bar"], each["bar"])
    for head in ENV.num_actions:
        assert torch.equal(ahead["action", head], each["action", head])
    torch.testing.assert_close(ahead["state_value"], each["state_value"], atol=1e-5, rtol=1e-5)


def test_a_rollout_is_encoded_in_one_batch_up_to_the_end_of_its_episodes():
    table = fine_table(volatility=4e-3)
    policy, counter = make_policy(table)
    roll(make_env(table, ENV, seed=3), policy, 25, 25)
    assert counter.shapes == [(30, 1), (30, 1), (15, 1)]  # 10, 10 and 5 steps of three paths
    policy, counter = make_policy(table, "streaming")
    roll(make_env(table, ENV, seed=3), policy, 25, 25)
    assert counter.shapes == [(3, 10), (3, 10), (3, 5)]


def test_batches_have_one_shape_whatever_is_left_for_the_last(monkeypatch):
    monkeypatch.setattr(rollout_policy, "_TOKENS", {"cpu": 40})
    table = fine_table(volatility=4e-3)
    policy, counter = make_policy(table)
    whole = roll(make_env(table, ENV, seed=3), policy, 10, 10)
    assert counter.shapes == [(5, 1)] * 6
    monkeypatch.setattr(rollout_policy, "_TOKENS", {"cpu": 65})
    policy, counter = make_policy(table)
    filled = roll(make_env(table, ENV, seed=3), policy, 10, 10)
    assert counter.shapes == [(8, 1)] * 4  # 32 for 30
    torch.testing.assert_close(whole["state_value"], filled["state_value"])


def test_a_path_that_is_not_where_it_had_to_be_is_noticed():
    table = fine_table(volatility=4e-3)
    policy, _ = make_policy(table)
    state = make_env(table, ENV, seed=3).reset()
    policy.announce(5)
    policy(state.clone())
    with pytest.raises(RuntimeError, match="not at the bar that was encoded for it"):
        policy(state.clone())


def test_weights_that_changed_are_used_after_the_next_announcement():
    """Though bars that were promised before were not come to: they are the same that now come."""
    table = fine_table(volatility=4e-3)
    values = []
    for change in (False, True):
        policy, counter = make_policy(table)
        state = make_env(table, ENV, seed=3).reset()
        policy.announce(8)
        policy(state.clone())
        if change:
            for parameter in policy.ahead.parameters():
                nn.init.normal_(parameter, std=0.3)
        policy.announce(8)
        values.append(policy(state.clone())["state_value"])
        assert len(counter.shapes) == 2
    assert not torch.equal(*values)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_bulk_replay_parts_from_the_steps_in_ties_only(encoder):
    """Tiles of different lengths, cut by the end of the split, in parts of two."""
    table = fine_table(volatility=4e-3)
    policy, counter = make_policy(table, encoder)
    bounds = split_tiles(table, ENV, "test")
    assert (bounds[:, 1] - bounds[:, 0]).unique().numel() > 1
    bulk = play_tiles(table, ENV, bounds, policy, max_lanes=7)
    windows = sum(n * c for n, c in counter.shapes)
    assert windows == int((bounds[:, 1] - bounds[:, 0]).sum())  # each once
    each = play_tiles(table, ENV, bounds, policy, max_lanes=7, bulk=False)
    assert torch.equal(bulk.alive, each.alive)
    assert (bulk.batch["action", "direction"] != 1).any()
    found = partings(bulk, each)
    assert all(parting.is_tie for parting in found), found
    torch.testing.assert_close(
        bulk.batch["state_value"][bulk.alive], each.batch["state_value"][bulk.alive],
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip
    assert len(counter.shapes) > 1
