"""What turns a rollout into a better policy: advantages, minibatches, the clipped update."""

import math
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.data.replay_buffers.samplers import SamplerWithoutReplacement
from torchrl.modules import ActorValueOperator

from envs.checks import require, require_at_least, require_between, require_positive
from modules.heads import ValueHead
from pipelines.advantage import Advantage, path_times
from pipelines.loss import LossConfig, PolicyLoss
from pipelines.non_finite import (
    NonFiniteError,
    find_non_finite,
    refuse_non_finite,
    tensors_of,
)
from pipelines.precision import PRECISIONS, MixedPrecision, mixed

_LOSSES = ("loss_objective", "loss_entropy", "loss_critic")
LR_SCHEDULES = ("constant", "linear", "cosine")


@dataclass
class TrainConfig:
    """Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) and its schedule.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    steps: int = 64  # bars a lane lives through in one iteration
    epochs: int = 4
    minibatch: int = 2048  # frames; whole path-times of `accounts` frames each
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

    def __post_init__(self) -> None:
        for key in ("steps", "epochs", "minibatch"):
            require_at_least(f"train.{key}", getattr(self, key), 1)
        require_at_least("train.hindsight_bars", self.hindsight_bars, 0)
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


def check_minibatch(cfg: TrainConfig, *, accounts: int, lanes: int) -> None:
    """Refuse a minibatch that whole path-times cannot fill, and a baseline across one account.

    Raises:
        ValueError: unless `minibatch` is a multiple of `accounts` and at most a rollout's frames;
            for a `path_baseline` with one account on a path.
    """
    alone = cfg.path_baseline and accounts == 1
    require(
        not alone, "train.path_baseline", True, "false with env.accounts=1: there are no others"
    )
    frames = cfg.steps * lanes
    require(
        cfg.minibatch % accounts == 0,
        "train.minibatch",
        cfg.minibatch,
        f"a multiple of env.accounts={accounts}: the accounts of a path are trained together",
    )
    require(
        cfg.minibatch <= frames,
        "train.minibatch",
        cfg.minibatch,
        f"at most the {frames} frames of a rollout (train.steps * env.paths * env.accounts)",
    )


class Learner:
    """Clipped policy updates on the rollouts of one policy.

    Args:
        model: actor and critic on one trunk; the loss runs the trunk once for both.
        cfg: the hyper-parameters.
        lanes: lanes of a rollout.
        accounts: lanes that share a path, the last batch dimension of an item.
        iterations: updates that the learning-rate schedule spans.
        hindsight: a critic that sees the future (`modules.hindsight`), as the rollouts' policy
            has it; None: the model's own critic is the baseline.
    """

    def __init__(
        self,
        model: ActorValueOperator,
        cfg: TrainConfig,
        loss_cfg: LossConfig,
        *,
        lanes: int,
        accounts: int,
        iterations: int,
        hindsight: TensorDictModuleBase | None = None,
    ) -> None:
        self.cfg = cfg
        self.device = next(model.parameters()).device
        self.loss = PolicyLoss(
            model.get_policy_operator(), model.get_value_head(), loss_cfg, hindsight
        )
        heads: list[nn.Module] = [model.get_value_head().module]
        critic: TensorDictModuleBase = model.get_value_operator()
        if hindsight is not None:
            critic = TensorDictSequential(critic, hindsight)
            heads.append(hindsight.module[-1].module.head)
        # A value head of one's own without normalisation is trained in units of the reward.
        normalised = heads if loss_cfg.normalize_value else []
        self.value_heads = [head for head in normalised if isinstance(head, ValueHead)]
        self.advantage = Advantage(
            MixedPrecision(critic, cfg.precision, self.device),
            self.loss.value_key,
            gamma=cfg.gamma,
            lmbda=cfg.lmbda,
            path_baseline=cfg.path_baseline,
        )
        self.optimizer = torch.optim.AdamW(
            self.loss.parameters(),
            lr=cfg.lr,
            eps=1e-5,
            weight_decay=cfg.weight_decay,
            fused=True,
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, partial(_lr_factor, cfg.lr_schedule, iterations)
        )
        self.buffer = TensorDictReplayBuffer(
            storage=LazyTensorStorage(cfg.steps * lanes // accounts, device=self.device),
            sampler=SamplerWithoutReplacement(drop_last=False),
            batch_size=cfg.minibatch // accounts,
        )

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Improve the policy on one rollout [..., paths, accounts, T].

        Returns:
            Means over the minibatches, scalars on the device: losses, approximate KL divergence,
            clip fraction, entropies, gradient norm.

        Raises:
            NonFiniteError: if an observation, a reward, an advantage, a return, a loss or a
                gradient is not finite; no step is then taken.
        """
        refuse_non_finite(batch, ["account", ("next", "account"), ("next", "reward")])
        self.advantage(batch)
        refuse_non_finite(batch, ["advantage", "value_target"])
        for head in self.value_heads:
            head.track(batch["value_target"])
            self.loss.value_scale.copy_(head.scale)
        items = path_times(batch.select(*self.loss.batch_keys, strict=False))
        self.buffer.empty()
        self.buffer.extend(items)
        stats: list[dict[str, Tensor]] = []
        for _ in range(self.cfg.epochs):
            epoch = [self.step(minibatch) for minibatch in self.buffer]
            stats += epoch
            if self.cfg.target_kl is not None and _mean_kl(epoch) > self.cfg.target_kl:
                break
        means = {key: torch.stack([s[key] for s in stats]).mean() for key in stats[0]}
        means["train/explained_variance"] = _explained_variance(batch, self.loss.value_key)
        means["train/learning_rate"] = torch.tensor(
            self.scheduler.get_last_lr()[0], dtype=torch.float64
        )
        self.scheduler.step()
        return means

    def step(self, minibatch: TensorDictBase) -> dict[str, Tensor]:
        """One gradient step on items [B, accounts]."""
        with mixed(self.cfg.precision, self.device):
            out = self.loss(minibatch)
        total = torch.stack([out[key] for key in _LOSSES]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        parameters = [p for p in self.loss.parameters() if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not (total + norm).isfinite():  # before clipping, which would spread it everywhere
            self._refuse(minibatch, out)
        clip_grads_with_norm_(parameters, self.cfg.max_grad_norm, norm)
        self.optimizer.step()
        scalars = {
            "loss": total,
            "policy_gradient_loss": out["loss_objective"],
            "value_loss": out["loss_critic"],
            "entropy_loss": out["loss_entropy"],
            "approx_kl": out["kl_approx"],
            "clip_fraction": out["clip_fraction"],
            "grad_norm": norm,
        }
        scalars |= self.loss.entropies(out, minibatch)
        return {f"train/{name}": value.detach().mean() for name, value in scalars.items()}

    def _refuse(self, minibatch: TensorDictBase, out: TensorDictBase) -> NoReturn:
        """Say which loss or gradient is no number; the optimiser has not seen it."""
        losses = {f"loss {key}": out[key] for key in _LOSSES}
        gradients = {
            f"gradient of {name}": parameter.grad
            for name, parameter in self.loss.named_parameters()
            if parameter.grad is not None
        }
        place = find_non_finite(losses | gradients) or "non-finite sum of losses and gradients"
        raise NonFiniteError(place, tensors_of(minibatch) | losses | gradients)


def _mean_kl(epoch: list[dict[str, Tensor]]) -> Tensor:
    """Of an epoch: the estimate of one minibatch is noisy and may be negative."""
    return torch.stack([stats["train/approx_kl"] for stats in epoch]).mean()


def _lr_factor(schedule: str, iterations: int, iteration: int) -> float:
    """Share of the initial learning rate after `iteration` of `iterations` updates."""
    done = min(iteration / max(iterations, 1), 1.0)
    if schedule == "linear":
        return 1.0 - done
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0


def _explained_variance(batch: TensorDictBase, value_key: str) -> Tensor:
    """1 - Var[target - value] / Var[target]: 1 is a perfect critic, 0 one that knows the mean."""
    target, value = batch["value_target"], batch[value_key]
    return 1.0 - (target - value).var() / target.var().clamp_min(1e-12)
