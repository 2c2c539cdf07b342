"""Training as a whole: repeatable, indifferent to the reward's units, no shared luck."""

import dataclasses
import math

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from envs.config import EnvConfig
from envs.factory import make_env
from modules.config import ModelConfig
from modules.heads import ActionHeads
from pipelines import training as training_module
from pipelines.config import RunConfig
from pipelines.loss_config import LossConfig
from pipelines.model import make_model
from pipelines.train_config import TrainConfig
from pipelines.training import Training
from random_walk import fine_table

ENV = EnvConfig(paths=6, accounts=2, workers=0, window=8, episode_bars=20, tick_size=0.01)
SMALL = {"d_model": 16, "ff_dim": 16, "account_dim": 8, "features_dim": 16, "num_heads": 2}
MODELS = {
    "mlp": ModelConfig(encoder="mlp", num_layers=2, **SMALL),
    "transformer": ModelConfig(num_layers=1, num_context_blocks=1, context_ff_dim=16, **SMALL),
    "streaming": ModelConfig(
        encoder="streaming", num_layers=1, num_context_blocks=1, context_ff_dim=16, **SMALL
    ),
}


def make_training(seed=0, env=ENV, encoder="mlp", loss=None, **changes):
    """A training of three iterations."""
    cfg = RunConfig(
        seed=seed,
        total_frames=3 * 16 * env.lanes,
        env=env,
        model=MODELS[encoder],
        train=TrainConfig(**{"steps": 16, "epochs": 2, "minibatch": 48, **changes}),
        loss=loss or LossConfig(),
    )
    torch.manual_seed(seed)
    table = fine_table(600)
    market = make_env(table, env, record_fills=False, seed=seed)
    model = make_model(cfg.model, env, table)
    return Training(cfg, table, market, model)


def train(**changes):
    """Weights, last statistics and first bars of a training, see `make_training`."""
    training = make_training(**changes)
    bars = []
    for iteration in training:
        bars.append(iteration.rollout["bar"][..., 0, 0, 0].clone())
    training.close()
    return training.model.state_dict(), iteration.stats, torch.stack(bars)


VARIANTS = {
    "plain": {},
    "hindsight": {"hindsight_bars": 4},
    "path baseline": {"path_baseline": True},
    "both": {"hindsight_bars": 4, "path_baseline": True, "target_kl": 0.5},
}


# The encoders draw their weights, the variants critics and baselines: apart, and once together.
@pytest.mark.parametrize(
    ("variant", "encoder"),
    [("plain", encoder) for encoder in MODELS]
    + [("hindsight", "mlp"), ("path baseline", "mlp"), ("both", "streaming")],
)
def test_the_same_seed_gives_the_same_numbers_and_another_does_not(variant, encoder):
    one, stats, _ = train(encoder=encoder, **VARIANTS[variant])
    two, again, _ = train(encoder=encoder, **VARIANTS[variant])
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    assert all(float(again[k]) == float(v) for k, v in stats.items() if k.startswith("train/"))
    other, _, _ = train(seed=1, encoder=encoder, **VARIANTS[variant])
    assert not all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_units_of_the_reward_change_no_policy(variant):
    """Powers of two scale floating-point numbers exactly, so that equal means equal."""
    small, _, _ = train(env=dataclasses.replace(ENV, reward_scale=32.0), **VARIANTS[variant])
    large, _, _ = train(env=dataclasses.replace(ENV, reward_scale=4096.0), **VARIANTS[variant])
    policy = [key for key in small if "value" not in key and "moments" not in key]
    heads = [k for k in policy if not k.endswith((".loc", ".scale")) or "window" in k]
    for key in heads:
        torch.testing.assert_close(small[key], large[key], atol=1e-5, rtol=1e-4, msg=key)


@pytest.mark.parametrize("minibatch", [4, 48])
def test_the_entropy_of_a_head_that_is_seldom_used_is_not_that_of_none(minibatch):
    """Most minibatches of 4 frames open no position; four equal sizes have log 4 all the same."""
    training = make_training(minibatch=minibatch, epochs=1, lr=1e-12)
    with torch.no_grad():
        heads = next(m for m in training.model.modules() if isinstance(m, ActionHeads))
        heads.linear.bias[1] += 4.5  # flat
    iteration = next(iter(training))
    training.close()
    used = iteration.rollout["next", "head_used"][..., 1].float().mean()
    assert 0.0 < used < 0.1
    assert float(iteration.stats["train/entropy_size"]) == pytest.approx(math.log(4.0), abs=1e-3)
    assert not any(name.startswith("train/used") for name in iteration.stats)


def test_a_sequence_in_which_a_running_episode_ends_is_refused_before_anything_is_collected():
    """Half of an episode is behind it: what is left is no whole sequence of the new length."""
    before = make_training(encoder="streaming", steps=10, minibatch=60)
    next(iter(before))
    snapshot = before.snapshot()
    before.close()
    after = make_training(encoder="streaming", steps=20, minibatch=120)
    with pytest.raises(ValueError, match=r"train\.sequence=20 .* a divisor of 10: the episodes"):
        after.restore(snapshot.tensors, snapshot.values)
    after.restore(snapshot.tensors, snapshot.values, begins_episodes=True)
    rollout = next(iter(after)).rollout
    after.close()
    assert rollout["next", "truncated"][..., -1, 0].all()


def test_paths_and_seeds_walk_on_other_bars():
    _, _, bars = train()
    assert len(bars[0].unique()) > 1
    _, _, other = train(seed=1)
    assert not torch.equal(bars, other)


def test_every_iteration_tells_its_losses_and_its_speed():
    _, stats, _ = train(hindsight_bars=4)
    assert {"train/loss", "train/value_loss", "train/entropy_size"} <= set(stats)
    assert {"time/sps", "time/sps_collect", "time/sps_train"} <= set(stats)
    assert {"perf/gflops", "perf/peak_share"} <= set(stats)
    assert stats["time/sps"] < min(stats["time/sps_collect"], stats["time/sps_train"])
    assert all(torch.isfinite(torch.as_tensor(value)) for value in stats.values())


@pytest.mark.parametrize(("timed", "most"), [([1e9, 4e9], [1, 4, 4]), ([4e9, 1e9], [4, 4, 4])])
def test_a_share_is_of_the_highest_peak_so_far(timed, most, monkeypatch):
    """A peak that was timed beside other work is too low, and its shares are above 1."""
    peaks = iter(timed)
    monkeypatch.setattr(training_module, "peak_flops", lambda *_: next(peaks))
    training = make_training()
    each = [iteration.stats for iteration in training]
    training.close()
    shares = [stats["perf/gflops"] / stats["perf/peak_share"] for stats in each]
    assert shares == pytest.approx(most)


def test_the_critics_of_hindsight_and_of_the_model_both_learn():
    training = make_training(hindsight_bars=4)
    critics = {"model": training.model.get_value_head(), "hindsight": training.hindsight}
    before = {name: parameters_to_vector(each.parameters()) for name, each in critics.items()}
    list(training)
    training.close()
    for name, critic in critics.items():
        moved = parameters_to_vector(critic.parameters()) != before[name]
        assert moved.float().mean() > 0.9, name
