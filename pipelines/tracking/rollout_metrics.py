"""What a rollout was like: scalars, and how often each action was taken."""

import torch
from tensordict import TensorDictBase
from torch import Tensor


def rollout_metrics(rollout: TensorDictBase) -> dict[str, Tensor]:
    """What the episodes of a rollout were like, under the names of stable-baselines3.

    Args:
        rollout: [..., T] with ``episode_reward``, ``step_count``, ``terminated`` and ``truncated``,
            each [..., T, 1], in ``next``.

    Returns:
        Scalars. Means over the episodes that ended within the rollout; none if none did.
    """
    after = rollout["next"]
    metrics = {"rollout/reward_mean": after["reward"].mean()}
    done = after["terminated"] | after["truncated"]
    if done.any():
        metrics["rollout/ep_rew_mean"] = after["episode_reward"][done].mean()
        metrics["rollout/ep_len_mean"] = after["step_count"][done].double().mean()
        metrics["rollout/ruin_share"] = after["terminated"][done].double().mean()
    return metrics


def action_counts(rollout: TensorDictBase, choices: dict[str, int]) -> dict[str, list[int]]:
    """How often each index of each head was taken.

    Args:
        rollout: with ``("action", head)``, integers.
        choices: indices of each head.

    Returns:
        Counts by ``actions/<head>``, of which each list sums to the frames of the rollout.
    """
    counts = [
        torch.bincount(rollout["action", head].flatten(), minlength=number)
        for head, number in choices.items()
    ]
    flat = iter(torch.cat(counts).tolist())  # one transfer
    return {f"actions/{head}": [next(flat) for _ in range(n)] for head, n in choices.items()}
