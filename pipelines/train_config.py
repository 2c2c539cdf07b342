"""Proximal policy optimisation: every number of the update, and what must fit together."""

import math
from dataclasses import dataclass

from envs.checks import require, require_at_least, require_between, require_positive

PRECISIONS = ("auto", "float32", "bfloat16")
LR_SCHEDULES = ("constant", "linear", "cosine")


@dataclass
class TrainConfig:
    """Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) and its schedule.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    steps: int = 64  # bars a lane lives through in one iteration
    epochs: int = 4
    minibatch: int = 2048  # frames; whole sequences with all the accounts of their path
    # Consecutive bars of a path that a streaming encoder reads at once in the update, a divisor of
    # steps and of env.episode_bars; null: the largest one.
    sequence: int | None = None
    lr: float = 3e-4
    lr_schedule: str = "constant"
    gamma: float = 0.995
    lmbda: float = 0.92
    # Take from an advantage the mean of those of the other accounts on its path.
    path_baseline: bool = False
    # Bars ahead that the critic of the advantages sees in training; 0: none, the actor's own one.
    hindsight_bars: int = 0
    max_grad_norm: float = 0.6
    target_kl: float | None = None
    weight_decay: float = 0.0
    precision: str = "auto"  # of matrix products: auto (bfloat16 on CUDA), float32, bfloat16
    compile: bool | None = None  # torch.compile of the encoder; null: on CUDA
    cuda_graph: bool = True  # launch a step of the policy, and a gradient, at once; only on CUDA

    def __post_init__(self) -> None:
        for key in ("steps", "epochs", "minibatch"):
            require_at_least(f"train.{key}", getattr(self, key), 1)
        require_at_least("train.hindsight_bars", self.hindsight_bars, 0)
        if self.sequence is not None:
            require_at_least("train.sequence", self.sequence, 1)
        for key in ("lr", "max_grad_norm"):
            require_positive(f"train.{key}", getattr(self, key))
        if self.target_kl is not None:
            require_positive("train.target_kl", self.target_kl)
        for key in ("gamma", "lmbda"):
            require_between(f"train.{key}", getattr(self, key), 0.0, 1.0)
        require_between("train.weight_decay", self.weight_decay, 0.0, 1e3)
        choices = {"lr_schedule": LR_SCHEDULES, "precision": PRECISIONS}
        for key, allowed in choices.items():
            value = getattr(self, key)
            require(value in allowed, f"train.{key}", value, f"one of {', '.join(allowed)}")


def sequence_length(cfg: TrainConfig, encoder: str, episode_bars: int) -> int:
    """Consecutive bars of a path that are trained on together: 1 unless the encoder streams.

    Raises:
        ValueError: for a `sequence` that is no divisor of `steps` and of the episode: paths begin
            their episodes together, so that a divisor of both never spans two of them; or for one
            above 1 with an encoder that does not stream.
    """
    if encoder != "streaming":
        allowed = "null or 1: only model=streaming reads consecutive bars at once"
        require(cfg.sequence in (None, 1), "train.sequence", cfg.sequence, allowed)
        return 1
    longest = math.gcd(cfg.steps, episode_bars)
    length = longest if cfg.sequence is None else cfg.sequence
    require(
        longest % length == 0,
        "train.sequence",
        length,
        f"a divisor of {longest}, the greatest common one of train.steps={cfg.steps} and "
        f"env.episode_bars={episode_bars}",
    )
    return length


def check_minibatch(cfg: TrainConfig, *, accounts: int, lanes: int, sequence: int = 1) -> None:
    """Refuse a minibatch that whole sequences cannot fill, and a baseline across one account.

    Raises:
        ValueError: unless `minibatch` is a multiple of ``accounts * sequence`` and at most a
            rollout's frames; for a `path_baseline` with one account on a path.
    """
    alone = cfg.path_baseline and accounts == 1
    require(
        not alone, "train.path_baseline", True, "false with env.accounts=1: there are no others"
    )
    frames = cfg.steps * lanes
    stretch = f" times the {sequence} bars of a sequence (train.sequence)" if sequence > 1 else ""
    require(
        cfg.minibatch % (accounts * sequence) == 0,
        "train.minibatch",
        cfg.minibatch,
        f"a multiple of env.accounts={accounts}{stretch}: they are trained together",
    )
    require(
        cfg.minibatch <= frames,
        "train.minibatch",
        cfg.minibatch,
        f"at most the {frames} frames of a rollout (train.steps * env.paths * env.accounts)",
    )
