"""Where two rollouts part."""

import torch
from tensordict import TensorDict

from envs.ledger import HEADS
from pipelines.held_out.rollout import Rollout
from pipelines.held_out.ties import partings

TILES, STEPS = 3, 6


def rollout(**changes):
    """All heads at 0, ahead by 1e-5, but for ``head=(tile, step, index, by how much)``."""
    shape = (TILES, 1, STEPS)
    action = {head: torch.zeros(shape, dtype=torch.int64) for head in HEADS}
    logits = {head: torch.zeros(*shape, 3) for head in HEADS}
    for head in HEADS:
        logits[head][..., 0] = 1e-5
    for head, (tile, step, index, ahead) in changes.items():
        action[head][tile, 0, step:] = index
        logits[head][tile, 0, step:] = ahead * torch.eye(3)[index]
    alive = torch.ones(shape, dtype=torch.bool)
    alive[2, 0, 3:] = False
    params = {head: {"logits": values} for head, values in logits.items()}
    return Rollout(TensorDict({"action": action, "params": params}, shape), alive)


def test_equal_rollouts_do_not_part():
    assert partings(rollout(), rollout()) == []


def test_the_first_difference_of_a_tile_counts_and_says_how_near_it_was():
    other = rollout(size=(1, 2, 1, 5e-5), direction=(0, 4, 2, 0.5), stop_loss=(1, 3, 1, 9.0))
    found = partings(rollout(), other)
    assert [(p.tile, p.step, p.head) for p in found] == [(0, 4, "direction"), (1, 2, "size")]
    assert [p.is_tie for p in found] == [False, True]
    torch.testing.assert_close(found[0].margin, 0.5)


def test_two_heads_may_differ_at_once():
    other = rollout(size=(1, 2, 1, 5e-5), stop_loss=(1, 2, 1, 3.0))
    assert [(p.head, p.is_tie) for p in partings(rollout(), other)] == [
        ("size", True),
        ("stop_loss", False),
    ]


def test_what_follows_an_episode_s_end_means_nothing():
    assert partings(rollout(), rollout(size=(2, 3, 1, 5.0))) == []


def test_two_rollouts_that_are_as_sure_of_opposite_choices_do_not_tie():
    (parting,) = partings(rollout(size=(0, 1, 2, 20.0)), rollout(size=(0, 1, 1, 20.0)))
    assert parting.margin == 20.0
    assert not parting.is_tie
