"""A restored training is the one that was left, bit for bit, in workers or not."""

import dataclasses
import json
import random

import numpy as np
import pytest
import torch

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.factory import make_env
from modules.config import ModelConfig
from pipelines.config import RunConfig
from pipelines.model import make_model
from pipelines.random_state import get_random_state, seed_everything, set_random_state
from pipelines.train_config import TrainConfig
from pipelines.training import Training

ENV = EnvConfig(paths=6, accounts=2, window=8, episode_bars=20, tick_size=0.01)
SMALL = {"d_model": 16, "ff_dim": 16, "account_dim": 8, "features_dim": 16, "num_heads": 2}
MODEL = ModelConfig(num_layers=1, num_context_blocks=1, context_ff_dim=16, **SMALL)


def make_training(folder, workers, total_frames=6 * 16 * ENV.lanes, **changes):
    env = dataclasses.replace(ENV, workers=workers)
    train = TrainConfig(**{"steps": 16, "epochs": 2, "minibatch": 48, **changes})
    cfg = RunConfig(total_frames=total_frames, env=env, model=MODEL, train=train)
    seed_everything(0)
    close = 100.0 * (3e-3 * torch.randn(600, dtype=torch.float64)).cumsum(0).exp()
    table = BarTable.from_arrays(
        torch.stack([close, close * 1.001, close * 0.999, close, close], -1)
    )
    if not (folder / "bars").exists():
        table.save(folder / "bars")
    market = make_env(folder / "bars" if workers else table, env, record_fills=False)
    return Training(cfg, table, market, make_model(cfg.model, env, table))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_restored_training_is_the_one_that_was_left(tmp_path, workers):
    training = make_training(tmp_path, workers, hindsight_bars=4, lr_schedule="linear")
    ledgers, snapshot = [], None
    for iteration in training:
        ledgers.append(iteration.rollout["next", "ledger"].clone())
        if iteration.number == 2:
            snapshot = training.snapshot()
    expected = training.snapshot()
    training.close()

    other = make_training(tmp_path, workers, hindsight_bars=4, lr_schedule="linear")
    seed_everything(99)
    other.restore(snapshot.tensors, snapshot.values)
    again = [iteration.rollout["next", "ledger"].clone() for iteration in other]
    assert len(again) == 4
    assert all(torch.equal(a, b) for a, b in zip(ledgers[2:], again, strict=True))
    found = other.snapshot()
    other.close()
    assert found.values == expected.values
    for group, tensors in expected.tensors.items():
        for name, value in tensors.items():
            same = found.tensors[group][name]
            assert torch.equal(value.nan_to_num(), same.nan_to_num()), (group, name)


@pytest.mark.parametrize(("steps", "iterations"), [(16, 8), (32, 5)])
def test_a_changed_training_learns_at_its_own_rates_to_its_own_frames(tmp_path, steps, iterations):
    training = make_training(tmp_path, 0, lr_schedule="linear")
    for iteration in training:
        if iteration.number == 2:
            snapshot = training.snapshot()
            break
    training.close()
    frames = 8 * 16 * ENV.lanes
    changes = {"steps": steps, "lr": 0.01, "weight_decay": 0.1, "lr_schedule": "linear"}
    other = make_training(tmp_path, 0, total_frames=frames, **changes)
    other.restore(snapshot.tensors, snapshot.values)
    assert (other.frames, other.total_frames) == (2 * 16 * ENV.lanes, frames)
    assert other.learner.optimizer.param_groups[0]["weight_decay"] == 0.1
    told = [(step.frames, float(step.stats["train/learning_rate"])) for step in other]
    other.close()
    begun = 2 * 16 * ENV.lanes
    assert told == [
        (begun + (i - 1) * steps * ENV.lanes, pytest.approx(0.01 * (1 - i / iterations)))
        for i in range(2, iterations)
    ]


def test_a_snapshot_of_another_training_is_refused(tmp_path):
    training = make_training(tmp_path, 0)
    next(iter(training))
    snapshot = training.snapshot()
    training.close()
    other = make_training(tmp_path, 0, hindsight_bars=4)
    with pytest.raises(ValueError, match="of another training"):
        other.restore(snapshot.tensors, snapshot.values)
    other.close()


def test_every_generator_comes_back():
    def draw():
        return random.random(), random.gauss(0, 1), np.random.rand(), torch.rand(1).item()  # noqa: S311

    seed_everything(5)
    draw()
    tensors, values = get_random_state()
    values = json.loads(json.dumps(values))
    expected = draw()
    seed_everything(6)
    set_random_state(tensors, values)
    assert draw() == expected
