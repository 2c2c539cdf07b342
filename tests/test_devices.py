"""The line from rollout to update on every device: what a GPU does is what a CPU does."""

import dataclasses

import pytest
import torch
from torchrl.envs.utils import ExplorationType, set_exploration_type

from envs.config import EnvConfig
from envs.factory import make_env
from envs.ledger import HEADS
from modules.live import LiveMarket
from modules.path_encoder import PathEncoder
from modules.policy import market_encoder
from pipelines.config import RunConfig
from pipelines.held_out.rollout import play_tiles, split_tiles
from pipelines.held_out.ties import partings
from pipelines.learner import Learner
from pipelines.loss_config import LossConfig
from pipelines.model import make_model
from pipelines.rollout_policy import RolloutPolicy
from pipelines.train_config import TrainConfig
from pipelines.training import Training
from random_walk import fine_table
from small_networks import SHALLOW, make_opinionated

ENV = EnvConfig(paths=4, accounts=3, workers=0, window=8, episode_bars=16, tick_size=0.01)
# One epoch, one minibatch: what is summed in another order, on another device, is little.
TRAIN = TrainConfig(
    steps=16, epochs=1, minibatch=16 * ENV.lanes, precision="float32", compile=False
)
EVERY_ENCODER = pytest.mark.parametrize("encoder", SHALLOW)


def model_with_opinions(encoder, device):
    return make_opinionated(SHALLOW[encoder], ENV, fine_table(volatility=4e-3)).to(device)


@torch.no_grad()
def roll(encoder, device, announced, steps=16):
    """A rollout [paths, accounts, T] that begins at the same bars on every device."""
    env = make_env(fine_table(volatility=4e-3), ENV, device=device)
    bounds = torch.tensor([[20, 36], [60, 76], [100, 116], [140, 156]], device=device)
    env.base_env.starts.sample = lambda *_: bounds
    policy = RolloutPolicy(model_with_opinions(encoder, device))
    policy.announce(announced)
    rows = []
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        state = env.reset()
        for _ in range(steps):
            played, state = env.step_and_maybe_reset(policy(state))
            rows.append(played)
    return torch.stack(rows, -1)


def train(cfg, device):
    """The iterations of a training, on one device."""
    torch.manual_seed(0)
    table = fine_table(volatility=4e-3)
    market = make_env(table, ENV, record_fills=False, device=device)
    training = Training(cfg, table, market, make_model(cfg.model, ENV, table).to(device))
    iterations = list(training)
    training.close()
    return iterations, training


@EVERY_ENCODER
def test_encoded_ahead_is_step_by_step(encoder, device):
    ahead, each = roll(encoder, device, 16), roll(encoder, device, 0)
    assert ahead.device.type == device
    for head in HEADS:
        assert torch.equal(ahead["action", head], each["action", head])
    torch.testing.assert_close(ahead["state_value"], each["state_value"], atol=1e-4, rtol=1e-4)


@EVERY_ENCODER
def test_a_rollout_is_that_of_a_cpu(encoder, device):
    here, there = roll(encoder, device, 16), roll(encoder, "cpu", 16)
    for head in HEADS:
        assert torch.equal(here["action", head].cpu(), there["action", head])
    ledger = here["next", "ledger"].cpu()
    assert ledger.dtype == torch.float64
    torch.testing.assert_close(ledger, there["next", "ledger"], atol=1e-6, rtol=1e-12)


