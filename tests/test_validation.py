"""Validation: what a policy earns on the first tiles of its own split, and on no other bar."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from envs.data_config import DataConfig
from envs.table import build_table
from pipelines.config import RunConfig
from pipelines.held_out.rollout import split_tiles
from pipelines.model import make_model
from pipelines.train_config import TrainConfig
from pipelines.validation import Judged, Validation
from random_walk import write_bars
from untrained_run import ENV, MODEL

TILES = 5


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A configuration, its bars and a drawn network."""
    bars = write_bars(tmp_path_factory.mktemp("bars") / "bars.parquet", 2_000)
    train = TrainConfig(steps=8, minibatch=8)
    cfg = RunConfig(data=DataConfig(path=str(bars)), env=ENV, model=MODEL, train=train)
    cfg.checkpoint.val_episodes = TILES
    table = build_table(cfg.data, window=ENV.window, episode_bars=ENV.episode_bars)
    torch.manual_seed(4)
    return cfg, table, make_model(cfg.model, cfg.env, table)


def test_the_score_is_the_growth_on_the_first_tiles_of_the_validation_split(parts):
    cfg, table, model = parts
    judged = Validation(cfg, table, model).judge()
    rows = judged.evaluated.rows
    first, end = table.meta.splits["val"]
    times = pd.to_datetime(table.timestamp[first:end].numpy(), utc=True)
    played = pd.DatetimeIndex(rows["timestamp"])
    assert len(split_tiles(table, ENV, "val")) > TILES
    assert len(rows) == len(judged.evaluated.hold) == TILES * ENV.episode_bars
    assert list(played) == list(times[ENV.window : ENV.window + len(played)])
    # What each of them began with is all there again, and nothing is held at its end.
    ends = rows.groupby("lane").last()
    assert (ends["position"] == 0.0).all()
    assert rows["fee"].sum() > 0.0
    growth = np.log(ends["cash"] / ENV.initial_cash)
    assert judged.score == pytest.approx(growth.mean(), rel=1e-9)
    assert growth.std() > 1e-4


def test_a_judgement_leaves_the_training_what_it_was(parts):
    cfg, table, model = parts
    validation = Validation(cfg, table, model)
    drawn, weights = torch.get_rng_state(), model.state_dict()
    before = {name: value.clone() for name, value in weights.items()}
    once = validation.judge()
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():  # and it is of the weights as they are now
        for parameter in model.parameters():
            parameter.mul_(-1.0)
    other = validation.judge()
    model.load_state_dict(before)
    assert other.score != once.score == validation.judge().score


def test_without_tiles_nothing_is_judged(parts):
    cfg, table, model = parts
    cfg = dataclasses.replace(cfg, checkpoint=dataclasses.replace(cfg.checkpoint, val_episodes=0))
    assert Validation(cfg, table, model).judge() is None


@pytest.mark.parametrize(("before", "best"), [(None, -0.2), (-0.5, -0.2), (0.1, 0.1), (0.0, 0.0)])
def test_the_best_score_is_the_highest_so_far(before, best):
    told = Judged(-0.2, None).scores(before)
    assert told == {"val/log_growth": -0.2, "val/best_log_growth": best}
