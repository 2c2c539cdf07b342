"""What turns a rollout into a better policy: advantages, minibatches, the clipped update."""

import math
from dataclasses import dataclass, field
from functools import partial

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.data.replay_buffers.samplers import SamplerWithoutReplacement
from torchrl.modules import ActorValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from envs.checks import require, require_at_least, require_between, require_positive
from pipelines.precision import PRECISIONS, MixedPrecision, mixed

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
    clip_epsilon: float = 0.2
    clip_value: float | None = 0.2  # in units of the reward: it goes with env.reward_scale
    value_coeff: float = 0.5
    entropy_coeff: dict[str, float] = field(
        default_factory=lambda: {
            "direction": 0.01,
            "size": 0.01,
            "stop_loss": 0.01,
            "take_profit": 0.01,
        }
    )
    max_grad_norm: float = 0.6
    normalize_advantage: bool = True
    target_kl: float | None = None
    weight_decay: float = 0.0
    precision: str = "auto"  # of matrix products: auto (bfloat16 on CUDA), float32, bfloat16

    def __post_init__(self) -> None:
        for key in ("steps", "epochs", "minibatch"):
            require_at_least(f"train.{key}", getattr(self, key), 1)
        for key in ("lr", "clip_epsilon", "max_grad_norm"):
            require_positive(f"train.{key}", getattr(self, key))
        for key in ("clip_value", "target_kl"):
            if getattr(self, key) is not None:
                require_positive(f"train.{key}", getattr(self, key))
        for key in ("gamma", "lmbda"):
            require_between(f"train.{key}", getattr(self, key), 0.0, 1.0)
        for key in ("value_coeff", "weight_decay"):
            require_between(f"train.{key}", getattr(self, key), 0.0, 1e3)
        for head, value in self.entropy_coeff.items():
            require_between(f"train.entropy_coeff.{head}", value, 0.0, 1e3)
        choices = {"lr_schedule": LR_SCHEDULES, "precision": PRECISIONS}
        for key, allowed in choices.items():
            value = getattr(self, key)
            require(value in allowed, f"train.{key}", value, f"one of {', '.join(allowed)}")


def check_minibatch(cfg: TrainConfig, *, accounts: int, lanes: int) -> None:
    """Refuse a minibatch that whole path-times cannot fill.

    Raises:
        ValueError: unless `minibatch` is a multiple of `accounts` and at most a rollout's frames.
    """
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


@torch.no_grad()
def bootstrap(batch: TensorDictBase, critic: TensorDictModule) -> None:
    r"""Write the value of every next state, from stored values wherever they exist.

    Within an episode the next state's value is the one stored a step later. Only states that the
    collector left without acting on them, the rollout's last and those at which a path was
    truncated, go through the network. A terminated lane's entry has no meaning and no effect.

    Args:
        batch: rollout [..., paths, accounts, T] with ``state_value`` [..., 1] and the next state.
        critic: writes ``state_value`` for batches [..., accounts].
    """
    value = batch["state_value"]
    following = torch.cat([value[..., 1:, :], torch.zeros_like(value[..., :1, :])], -2)
    unseen = batch["next", "truncated"].squeeze(-1).any(-2)  # [..., paths, T]
    unseen[..., -1] = True
    states = path_times(batch["next"].select(*critic.in_keys))[unseen.reshape(-1)]
    by_path = following.movedim(-2, -3).flatten(0, -3)  # [path-times, accounts, 1]
    by_path[unseen.reshape(-1)] = critic(states)["state_value"].to(value.dtype)
    time_shape = following.movedim(-2, -3).shape
    batch["next", "state_value"] = by_path.view(time_shape).movedim(-3, -2)


def path_times(batch: TensorDictBase) -> TensorDictBase:
    """A rollout [..., paths, accounts, T] as items [path-times, accounts].

    An item is one path at one time with all its accounts, so that a shuffle of items keeps
    together the lanes that share a window.
    """
    order = [*range(batch.ndim - 2), batch.ndim - 1, batch.ndim - 2]
    return batch.permute(*order).flatten(0, -2)


class Learner:
    """Clipped policy updates on the rollouts of one policy.

    Args:
        model: actor and critic on one trunk; the loss runs the trunk once for both.
        cfg: the hyper-parameters.
        lanes: lanes of a rollout.
        accounts: lanes that share a path, the last batch dimension of an item.
        iterations: updates that the learning-rate schedule spans.
        device: where updates happen.
    """

    def __init__(
        self,
        model: ActorValueOperator,
        cfg: TrainConfig,
        lanes: int,
        accounts: int,
        iterations: int,
        device: torch.device,
    ) -> None:
        self.cfg = cfg
        self.device = device
        self.critic = MixedPrecision(model.get_value_operator(), cfg.precision, device)
        self.advantage = GAE(gamma=cfg.gamma, lmbda=cfg.lmbda, value_network=None)
        self.loss = ClipPPOLoss(
            model.get_policy_operator(),
            model.get_value_head(),
            clip_epsilon=cfg.clip_epsilon,
            clip_value=cfg.clip_value,
            critic_coeff=cfg.value_coeff,
            entropy_coeff={
                ("action", f"{head}_entropy"): coeff for head, coeff in cfg.entropy_coeff.items()
            },
            normalize_advantage=cfg.normalize_advantage,
            loss_critic_type="l2",
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
            storage=LazyTensorStorage(cfg.steps * lanes // accounts, device=device),
            sampler=SamplerWithoutReplacement(drop_last=False),
            batch_size=cfg.minibatch // accounts,
        )

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Improve the policy on one rollout [..., paths, accounts, T].

        Returns:
            Means over the minibatches, scalars on the device: losses, approximate KL divergence,
            clip fraction, entropies, gradient norm.

        Raises:
            RuntimeError: if a gradient is not finite; the parameters are then unchanged.
        """
        bootstrap(batch, self.critic)
        self.advantage(batch)
        keys = [*self.loss.in_keys, "advantage", "value_target", "state_value"]
        items = path_times(batch.select(*keys, strict=False))
        self.buffer.empty()
        self.buffer.extend(items)
        stats: list[dict[str, Tensor]] = []
        for _ in range(self.cfg.epochs):
            epoch = [self.step(minibatch) for minibatch in self.buffer]
            stats += epoch
            if self.cfg.target_kl is not None and _mean_kl(epoch) > self.cfg.target_kl:
                break
        means = {key: torch.stack([s[key] for s in stats]).mean() for key in stats[0]}
        means["train/explained_variance"] = _explained_variance(batch)
        means["train/learning_rate"] = torch.tensor(
            self.scheduler.get_last_lr()[0], dtype=torch.float64
        )
        self.scheduler.step()
        return means

    def step(self, minibatch: TensorDictBase) -> dict[str, Tensor]:
        """One gradient step on items [B, accounts]."""
        with mixed(self.cfg.precision, self.device):
            out = self.loss(minibatch)
        total = out["loss_objective"] + out["loss_entropy"] + out["loss_critic"]
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(
            self.loss.parameters(), self.cfg.max_grad_norm, error_if_nonfinite=True
        )
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
        entropies = out["composite_entropy"]["action"].items()
        scalars |= {f"entropy_{key.removesuffix('_entropy')}": value for key, value in entropies}
        return {f"train/{name}": value.detach().mean() for name, value in scalars.items()}


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


def _explained_variance(batch: TensorDictBase) -> Tensor:
    """1 - Var[target - value] / Var[target]: 1 is a perfect critic, 0 one that knows the mean."""
    target, value = batch["value_target"], batch["state_value"]
    return 1.0 - (target - value).var() / target.var().clamp_min(1e-12)