@EVERY_ENCODER
def test_an_update_is_that_of_a_cpu(encoder, device):
    rollout, losses, weights = roll(encoder, "cpu", 16), [], []
    for where in (device, "cpu"):
        model = model_with_opinions(encoder, where)
        learner = Learner(
            model, TRAIN, LossConfig(), lanes=ENV.lanes, accounts=ENV.accounts, iterations=1,
            sequence=16 if encoder == "streaming" else 1,
        )  # fmt: skip
        stats = learner.update(rollout.clone().to(where))
        losses.append({key: float(value) for key, value in stats.items()})
        weights.append({key: value.cpu() for key, value in model.state_dict().items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-3, abs=1e-5)
    for key, value in weights[1].items():
        torch.testing.assert_close(weights[0][key], value, atol=1e-3, rtol=1e-3, msg=key)


@EVERY_ENCODER
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_keeps_money_and_weights_in_full_precision(encoder, precision, device):
    if device == "cpu" and precision == "bfloat16" and encoder == "mlp":
        pytest.skip("bfloat16 of a perceptron is a matter of GPUs")
    train_cfg = dataclasses.replace(TRAIN, precision=precision, minibatch=48)
    cfg = RunConfig(
        total_frames=2 * 16 * ENV.lanes, env=ENV, model=SHALLOW[encoder], train=train_cfg
    )
    iterations, training = train(cfg, device)
    last = iterations[-1]
    assert last.rollout["next", "ledger"].dtype == torch.float64
    assert last.rollout["next", "reward"].dtype == torch.float32
    assert last.rollout["next", "reward"].device.type == device
    assert all(p.dtype == torch.float32 for p in training.model.parameters())
    assert all(torch.isfinite(torch.as_tensor(value)) for value in last.stats.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@EVERY_ENCODER
def test_a_compiled_training_in_bfloat16_begins_like_an_eager_one(encoder):
    cfg = RunConfig(total_frames=2 * 16 * ENV.lanes, env=ENV, model=SHALLOW[encoder], train=TRAIN)
    compiled = dataclasses.replace(TRAIN, precision="bfloat16", compile=True)
    (first, _), _ = train(cfg, "cuda")
    (other, _), _ = train(dataclasses.replace(cfg, train=compiled), "cuda")
    for key in ("train/loss", "train/entropy_direction"):
        assert float(other.stats[key]) == pytest.approx(float(first.stats[key]), rel=0.05, abs=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@EVERY_ENCODER
@pytest.mark.parametrize("others", [False, True])
def test_a_replayed_training_is_the_launched_one_bit_for_bit(encoder, others):
    """Over iterations, in which weights, the scale of values and the last minibatch change."""
    items = 3 * 16 if encoder == "streaming" else 10
    train_cfg = dataclasses.replace(TRAIN, epochs=3, minibatch=items * ENV.accounts)
    cfg = RunConfig(
        total_frames=4 * 16 * ENV.lanes, env=ENV, model=SHALLOW[encoder], train=train_cfg
    )
    if others:  # what the defaults leave out of the losses
        train_cfg = dataclasses.replace(train_cfg, hindsight_bars=8, target_kl=1.0)
        cfg = dataclasses.replace(cfg, train=train_cfg, loss=LossConfig(clip_value=0.2))
    launched = dataclasses.replace(train_cfg, cuda_graph=False)
    one, first = train(cfg, "cuda")
    two, other = train(dataclasses.replace(cfg, train=launched), "cuda")
    assert first.learner.is_graphed
    assert not other.learner.is_graphed
    for here, there in zip(one, two, strict=True):
        for head in HEADS:
            assert torch.equal(here.rollout["action", head], there.rollout["action", head])
        for key in ("train/loss", "train/value_loss", "train/grad_norm"):
            assert float(here.stats[key]) == float(there.stats[key])
    for p, q in zip(first.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(p, q)


@EVERY_ENCODER
def test_bar_by_bar_says_what_a_pass_says(encoder, device):
    model, window, count = model_with_opinions(encoder, device), ENV.window, 30
    table = market_encoder(model).module["window"].module.features
    live, first = LiveMarket(model), 50
    states = [live.push(table[first + i]) for i in range(count + window - 1)]
    bars = torch.arange(first + window - 1, first + window - 1 + count, device=device)[None]
    with torch.no_grad():
        once = PathEncoder(model)(bars)
    torch.testing.assert_close(torch.stack(states[window - 1 :])[None], once, atol=1e-4, rtol=1e-4)


@EVERY_ENCODER
def test_a_replay_decides_as_on_a_cpu(encoder, device):
    table = fine_table(volatility=4e-3)
    bounds = split_tiles(table, ENV, "train", 4)
    played = [
        play_tiles(
            table, ENV, bounds,
            RolloutPolicy(model_with_opinions(encoder, where), with_logits=True), device=where,
        )
        for where in (device, "cpu")
    ]  # fmt: skip
    assert all(parting.is_tie for parting in partings(*played))
