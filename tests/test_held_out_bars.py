"""Bars that a policy has seen are not held out for it; all others are, whatever they are called."""

import dataclasses
import shutil

import pytest

from envs.bar_files import time_text
from forged_checkpoint import rehash
from pipelines.config import compose_config
from pipelines.evaluate import evaluate, main
from pipelines.held_out.evaluate_config import EvaluateConfig
from pipelines.held_out.looks import open_replay
from pipelines.held_out.replay_config import ReplayDataConfig
from pipelines.held_out.replay_inputs import load_inputs
from pipelines.judging.registry import Registry
from pipelines.ppo_transformer import main as train_run
from random_walk import write_bars
from untrained_run import WORDS


@pytest.mark.parametrize(("file", "counted"), [("later", 1), (None, 0)])
@pytest.mark.parametrize("split", ["train", "val"])
def test_bars_that_nobody_trained_on_are_held_out_whatever_their_split_is_called(
    three_runs, tmp_path, file, counted, split
):
    """Else the test bars of one file are looked at freely as the train part of a longer one."""
    shutil.copytree(three_runs[0], tmp_path / "a")
    path = file and str(write_bars(tmp_path / f"{file}.parquet", 3_000, start="2025-06-01"))
    inputs = load_inputs(tmp_path / "a", data_path=path, split=split, episodes=1, device="cpu")
    open_replay([inputs], tmp_path / "openings.jsonl")
    looks = Registry(tmp_path / "openings.jsonl").known().carried
    assert [look.opening.split for look in looks] == [split] * counted


def test_bars_that_are_trained_and_chosen_on_hide_none_that_nobody_has_seen(three_runs, tmp_path):
    """Weights of another run may have been trained on what this one chose on."""
    shutil.copytree(three_runs[0], tmp_path / "a")
    inputs = load_inputs(tmp_path / "a", data_path=None, split="val", episodes=1, device="cpu")
    first, last = inputs.bounds[0].tolist()
    times = [time_text(int(inputs.table.timestamp[row])) for row in (first + 1, last - 1, last)]
    for end, counted in ((times[2], 0), (times[1], 1)):
        seen = {how: [[times[0], end]] for how in ("trained", "chosen")}
        open_replay([dataclasses.replace(inputs, seen=seen)], tmp_path / "openings.jsonl")
        assert len(Registry(tmp_path / "openings.jsonl").known().carried) == counted


def test_bars_of_the_time_that_a_run_was_chosen_on_are_not_held_out(three_runs, tmp_path, capsys):
    other = write_bars(tmp_path / "other.parquet", 5_200)  # its test bars begin at 2,600
    with pytest.raises(SystemExit):
        main(
            EvaluateConfig(run=str(three_runs[0]), data=ReplayDataConfig(path=str(other)), draws=5)
        )
    assert "chosen on" in capsys.readouterr().err
    assert not (three_runs[0].parent / "openings.jsonl").exists()


@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("words", [["init_from"], ["resume=changed", "total_frames=128"]])
def test_bars_that_the_weights_were_trained_on_before_are_not_held_out(
    tmp_path, capsys, words, is_told
):
    """In another run, or in this one before it was changed: the policy has seen them.

    Of a checkpoint that is older than what is told of this, the bars of its run tell.
    """
    bars = write_bars(tmp_path / "bars.parquet", 2_500)
    first, then = tmp_path / "first", tmp_path / "then"
    told = [*WORDS, f"data.path={bars}", "replay.enabled=false", "wandb.mode=disabled"]
    train_run(compose_config("ppo_transformer", [*told, f"run.dir={first}"]))
    for checkpoint in (first / "checkpoints").iterdir():
        rehash(checkpoint, None if is_told else lambda manifest: manifest.pop("seen"))
    if words == ["init_from"]:
        words = [f"init_from={first}"]
    else:
        shutil.copytree(first, then)
    words = [*told, "data.train_frac=0.4", "data.val_frac=0.1", f"run.dir={then}", *words]
    train_run(compose_config("ppo_transformer", words))
    with pytest.raises(SystemExit) as ended:
        evaluate([then], draws=5)
    assert ended.value.code == 2
    assert "that it was trained on" in capsys.readouterr().err
    assert not (tmp_path / "openings.jsonl").exists()
    notes = load_inputs(
        then, data_path=None, split="test", episodes=None, device="cpu", checkpoint="last"
    ).notes
    assert [note.split(" on ")[0] for note in notes] == [
        "In-sample: the policy was trained", "In-sample: the policy was chosen",
    ]  # fmt: skip
