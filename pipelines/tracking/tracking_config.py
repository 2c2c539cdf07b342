"""Where a training's curves go, and what is worth an alert."""

from dataclasses import dataclass, field

from envs.checks import require, require_at_least, require_between, require_one_of

LOGGERS = ("wandb", "tensorboard", "csv", "trackio", "none")
WANDB_MODES = ("auto", "online", "offline", "disabled")
ARTIFACTS = ("model", "data", "trace")
# Of W&B, which begins no run in a project with another name.
_MOST_OF_PROJECT = 128
_NOT_IN_PROJECT = "/\\#?%:"


@dataclass
class WandbConfig:
    """Weights & Biases, with ``logger=wandb``. ``metrics.jsonl`` is written whatever stands here.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # auto (online with an account, else offline), online, offline or disabled.
    mode: str = "auto"
    project: str = "pricetaker"
    entity: str | None = None
    # Runs that are shown together, as the seeds of one configuration; null: the tag.
    group: str | None = None
    job_type: str = "train"
    tags: list[str] = field(default_factory=list)
    # What is kept there when a training has ended, of model, data and trace; []: nothing.
    artifacts: list[str] = field(default_factory=lambda: list(ARTIFACTS))
    # Seconds that the end of a program waits for what is still to be sent; the run's folder has it.
    finish_s: float = 300.0

    def __post_init__(self) -> None:
        require_one_of("wandb.mode", self.mode, WANDB_MODES)
        named = 1 <= len(self.project) <= _MOST_OF_PROJECT
        named = named and not set(self.project) & set(_NOT_IN_PROJECT)
        allowed = f"1 to {_MOST_OF_PROJECT} characters, none of {' '.join(_NOT_IN_PROJECT)}"
        require(named, "wandb.project", self.project, allowed)
        require(bool(self.job_type), "wandb.job_type", self.job_type, "a name")
        for tag in self.tags:
            require(1 <= len(tag) <= 64, "wandb.tags", tag, "texts of 1 to 64 characters")
        for kind in self.artifacts:
            require_one_of("wandb.artifacts", kind, ARTIFACTS)
        require_between("wandb.finish_s", self.finish_s, 1.0, 86_400.0)


@dataclass
class AlertConfig:
    """What a training warns of, once each time it begins; null: of this never.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # Above this train/approx_kl (nats) the policy leaves the one that collected the rollout.
    kl: float | None = 0.1
    # Below this train/entropy_direction (nats; of three equal choices 1.1) it explores no more.
    entropy: float | None = 0.05
    # Above this share of the episodes ends in ruin.
    ruin_share: float | None = 0.2
    # Below this share of the median speed, three iterations in a row.
    slowdown: float | None = 0.5
    # Iterations whose median speed is the usual one; before so many nothing is called slow.
    slowdown_after: int = 10

    def __post_init__(self) -> None:
        limits = {"kl": 1e3, "entropy": 1.1, "ruin_share": 1.0, "slowdown": 1.0}
        for key, most in limits.items():
            value = getattr(self, key)
            if value is not None:
                require_between(f"alerts.{key}", value, 0.0, most)
        require_at_least("alerts.slowdown_after", self.slowdown_after, 1)
