"""What a rollout was like, against rollouts of a few steps."""

import pytest
import torch
from tensordict import TensorDict

from pipelines.tracking.rollout_metrics import action_counts, rollout_metrics


def test_rollout_metrics_are_means_over_the_episodes_that_ended():
    flag = torch.zeros(2, 3, 1, dtype=torch.bool)
    terminated, truncated = flag.clone(), flag.clone()
    terminated[0, 1] = truncated[1, 2] = True
    after = {
        "reward": torch.full((2, 3, 1), 0.5),
        "episode_reward": torch.tensor([[1.0, 2.0, 9.0], [9.0, 9.0, 6.0]]).unsqueeze(-1),
        "step_count": torch.tensor([[1, 2, 1], [5, 6, 7]]).unsqueeze(-1),
        "terminated": terminated,
        "truncated": truncated,
    }
    rollout = TensorDict({"next": TensorDict(after, [2, 3])}, [2, 3])
    got = {name: value.item() for name, value in rollout_metrics(rollout).items()}
    assert got == {
        "rollout/reward_mean": 0.5,
        "rollout/ep_rew_mean": 4.0,
        "rollout/ep_len_mean": 4.5,
        "rollout/ruin_share": 0.5,
    }
    rollout["next", "terminated"].zero_()
    rollout["next", "truncated"].zero_()
    assert set(rollout_metrics(rollout)) == {"rollout/reward_mean"}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_actions_are_counted_for_every_choice_of_every_head(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    heads = {"direction": torch.tensor([[0, 2, 2], [2, 0, 2]]), "size": torch.zeros(2, 3).long()}
    rollout = TensorDict({"action": TensorDict(heads, [2, 3])}, [2, 3]).to(device)
    assert action_counts(rollout, {"direction": 3, "size": 4}) == {
        "actions/direction": [2, 0, 4],
        "actions/size": [6, 0, 0, 0],
    }
