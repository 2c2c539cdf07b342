"""How much better an action was than the policy's average one."""

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.objectives.value import GAE

from envs.checks import require


class Advantage:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438) on stored values.

    Args:
        critic: writes `value_key` for a batch [..., accounts] of states.
        value_key: of the baseline, written in the rollout already.
        gamma: discount of a step.
        lmbda: weight of a longer look ahead against the critic's word.
        path_baseline: whether to take from an advantage the mean of the other accounts' on the
            same path at the same time. They share the market's luck and choose independently of
            each other, so that the policy gradient stays unbiased.
    """

    def __init__(
        self,
        critic: TensorDictModuleBase,
        value_key: str,
        *,
        gamma: float,
        lmbda: float,
        path_baseline: bool,
    ) -> None:
        self.critic = critic
        self.value_key = value_key
        self.path_baseline = path_baseline
        self.gae = GAE(gamma=gamma, lmbda=lmbda, value_network=None)
        self.gae.set_keys(value=value_key)

    def __call__(self, batch: TensorDictBase) -> None:
        """Write ``advantage`` and ``value_target`` [..., 1] into a rollout [..., K, T]."""
        bootstrap(batch, self.critic, self.value_key)
        self.gae(batch)
        if self.path_baseline:
            batch["advantage"] = less_the_others(batch["advantage"], dim=-3)


def less_the_others(advantage: torch.Tensor, dim: int) -> torch.Tensor:
    """Each entry less the mean of the other entries along `dim`, of which there must be some."""
    count = advantage.shape[dim]
    require(count > 1, "accounts", count, "at least 2 on a path for a baseline across them")
    return (advantage - advantage.mean(dim, keepdim=True)) * (count / (count - 1))


@torch.no_grad()
def bootstrap(
    batch: TensorDictBase, critic: TensorDictModuleBase, key: str = "state_value"
) -> None:
    r"""Write the value of every next state, from stored values wherever they exist.

    Within an episode the next state's value is the one stored a step later. Only states that the
    collector left without acting on them, the rollout's last and those at which a path was
    truncated, go through the network. A terminated lane's entry has no meaning and no effect.

    Args:
        batch: rollout [..., paths, accounts, T] with the values [..., 1] and the next state.
        critic: writes the values for batches [..., accounts].
        key: of the values.
    """
    value = batch[key]
    following = torch.cat([value[..., 1:, :], torch.zeros_like(value[..., :1, :])], -2)
    unseen = batch["next", "truncated"].squeeze(-1).any(-2)  # [..., paths, T]
    unseen[..., -1] = True
    states = path_times(batch["next"].select(*critic.in_keys))[unseen.reshape(-1)]
    by_path = following.movedim(-2, -3).flatten(0, -3)  # [path-times, accounts, 1]
    by_path[unseen.reshape(-1)] = critic(states)[key].to(value.dtype)
    time_shape = following.movedim(-2, -3).shape
    batch["next", key] = by_path.view(time_shape).movedim(-3, -2)


def path_times(batch: TensorDictBase) -> TensorDictBase:
    """A rollout [..., paths, accounts, T] as items [path-times, accounts]."""
    return sequences(batch, 1).flatten(0, 1)


def sequences(batch: TensorDictBase, length: int) -> TensorDictBase:
    """A rollout [..., paths, accounts, T] as items [sequences, length, accounts].

    An item is one path at `length` consecutive times with all its accounts, so that a shuffle of
    items keeps together what is encoded together.

    Args:
        batch: the rollout.
        length: a divisor of T.
    """
    order = [*range(batch.ndim - 2), batch.ndim - 1, batch.ndim - 2]
    items = batch.permute(*order).unflatten(-2, (batch.shape[-1] // length, length))
    return items.flatten(0, -3)
