"""What turns a rollout into a better policy: advantages, minibatches, the clipped update."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.data.replay_buffers.samplers import SamplerWithoutReplacement
from torchrl.modules import ActorValueOperator

from envs.checks import require
from envs.ledger import HEADS
from modules.heads import ValueHead
from modules.path_encoder import PathEncoder
from modules.policy import policy_after_market
from pipelines.advantage import Advantage, sequences
from pipelines.cuda_graph import CudaGraph
from pipelines.loss import PolicyLoss
from pipelines.loss_config import LossConfig
from pipelines.non_finite import find_non_finite, refuse_non_finite, tensors_of
from pipelines.non_finite_error import NonFiniteError
from pipelines.precision import MixedPrecision, mixed
from pipelines.train_config import TrainConfig, check_minibatch

_LOSSES = ("loss_objective", "loss_entropy", "loss_critic")


class GuardedAdamW(torch.optim.AdamW):
    """AdamW whose steps change nothing, not even their count, while `found_inf` is 1.

    So a number that is none is kept out without asking the device at every step, which would
    stall it. The fused kernel honours the attribute (torch.amp's gradient scaler sets it).
    """

    found_inf: Tensor


class Learner:
    """Clipped policy updates on the rollouts of one policy.

    A model of `modules.policy` is encoded outside the loss, once for all accounts of a path and in
    one pass where the encoder streams; the loss begins at ``market_state``, and its gradient goes
    on into the encoder. The loss of a network of one's own runs all of it.

    Args:
        model: actor and critic on one trunk.
        cfg: the hyper-parameters.
        loss_cfg: the objective's.
        lanes: lanes of a rollout.
        accounts: lanes that share a path, the last batch dimension of an item.
        iterations: updates that the learning-rate schedule spans.
        sequence: consecutive bars of an item, from `pipelines.train_config.sequence_length`.
        hindsight: a critic that sees the future (`modules.hindsight`), as the rollouts' policy
            has it; None: the model's own critic is the baseline.

    Raises:
        ValueError: for a minibatch that whole sequences cannot fill, or of more frames than a
            rollout; for a `path_baseline` with one account on a path.

    Attributes:
        epochs_done: of the last update.
        encode: states of the market for int64 [N, C] pointers, compiled if `cfg` says so; None for
            a network of one's own.
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
        sequence: int = 1,
        hindsight: TensorDictModuleBase | None = None,
    ) -> None:
        check_minibatch(cfg, accounts=accounts, lanes=lanes, sequence=sequence)
        self.cfg, self.sequence, self.frames = cfg, sequence, cfg.steps * lanes
        self.device = next(model.parameters()).device
        self.is_compiled = self.device.type == "cuda" if cfg.compile is None else cfg.compile
        self.encode, actor = PathEncoder.find(model), model.get_policy_operator()
        if self.encode is not None:
            actor = policy_after_market(model)
            if self.is_compiled:
                self.encode = cast(PathEncoder, torch.compile(self.encode, dynamic=False))
        self.loss = PolicyLoss(actor, model.get_value_head(), loss_cfg, hindsight)
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
        modules = nn.ModuleList([model] if hindsight is None else [model, hindsight])
        self.parameters = dict(modules.named_parameters())
        self.optimizer = GuardedAdamW(
            self.parameters.values(),
            lr=cfg.lr,
            eps=1e-5,
            weight_decay=cfg.weight_decay,
            fused=True,
        )
        self.optimizer.found_inf = torch.zeros((), device=self.device)
        self.is_graphed = self.device.type == "cuda" and cfg.cuda_graph and self.encode is not None
        self._differentiate: Callable[[TensorDictBase], dict[str, Tensor]] = self.differentiate
        if self.is_graphed:
            self._differentiate = CudaGraph(
                self.differentiate, self.device, self.parameters.values()
            )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, partial(_lr_factor, cfg.lr_schedule, iterations)
        )
        self.buffer = TensorDictReplayBuffer(
            storage=LazyTensorStorage(self.frames // (accounts * sequence), device=self.device),
            sampler=SamplerWithoutReplacement(drop_last=False),
            batch_size=cfg.minibatch // (accounts * sequence),
        )

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Improve the policy on one rollout [..., paths, accounts, T].

        Returns:
            Means over the minibatches, scalars on the device: losses, approximate KL divergence,
            clip fraction, entropies, gradient norm.

        Raises:
            ValueError: if it has more frames than a rollout of `cfg`: the rest would be lost.
            NonFiniteError: if an observation, a reward, an advantage, a return, a loss or a
                gradient is not finite; no step is then taken.
        """
        allowed = f"at most {self.frames} frames, train.steps={self.cfg.steps} on every lane"
        require(batch.numel() <= self.frames, "rollout", batch.numel(), allowed)
        refuse_non_finite(batch, ["account", ("next", "account"), ("next", "reward")])
        self.advantage(batch)
        refuse_non_finite(batch, ["advantage", "value_target"])
        for head in self.value_heads:
            head.track(batch["value_target"])
            self.loss.value_scale.copy_(head.scale)
        self.optimizer.found_inf.zero_()
        self.buffer.empty()
        self.buffer.extend(self.items(batch))
        stats: list[dict[str, Tensor]] = []
        self.epochs_done = 0
        for _ in range(self.cfg.epochs):
            self.epochs_done += 1
            minibatches, epoch = [], []
            for minibatch in self.buffer:  # drawn while a GPU still computes the one before
                minibatches.append(minibatch)
                epoch.append(self.step(minibatch))
            self._refuse_broken(minibatches, epoch)
            stats += epoch
            if self.cfg.target_kl is not None and _mean_kl(epoch) > self.cfg.target_kl:
                break
        means = _means(stats)
        means["train/explained_variance"] = _explained_variance(batch, self.loss.value_key)
        means["train/learning_rate"] = torch.tensor(
            self.scheduler.get_last_lr()[0], dtype=torch.float64
        )
        self.scheduler.step()
        return means

    def reschedule(self, state: Mapping[str, Any], iterations: int) -> None:
        """Go on where the schedule of learning rates stood, with this configuration's own rates.

        Args:
            state: of the scheduler that was left; its position counts, its rates do not.
            iterations: updates that the schedule spans.
        """
        scheduler = self.scheduler
        rates = scheduler.base_lrs
        scheduler.load_state_dict(dict(state))
        scheduler.base_lrs = rates
        scheduler.lr_lambdas = [partial(_lr_factor, self.cfg.lr_schedule, iterations)]
        factor = scheduler.lr_lambdas[0](scheduler.last_epoch)
        scheduler._last_lr = [rate * factor for rate in rates]
        for group, rate in zip(self.optimizer.param_groups, scheduler._last_lr, strict=True):
            group |= {"lr": rate, "initial_lr": self.cfg.lr, "weight_decay": self.cfg.weight_decay}

    def items(self, batch: TensorDictBase) -> TensorDictBase:
        """What minibatches are drawn from: [sequences, bars of a sequence, accounts].

        Args:
            batch: rollout [..., paths, accounts, T].

        Raises:
            ValueError: if a path jumps within a sequence, so that its bars are not consecutive.
        """
        bar = sequences(batch.select("bar"), self.sequence)["bar"]
        if self.sequence > 1 and (bar.diff(dim=1) != 1).any():
            raise ValueError(f"an episode ends within a sequence of {self.sequence} bars")
        return sequences(batch.select("bar", *self.loss.batch_keys, strict=False), self.sequence)

    def losses(self, minibatch: TensorDictBase) -> TensorDictBase:
        """Encode and evaluate; what `PolicyLoss` says of items [N, C, accounts]."""
        with mixed(self.cfg.precision, self.device):
            items = minibatch.flatten(0, 1)
            if self.encode is not None:
                states = self.encode(minibatch["bar"][..., 0, 0]).flatten(0, 1)
                items.set("market_state", states[:, None].expand(*items.batch_size, -1))
            return self.loss(items)

    def step(self, minibatch: TensorDictBase) -> dict[str, Tensor]:
        """One gradient step on items [N, C, accounts]; none after a number that is none."""
        stats = self._differentiate(minibatch)
        self.optimizer.step()
        return stats

    def differentiate(self, minibatch: TensorDictBase) -> dict[str, Tensor]:
        """Clipped gradients of the parameters, and what there is to say of them; no step."""
        out = self.losses(minibatch)
        total = _total(out)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = get_total_norm(gradients)
        broken = (~(total + norm).isfinite()).float()
        self.optimizer.found_inf.copy_(torch.maximum(self.optimizer.found_inf, broken))
        clip_grads_with_norm_(self.parameters.values(), self.cfg.max_grad_norm, norm)
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

    def _refuse_broken(
        self, minibatches: list[TensorDictBase], epoch: list[dict[str, Tensor]]
    ) -> None:
        """Say which loss or gradient was no number first; the optimiser has not seen it."""
        if not self.optimizer.found_inf:
            return
        totals = torch.stack([stats["train/loss"] + stats["train/grad_norm"] for stats in epoch])
        minibatch = minibatches[int((~totals.isfinite()).nonzero()[0])]
        out = self.losses(minibatch)  # once more, under the weights that it was met with
        self.optimizer.zero_grad(set_to_none=True)
        _total(out).backward()
        losses = {f"loss {key}": out[key] for key in _LOSSES}
        gradients = {
            f"gradient of {name}": parameter.grad
            for name, parameter in self.parameters.items()
            if parameter.grad is not None
        }
        place = find_non_finite(losses | gradients) or "non-finite sum of losses and gradients"
        raise NonFiniteError(place, tensors_of(minibatch) | losses | gradients)


def _total(out: TensorDictBase) -> Tensor:
    return torch.stack([out[key] for key in _LOSSES]).sum()


def _means(stats: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Over the minibatches; an entropy counts as its head was used in them, in some perhaps not."""
    columns = {key: torch.stack([each[key] for each in stats]) for key in stats[0]}
    for head in HEADS:
        share = columns.pop(f"train/used_{head}", None)
        if share is not None:
            columns[f"train/entropy_{head}"] *= share / (share.mean() + 1e-9)
    return {key: column.mean() for key, column in columns.items()}


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
