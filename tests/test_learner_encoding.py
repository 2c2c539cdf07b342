"""The market is encoded outside the loss: same losses, same gradients, whatever the encoder."""

import dataclasses

import pytest
import torch
from tensordict import TensorDict

from envs.config import EnvConfig
from envs.factory import make_env
from pipelines.advantage import path_times, sequences
from pipelines.config import RunConfig
from pipelines.loss import PolicyLoss
from pipelines.model import make_model
from pipelines.non_finite_error import NonFiniteError
from pipelines.train_config import TrainConfig, sequence_length
from pipelines.training import Training
from random_walk import fine_table
from small_networks import ENCODERS

ENV = EnvConfig(paths=6, accounts=2, workers=0, window=8, episode_bars=20, tick_size=0.01)
LOSSES = ("loss_objective", "loss_critic", "loss_entropy")


def make_training(encoder, env=ENV, iterations=1, **changes):
    table = fine_table(600)
    cfg = RunConfig(
        total_frames=iterations * 40 * env.lanes,
        env=env,
        model=ENCODERS[encoder],
        train=TrainConfig(**{"steps": 40, "epochs": 1, "minibatch": 80, **changes}),
    )
    torch.manual_seed(0)
    market = make_env(table, env, record_fills=False)
    return Training(cfg, table, market, make_model(cfg.model, env, table))


@pytest.fixture(params=ENCODERS)
def trained(request):
    """A training after an iteration, whose policy and critic are no longer where they started."""
    training = make_training(request.param)
    (iteration,) = training
    yield training, iteration.rollout
    training.close()


def total(out):
    return torch.stack([out[key] for key in LOSSES]).sum()


def test_losses_and_gradients_are_those_of_the_whole_graph(trained):
    training, rollout = trained
    learner, model = training.learner, training.model
    whole = PolicyLoss(model.get_policy_operator(), model.get_value_head(), RunConfig().loss)
    whole.value_scale.copy_(learner.loss.value_scale)
    results = []
    for out in (
        learner.losses(learner.items(rollout)),
        whole(path_times(rollout.select(*whole.batch_keys, strict=False))),
    ):
        model.zero_grad()
        total(out).backward()
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        results.append(({key: out[key].detach() for key in LOSSES}, gradients))
    (losses, gradients), (expected, expected_gradients) = results
    for key in LOSSES:
        torch.testing.assert_close(losses[key], expected[key], atol=1e-5, rtol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        scale = float(expected_gradients[name].abs().max())
        torch.testing.assert_close(
            gradient, expected_gradients[name], atol=1e-4 * scale + 1e-8, rtol=1e-3, msg=name
        )


@pytest.mark.parametrize(("precision", "near"), [("float32", 1e-5), ("bfloat16", 5e-3)])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_first_minibatch_has_ratio_one(encoder, precision, near):
    training = make_training(encoder, minibatch=480, precision=precision)
    training.policy.announce(40)
    rollout = next(iter(training.collector))
    training.learner.advantage(rollout)
    out = training.learner.losses(training.learner.items(rollout))
    assert abs(float(out["max_ratio"]) - 1.0) < near
    training.close()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_item_is_a_path_at_consecutive_times_with_its_accounts(encoder):
    training = make_training(encoder)
    training.policy.announce(40)
    rollout = next(iter(training.collector)).clone()
    training.learner.advantage(rollout)
    items = training.learner.items(rollout)
    length = 20 if encoder == "streaming" else 1
    assert items.batch_size == (6 * 40 // length, length, 2)
    assert (items["bar"] == items["bar"][:, :, :1]).all()
    assert (items["bar"].diff(dim=1) == 1).all()
    torch.testing.assert_close(items["bar"][:40].flatten(0, 1)[:40, 1], rollout["bar"][0, 1])
    training.close()


def test_sequences_keep_workers_paths_and_times_apart():
    batch = TensorDict({"x": torch.arange(2 * 3 * 2 * 8).view(2, 3, 2, 8)}, [2, 3, 2, 8])
    items = sequences(batch, 4)["x"]
    assert items.shape == (2 * 3 * 2, 4, 2)
    assert torch.equal(items[0], batch["x"][0, 0, :, :4].T)
    assert torch.equal(items[1], batch["x"][0, 0, :, 4:].T)
    assert torch.equal(items[-1], batch["x"][1, 2, :, 4:].T)


def test_a_path_that_jumps_within_a_sequence_is_refused():
    training = make_training("streaming")
    (iteration,) = training
    rollout = iteration.rollout
    rollout["bar"][0, :, 5:] += 1
    with pytest.raises(ValueError, match="ends within a sequence of 20 bars"):
        training.learner.items(rollout)
    training.close()


@pytest.mark.parametrize("encoder", ["transformer", "streaming"])
def test_nothing_is_trained_after_a_number_that_is_none(encoder):
    """The minibatches before it count, those after it do not, and it is the one that is named."""
    training = make_training(encoder)
    (iteration,) = training
    learner, rollout = training.learner, iteration.rollout
    steps = []
    step = learner.step

    def spoiled(minibatch):
        if len(steps) == 2:
            minibatch["advantage"][0, 0, 0] = torch.nan
        state = {k: v.clone() for k, v in training.model.state_dict().items()}
        steps.append((state, step(minibatch)))
        return steps[-1][1]

    learner.step = spoiled
    with pytest.raises(NonFiniteError, match=r"non-finite loss loss_objective = nan"):
        learner.update(rollout)
    assert len(steps) == 6
    (first, _), (second, _), (third, _), *_ = steps
    after = training.model.state_dict()
    name = "module.0.module.account.module.linear.weight"
    assert not torch.equal(first[name], second[name])
    assert not torch.equal(second[name], third[name])
    assert all(torch.equal(value, third[key]) for key, value in after.items())
    training.close()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize("encoder", ["transformer", "streaming"])
def test_a_compiled_update_has_the_losses_of_a_plain_one(encoder):
    stats = []
    for compiled in (False, True):
        training = make_training(encoder, compile=compiled)
        (iteration,) = training
        stats.append({k: float(v) for k, v in iteration.stats.items() if k.startswith("train/")})
        training.close()
    plain, fused = stats
    assert fused == pytest.approx(plain, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "length"),
    [({}, 16), ({"sequence": 8}, 8), ({"sequence": 1}, 1), ({"steps": 480}, 240)],
)
def test_a_sequence_is_the_longest_that_never_spans_two_episodes(changes, length):
    cfg = TrainConfig(**{"steps": 4096, **changes})
    assert sequence_length(cfg, "streaming", 240) == length
    if cfg.sequence in (None, 1):
        assert sequence_length(cfg, "transformer", 240) == 1
    else:
        with pytest.raises(ValueError, match=r"train\.sequence=8 is not allowed: null or 1"):
            sequence_length(cfg, "transformer", 240)


def test_a_sequence_across_episodes_is_refused():
    cfg = RunConfig(env=ENV, train=TrainConfig(steps=40, minibatch=480))
    with pytest.raises(ValueError, match=r"train\.sequence=12 is not allowed: a divisor of 20"):
        dataclasses.replace(
            cfg,
            model=ENCODERS["streaming"],
            train=TrainConfig(steps=40, sequence=12, minibatch=240),
        )
    with pytest.raises(
        ValueError, match=r"train\.minibatch=30 .* env.accounts=2 times the 20 bars"
    ):
        dataclasses.replace(
            cfg, model=ENCODERS["streaming"], train=TrainConfig(steps=40, minibatch=30)
        )
