"""The learners that the learning suite compares, and their hyper-parameters, in one place."""

from dataclasses import dataclass, field, replace

from modules.config import ModelConfig
from pipelines.loss_config import LossConfig
from pipelines.train_config import TrainConfig

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

# Two transformers of the same sizes, one of which reads a window at a time.
TRANSFORMER = ModelConfig(
    d_model=64,
    num_layers=2,
    num_heads=2,
    ff_dim=128,
    num_context_blocks=1,
    context_ff_dim=128,
    account_dim=32,
    features_dim=64,
)
STREAMING = replace(TRANSFORMER, encoder="streaming")


@dataclass(frozen=True)
class LearnerSpec:
    """One learner: whose update, and with which numbers.

    Attributes:
        library: ``ours`` or ``sb3``.
        lanes: parallel lanes.
        train: of the update.
        loss: of the update; one entropy coefficient counts for all heads under ``sb3``.
        zero_value: ``sb3`` alone: its value head starts at 0, as ours does.
        accounts: lanes that share a path.
        normalize_reward: ``sb3`` alone: its VecNormalize on rewards.
        network: ``ours`` alone: the sizes.
    """

    library: str
    lanes: int
    train: TrainConfig
    loss: LossConfig = field(default_factory=LossConfig)
    normalize_reward: bool = False
    zero_value: bool = False
    accounts: int = 1
    network: ModelConfig = field(default_factory=lambda: NETWORK)


def entropy(coefficient: float) -> dict[str, float]:
    """The same coefficient for every head."""
    return dict.fromkeys(("direction", "size", "stop_loss", "take_profit"), coefficient)


_EQUAL_TRAIN = TrainConfig(
    steps=32, epochs=4, minibatch=512, lr=1e-3, gamma=0.98, lmbda=0.9, max_grad_norm=0.5
)
_EQUAL_LOSS = LossConfig(
    clip_value=None, entropy_coeff=entropy(0.1), mask_unused_heads=False, normalize_value=False
)
_TUNED_TRAIN = replace(
    _EQUAL_TRAIN, steps=8, minibatch=256, lr=3e-3, lr_schedule="linear", lmbda=0.6, weight_decay=1.0
)
_OUR_TRAIN = replace(_TUNED_TRAIN, hindsight_bars=64)
_TRANSFORMER_TRAIN = replace(_OUR_TRAIN, lr=1e-3)
_OUR_LOSS = replace(
    _EQUAL_LOSS,
    entropy_coeff=entropy(0.02) | {"direction": 0.2},
    mask_unused_heads=True,
    normalize_value=True,
)
# With 0.2 they end flat, or in one side, before they have seen what the bars say.
_TRANSFORMER_LOSS = replace(_OUR_LOSS, entropy_coeff=entropy(0.02) | {"direction": 0.5})

LEARNERS = {
    # Everything of ours switched off, and stable-baselines3, with equal numbers: parity.
    "plain": LearnerSpec("ours", 64, _EQUAL_TRAIN, _EQUAL_LOSS),
    "sb3": LearnerSpec("sb3", 64, _EQUAL_TRAIN, _EQUAL_LOSS, zero_value=True),
    # The same with the value head that it starts with by itself.
    "sb3_own_start": LearnerSpec("sb3", 64, _EQUAL_TRAIN, _EQUAL_LOSS),
    # Our methods on, and stable-baselines3 with the best numbers found for it: docs/benchmarks.md.
    "ours": LearnerSpec("ours", 128, _OUR_TRAIN, _OUR_LOSS),
    "sb3_tuned": LearnerSpec(
        "sb3",
        128,
        _TUNED_TRAIN,
        replace(_EQUAL_LOSS, entropy_coeff=entropy(0.2)),
        normalize_reward=True,
    ),
    # A transformer that reads a window at a time, and a streaming one, with numbers of their own.
    "transformer": LearnerSpec(
        "ours", 128, _TRANSFORMER_TRAIN, _TRANSFORMER_LOSS, network=TRANSFORMER
    ),
    "streaming": LearnerSpec("ours", 128, _TRANSFORMER_TRAIN, _TRANSFORMER_LOSS, network=STREAMING),
    # Ours with one thing changed: what it is worth.
    "no_hindsight": LearnerSpec("ours", 128, replace(_OUR_TRAIN, hindsight_bars=0), _OUR_LOSS),
    "no_hindsight_long": LearnerSpec(
        "ours", 128, replace(_OUR_TRAIN, hindsight_bars=0, lmbda=0.9), _OUR_LOSS
    ),
    "no_mask": LearnerSpec("ours", 128, _OUR_TRAIN, replace(_OUR_LOSS, mask_unused_heads=False)),
    "no_value_scale": LearnerSpec(
        "ours", 128, _OUR_TRAIN, replace(_OUR_LOSS, normalize_value=False)
    ),
    "path_baseline": LearnerSpec(
        "ours",
        128,
        replace(_OUR_TRAIN, hindsight_bars=0, path_baseline=True),
        _OUR_LOSS,
        accounts=4,
    ),
    "low_entropy": LearnerSpec(
        "ours", 128, _OUR_TRAIN, replace(_OUR_LOSS, entropy_coeff=entropy(0.01))
    ),
}
COMPARED = ("plain", "sb3", "ours", "sb3_tuned")
