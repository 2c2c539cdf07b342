"""What the shared features say: logits of every action head, and the value.

Both stay float32 under autocast: bfloat16 resolves a log-probability to about 1 %, as much as a
clipped policy update moves it.
"""

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from modules.fusion import init_orthogonal

RETURN_DECAY = 0.95  # a rollout
RETURN_FLOOR = 1e-6  # a market that pays nothing has no scale
POLICY_GAIN = 0.01  # near-uniform first policy (Andrychowicz et al. 2021, arXiv 2006.05990)


class ActionHeads(nn.Module):
    """Logits of independent categorical heads, from one matrix multiplication.

    Args:
        features_dim: width of the features.
        num_actions: categories of each head, by name.

    Raises:
        ValueError: for no head, or for a head without a category.
    """

    def __init__(self, features_dim: int, num_actions: dict[str, int]) -> None:
        super().__init__()
        if not num_actions or min(num_actions.values()) < 1:
            raise ValueError(
                f"num_actions={num_actions!r} is not allowed: "
                "one head or more, each with one category or more"
            )
        self.num_actions = dict(num_actions)
        self.linear = nn.Linear(features_dim, sum(num_actions.values()))
        init_orthogonal(self.linear, gain=POLICY_GAIN)

    def forward(self, features: Tensor) -> TensorDict:
        """``(head, "logits")`` float32 [..., categories], as parameters of a composite."""
        logits = _linear_float32(self.linear, features).split(list(self.num_actions.values()), -1)
        heads = zip(self.num_actions, logits, strict=True)
        return TensorDict(
            {head: {"logits": value} for head, value in heads}, batch_size=features.shape[:-1]
        )

    def extra_repr(self) -> str:
        """Heads and their categories, for the printed graph."""
        return ", ".join(f"{head}={count}" for head, count in self.num_actions.items())


class ValueHead(nn.Module):
    """Expected discounted return, in units of the reward.

    Inside, the return is normalised: a layer says how many `scale` it lies above `loc`. What the
    layer learns does not depend on the units of the reward, and `track` moves both without
    changing any value (PopArt, van Hasselt et al. 2016, arXiv 1602.07714). The layer starts at 0.

    Args:
        features_dim: width of the features.
    """

    loc: Tensor
    scale: Tensor
    moments: Tensor

    def __init__(self, features_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features_dim, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("loc", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        # Decayed sums of 1, of the returns and of their squares.
        self.register_buffer("moments", torch.zeros(3, dtype=torch.float64))

    def forward(self, features: Tensor) -> Tensor:
        """Value float32 [..., 1]."""
        return self.loc + self.scale * _linear_float32(self.linear, features)

    @torch.no_grad()
    def track(self, returns: Tensor) -> None:
        """Normalise by the mean and the deviation of the returns seen, the latest weighing most.

        Args:
            returns: any shape, finite.
        """
        seen = returns.double()
        batch = torch.stack(
            [torch.ones_like(seen[..., 0].sum()), seen.mean(), seen.square().mean()]
        )
        self.moments.lerp_(batch, 1.0 - RETURN_DECAY)
        _, mean, square = self.moments / self.moments[0]
        scale = (square - mean.square()).clamp_min(RETURN_FLOOR**2).sqrt()
        weight, bias = self.linear.weight, self.linear.bias
        bias.copy_((self.scale * bias + self.loc - mean) / scale)
        weight.mul_(self.scale / scale)
        self.loc.copy_(mean)
        self.scale.copy_(scale)


def _linear_float32(layer: nn.Linear, features: Tensor) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        return layer(features.float())
