"""Where two rollouts part."""

import torch
from tensordict import TensorDict

from envs.ledger import HEADS
from pipelines.rollout import Rollout
from pipelines.ties import partings

TILES, STEPS = 3, 6


def rollout(**changes):
    """All heads at 0, log-probability -1, but for ``head=(tile, step, index, log_prob)``."""
    shape = (TILES, 1, STEPS)
    action = {head: torch.zeros(shape, dtype=torch.int64) for head in HEADS}
    action |= {f"{head}_log_prob": torch.full(shape, -1.0) for head in HEADS}
    for head, (tile, step, index, log_prob) in changes.items():
        action[head][tile, 0, step:] = index
        action[f"{head}_log_prob"][tile, 0, step:] = log_prob
    alive = torch.ones(shape, dtype=torch.bool)
    alive[2, 0, 3:] = False
    return Rollout(TensorDict({"action": action}, shape), alive)


def test_equal_rollouts_do_not_part():
    assert partings(rollout(), rollout()) == []


def test_the_first_difference_of_a_tile_counts_and_says_how_near_it_was():
    other = rollout(size=(1, 2, 1, -1.00005), direction=(0, 4, 2, -1.5), stop_loss=(1, 3, 1, -9.0))
    found = partings(rollout(), other)
    assert [(p.tile, p.step, p.head) for p in found] == [(0, 4, "direction"), (1, 2, "size")]
    assert [p.is_tie for p in found] == [False, True]
    torch.testing.assert_close(found[0].margin, 0.5)


def test_two_heads_may_differ_at_once():
    other = rollout(size=(1, 2, 1, -1.0), stop_loss=(1, 2, 1, -3.0))
    assert [(p.head, p.is_tie) for p in partings(rollout(), other)] == [
        ("size", True),
        ("stop_loss", False),
    ]


def test_what_follows_an_episode_s_end_means_nothing():
    assert partings(rollout(), rollout(size=(2, 3, 1, -5.0))) == []
