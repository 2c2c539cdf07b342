"""The learners that the learning suite compares, and their hyper-parameters, in one place."""

from dataclasses import dataclass, field, replace

from modules.config import ModelConfig
from pipelines.learner import TrainConfig
from pipelines.loss import LossConfig

# The network of every learner: small enough for two cores, and what other libraries use.
NETWORK = ModelConfig(
    encoder="mlp",
    d_model=64,
    ff_dim=64,
    num_layers=2,
    num_heads=1,
    account_dim=32,
    features_dim=64,
)


@dataclass(frozen=True)
class LearnerSpec:
    """One learner: whose update, and with which numbers.

    Attributes:
        library: ``ours`` or ``sb3``.
        lanes: parallel lanes, each on a path of its own.
        train: of the update.
        loss: of the update; one entropy coefficient counts for all heads under ``sb3``.
        normalize_reward: ``sb3`` alone: its VecNormalize on rewards.
    """

    library: str
    lanes: int
    train: TrainConfig
    loss: LossConfig = field(default_factory=LossConfig)
    normalize_reward: bool = False


def entropy(coefficient: float) -> dict[str, float]:
    """The same coefficient for every head."""
    return dict.fromkeys(("direction", "size", "stop_loss", "take_profit"), coefficient)


_EQUAL_TRAIN = TrainConfig(
    steps=32, epochs=4, minibatch=512, lr=1e-3, gamma=0.98, lmbda=0.9, max_grad_norm=0.5
)
_EQUAL_LOSS = LossConfig(
    clip_value=None, entropy_coeff=entropy(0.1), mask_unused_heads=False, normalize_value=False
)

LEARNERS = {
    # Everything of ours switched off, and stable-baselines3, with equal numbers: parity.
    "plain": LearnerSpec("ours", 64, _EQUAL_TRAIN, _EQUAL_LOSS),
    "sb3": LearnerSpec("sb3", 64, _EQUAL_TRAIN, _EQUAL_LOSS),
    # Our methods on.
    "ours": LearnerSpec(
        "ours",
        128,
        replace(_EQUAL_TRAIN, steps=8, epochs=8, minibatch=256, hindsight_bars=64),
        replace(
            _EQUAL_LOSS, mask_unused_heads=True, normalize_value=True, entropy_coeff=entropy(0.2)
        ),
    ),
    # stable-baselines3 with the best numbers found for it, see docs/benchmarks.md.
    "sb3_tuned": LearnerSpec(
        "sb3",
        128,
        replace(_EQUAL_TRAIN, steps=8, minibatch=256),
        _EQUAL_LOSS,
        normalize_reward=True,
    ),
}
