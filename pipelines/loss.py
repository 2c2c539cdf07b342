"""What an update minimises: TorchRL's clipped loss, for a market's action heads and rewards."""

import functools

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import (
    CompositeDistribution,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
    TensorDictModuleBase,
    TensorDictParams,
    TensorDictSequential,
)
from torch import Tensor
from torchrl.objectives import ClipPPOLoss

from envs.ledger import HEADS
from pipelines.loss_config import LossConfig

HEAD_USED = ("next", "head_used")


class PolicyLoss(ClipPPOLoss):
    r"""ClipPPOLoss in which an unused head says nothing, and values are counted in deviations.

    The simulator ignores size, stop and target of an account that stays flat or holds on, and the
    direction of one whose position the open has closed. Such a choice changed nothing, so that its
    score times an advantage is noise around 0: with `mask_unused_heads` its log-ratio and its
    entropy count as 0. What the ratio of the others is clipped by stays the same.

    The distance of a value to its target, and `clip_value`, are divided by the scale of the value
    head: the loss does not depend on the units of the reward.

    Args:
        actor: the policy operator, or its part from ``market_state`` on.
        value_head: the model's critic, on the state that the actor writes.
        cfg: the coefficients.
        hindsight: a critic that sees the future; its value is then the baseline, and the model's
            own is regressed to the same targets beside it.
    """

    def __init__(
        self,
        actor: ProbabilisticTensorDictSequential,
        value_head: TensorDictModule,
        cfg: LossConfig,
        hindsight: TensorDictModuleBase | None = None,
    ) -> None:
        super().__init__(
            actor,
            value_head if hindsight is None else TensorDictSequential(value_head, hindsight),
            clip_epsilon=cfg.clip_epsilon,
            critic_coeff=cfg.value_coeff,
            entropy_coeff={
                ("action", f"{head}_entropy"): coeff for head, coeff in cfg.entropy_coeff.items()
            },
            normalize_advantage=cfg.normalize_advantage,
            loss_critic_type="l2",
        )
        # torchrl would put it on the device, and ask there whether it is 0, twice a step.
        self.clip_value = cfg.clip_value
        self.mask_unused_heads = cfg.mask_unused_heads
        self.entropy_coeff_of = {head: cfg.entropy_coeff[head] for head in HEADS}
        self.has_hindsight = hindsight is not None
        self.set_keys(value="hindsight_value" if self.has_hindsight else "state_value")
        # A number on the host would be written into a CUDA graph for good.
        ones = torch.ones((), device=next(value_head.parameters()).device)
        self.register_buffer("value_scale", ones, persistent=False)

    @property
    def value_key(self) -> str:
        """The baseline of the advantages."""
        return self.tensor_keys.value

    @property
    def batch_keys(self) -> list[NestedKey]:
        """What a minibatch must hold."""
        keys = [*self.in_keys, "advantage", "value_target", self.value_key]
        return [*keys, HEAD_USED] if self.mask_unused_heads else keys

    def _get_cur_log_prob(
        self, tensordict: TensorDictBase, params: TensorDictParams | None = None
    ) -> tuple[TensorDictBase, CompositeDistribution, bool]:
        """Log-probabilities of the heads; that of an unused head is the stored one, a constant."""
        log_prob, dist, is_composite = super()._get_cur_log_prob(tensordict, params)
        if self.mask_unused_heads:
            dist.head_used = tensordict[HEAD_USED]
            for i, head in enumerate(HEADS):
                key = ("action", f"{head}_log_prob")
                used = dist.head_used[..., i]
                log_prob[key] = torch.where(used, log_prob[key], tensordict[key])
        return log_prob, dist, is_composite

    def _get_entropy(self, dist: CompositeDistribution, adv_shape: torch.Size) -> TensorDictBase:
        """Entropies [B, K, 1] of the heads; that of an unused head is 0.

        torchrl asks the device whether each of them is finite, which stalls a GPU at every step.
        """
        entropies = {}
        for i, head in enumerate(HEADS):
            entropy = dist.dists["action", head].entropy()[..., None]
            if self.mask_unused_heads:
                entropy = entropy * dist.head_used[..., i, None]
            entropies[f"{head}_entropy"] = entropy
        heads = TensorDict(entropies, adv_shape)
        return TensorDict({"action": heads}, adv_shape)

    def _weighted_loss_entropy(self, entropy: TensorDictBase) -> Tensor:
        """Weighted and summed; torchrl sends every coefficient to the device at every step."""
        terms = (
            -coeff * entropy["action", f"{head}_entropy"]
            for head, coeff in self.entropy_coeff_of.items()
        )
        return functools.reduce(torch.add, terms)

    def loss_critic(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor | None, Tensor]:
        """Loss of the baseline; with hindsight the model's own value is added, for who replays."""
        loss, *rest = super().loss_critic(tensordict)
        if self.has_hindsight:
            miss = (tensordict["state_value"] - tensordict["value_target"]) / self.value_scale
            loss = loss + self.critic_coeff * miss.square()
        return loss, *rest

    def _critic_loss_inputs(
        self, target_return: Tensor, state_value: Tensor, old_state_value: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Counted in standard deviations of the returns."""
        old = None if old_state_value is None else old_state_value / self.value_scale
        return target_return / self.value_scale, state_value / self.value_scale, old

    def entropies(self, out: TensorDictBase, minibatch: TensorDictBase) -> dict[str, Tensor]:
        """Mean entropy of every head, over the items in which it was used, and their share."""
        means = {}
        for i, head in enumerate(HEADS):
            entropy = out["composite_entropy", "action", f"{head}_entropy"]
            means[f"entropy_{head}"] = entropy.mean()
            if self.mask_unused_heads:
                share = minibatch[HEAD_USED][..., i].float().mean()
                means[f"entropy_{head}"] /= share + 1e-9
                means[f"used_{head}"] = share
        return means
