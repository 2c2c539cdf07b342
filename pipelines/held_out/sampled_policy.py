"""A policy that draws its actions, as in training, from a generator of its own."""

import torch
from tensordict import TensorDictBase
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import ActorValueOperator

from pipelines.rollout_policy import RolloutPolicy

# Between the first steps of two neighbouring seeds: more than any rollout has.
_APART = 1_000_003


class SampledPolicy(RolloutPolicy):
    """Actions drawn from the distributions of the heads; the same seed draws the same.

    Args:
        model: actor and critic, whose parameters are shared.
        seed: of the draws; the global generators are left as they were.
    """

    def __init__(self, model: ActorValueOperator, seed: int) -> None:
        super().__init__(model)
        self.next_seed = seed * _APART

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Draw in a TensorDict [..., paths, accounts] of the environment."""
        device = tensordict["bar"].device
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            set_exploration_type(ExplorationType.RANDOM),
        ):
            torch.manual_seed(self.next_seed)
            self.next_seed += 1
            return super().forward(tensordict)
