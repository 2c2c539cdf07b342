"""What an update minimises: every coefficient of the loss."""

from dataclasses import dataclass, field

from envs.checks import require, require_between, require_positive

# Costs make every change of side a loss at first: with less of the direction's, learners end in
# staying flat, or in one side only (docs/benchmarks.md).
_ENTROPY_COEFF = {"direction": 0.2, "size": 0.02, "stop_loss": 0.02, "take_profit": 0.02}


@dataclass
class LossConfig:
    """The clipped objective (Schulman et al. 2017, arXiv 1707.06347), head by head.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    clip_epsilon: float = 0.2
    # Count values in standard deviations of the returns: their loss then has no units.
    normalize_value: bool = True
    # In those units; null: no clipping.
    clip_value: float | None = None
    value_coeff: float = 0.5
    # Of every head of the action.
    entropy_coeff: dict[str, float] = field(default_factory=_ENTROPY_COEFF.copy)
    normalize_advantage: bool = True
    # Leave heads that the simulator did not read out of the ratio and of the entropy.
    mask_unused_heads: bool = True

    def __post_init__(self) -> None:
        require_positive("loss.clip_epsilon", self.clip_epsilon)
        if self.clip_value is not None:
            require_positive("loss.clip_value", self.clip_value)
        require_between("loss.value_coeff", self.value_coeff, 0.0, 1e3)
        heads = ", ".join(_ENTROPY_COEFF)
        fits = self.entropy_coeff.keys() == _ENTROPY_COEFF.keys()
        require(fits, "loss.entropy_coeff", self.entropy_coeff, f"one number for each of {heads}")
        for head, value in self.entropy_coeff.items():
            require_between(f"loss.entropy_coeff.{head}", value, 0.0, 1e3)
