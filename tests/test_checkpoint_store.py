"""The checkpoints of a run: which stay, which is found, what is swept."""

import copy
import logging

import numpy as np
import pytest
import torch

from envs.bar_table import BarTable
from envs.durable import UNFINISHED
from pipelines.checkpoint import describe
from pipelines.checkpoint_store import CheckpointStore, load_best, load_newest
from pipelines.config import compose_config
from pipelines.initial_weights import find_initial_weights
from pipelines.run_folder import list_checkpoints


@pytest.fixture(scope="module")
def about():
    table = BarTable.from_arrays(np.full((100, 5), 100.0))
    return describe(compose_config("ppo_transformer", ["model=tiny"]), table)


def save(store, iteration, score=None):
    tensors = {"model": {"weight": torch.full((3,), float(iteration))}}
    return store.save(iteration, tensors=tensors, values={"score": score})


def names(folder):
    return [int(path.name) for path in list_checkpoints(folder)]


def hurt(checkpoint):
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def test_the_newest_three_and_the_best_are_kept(tmp_path, about):
    store = CheckpointStore(tmp_path, about)
    for iteration, score in enumerate([0.1, 0.9, 0.3, None, 0.2, 0.4], start=1):
        save(store, iteration, score)
    assert names(tmp_path) == [2, 4, 5, 6]
    assert load_best(tmp_path).folder.name == "000000002"
    # Another process knows the best one too.
    save(CheckpointStore(tmp_path, about), 7, 0.5)
    assert names(tmp_path) == [2, 5, 6, 7]


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [("env", "taker_fee_bps", 9.0), ("checkpoint", "val_episodes", 80)],
)
def test_scores_under_other_costs_or_on_other_tiles_do_not_compare(
    tmp_path, about, group, key, value
):
    """What was judged at lower costs would be the best one for good, and be evaluated at them."""
    save(CheckpointStore(tmp_path, about), 1, 0.9)
    changed = copy.deepcopy(about)
    changed["config"][group][key] = value
    store = CheckpointStore(tmp_path, changed)
    assert store.best_score is None
    save(store, 2)
    with pytest.raises(ValueError, match=r"judged since the run was changed \(checkpoint\.val_"):
        load_best(tmp_path)
    save(store, 3, 0.1)
    assert load_best(tmp_path).folder.name == "000000003"
    assert store.best_score == 0.1
    save(store, 4)
    assert names(tmp_path) == [2, 3, 4]


def test_how_lanes_were_computed_makes_no_other_score(tmp_path, about):
    save(CheckpointStore(tmp_path, about), 1, 0.9)
    changed = copy.deepcopy(about)
    changed["config"]["env"]["paths"] *= 2
    changed["data"]["file"] = "elsewhere.csv"
    save(CheckpointStore(tmp_path, changed), 2, 0.1)
    assert load_best(tmp_path).folder.name == "000000001"


def test_a_run_that_is_judged_no_more_keeps_the_best_of_before(tmp_path, about):
    """Of those that were judged on the tiles of the newest that was."""
    for iteration, (episodes, score) in enumerate([(80, 0.9), (16, 0.4), (16, 0.3)], start=1):
        judged = copy.deepcopy(about)
        judged["config"]["checkpoint"]["val_episodes"] = episodes
        save(CheckpointStore(tmp_path, judged), iteration, score)
    no_more = copy.deepcopy(about)
    no_more["config"]["checkpoint"]["val_episodes"] = 0
    store = CheckpointStore(tmp_path, no_more)
    assert store.best_score == 0.4
    for iteration in range(4, 8):
        save(store, iteration)
        assert load_best(tmp_path).folder.name == "000000002"
    assert names(tmp_path) == [2, 5, 6, 7]


def test_without_scores_the_newest_three_are_kept_and_none_is_best(tmp_path, about):
    store = CheckpointStore(tmp_path, about)
    for iteration in range(1, 6):
        save(store, iteration)
    assert names(tmp_path) == [3, 4, 5]
    with pytest.raises(ValueError, match=r"checkpoint\.val_episodes"):
        load_best(tmp_path)


def test_a_damaged_one_is_passed_over_and_said(tmp_path, about, caplog):
    store = CheckpointStore(tmp_path, about)
    for iteration in (1, 2, 3):
        save(store, iteration)
    hurt(tmp_path / "000000003")
    hurt(tmp_path / "000000002")
    with caplog.at_level(logging.WARNING):
        assert load_newest(tmp_path).model["weight"][0] == 1.0
    assert "000000003/model.safetensors: damaged" in caplog.text
    assert "falling back to" in caplog.text
    hurt(tmp_path / "000000001")
    with pytest.raises(ValueError, match=r"none of the 3 checkpoints is whole: .*000000003"):
        load_newest(tmp_path)
    # Training that way again replaces the damaged one.
    save(store, 3)
    assert load_newest(tmp_path).model["weight"][0] == 3.0


def test_no_checkpoint_is_said_as_such(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        for load in (load_newest, load_best):
            with pytest.raises(FileNotFoundError, match="no checkpoint here"):
                load(folder)


def test_a_run_that_is_not_there_is_said_as_such(tmp_path):
    for load in (load_newest, load_best):
        with pytest.raises(FileNotFoundError, match=f"{tmp_path / 'runs' / 'a'}: no such folder"):
            load(tmp_path / "runs" / "a" / "checkpoints")
    with pytest.raises(FileNotFoundError, match=f"{tmp_path / 'a'}: no such folder"):
        find_initial_weights(tmp_path / "a", None, None)


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path, about):
    (tmp_path / f".000000009.abc{UNFINISHED}").mkdir()
    (tmp_path / f".000000009.abc{UNFINISHED}" / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".000000001.abc.removed").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    precious = tmp_path.parent / "precious"
    precious.mkdir()
    (tmp_path / f".link{UNFINISHED}").symlink_to(precious)
    CheckpointStore(tmp_path, about)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert precious.is_dir()


def test_links_are_not_followed(tmp_path, about):
    store = CheckpointStore(tmp_path / "run", about)
    path = save(store, 1)
    moved = tmp_path / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)
    with pytest.raises(ValueError, match="a symbolic link"):
        load_newest(tmp_path / "run")
