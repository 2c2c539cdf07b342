"""A run's policy on held-out bars: what is written, what is refused, what is said about it."""

import dataclasses
import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from envs.bar_table import BarTable
from envs.data_config import DataConfig
from envs.observation import NUM_ACCOUNT
from envs.trace_reader import read_trace
from envs.trace_schema import COLUMNS
from modules.config import ModelConfig
from pipelines.checkpoint import describe, load_checkpoint, save_checkpoint
from pipelines.config import load_config
from pipelines.exit_codes import DISK
from pipelines.held_out.live_policy import LiveEncoder, make_live_policy
from pipelines.held_out.replay_inputs import load_inputs, require_fit
from pipelines.held_out.rollout import play_tiles, split_tiles
from pipelines.held_out.ties import partings
from pipelines.model import make_model
from pipelines.replay import main, replay
from pipelines.rollout_policy import RolloutPolicy
from pipelines.run_folder import RunFolder
from random_walk import write_bars
from untrained_run import ENV, make_untrained

MODEL = ModelConfig(
    d_model=16, num_layers=1, num_heads=2, ff_dim=16, num_context_blocks=1, context_ff_dim=16,
    account_dim=8, features_dim=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that stopped before its first update."""
    root = tmp_path_factory.mktemp("runs")
    folder = RunFolder.create(str(root), None, "tiny")
    bars = write_bars(root / "own.csv", 900)
    make_untrained(folder.path, bars, seed=0, model=MODEL, data=DataConfig(path=str(bars)))
    return folder


@pytest.fixture(scope="module")
def result(run):
    return replay(run.path)


def files_of(folder):
    names = ("replay_actions.csv", "replay_actions.json", "result.json", "replay.html")
    return {name: (Path(folder) / name).read_bytes() for name in names}


def test_the_trace_covers_the_test_split_once_and_gives_the_result_again(run, result):
    rows = read_trace(run.path / "replay_actions.csv")
    assert tuple(rows.columns) == COLUMNS
    assert set(rows["run_id"]) == {run.name}
    assert set(rows["split"]) == {"test"}
    first, end = BarTable.load(run.bars).meta.splits["test"]
    bars = BarTable.load(run.bars)
    steps = bars.timestamp[first + ENV.window : end]
    assert sorted(rows["timestamp"].astype("int64")) == steps.tolist()
    assert rows["log_prob"].notna().all()
    last = rows.sort_values("timestamp").groupby("lane").tail(1)
    assert (last["position"] == 0).all()
    growth = math.prod(last["equity"] / ENV.initial_cash)
    written = json.loads((run.path / "result.json").read_text())
    assert written["metrics"]["policy"]["total_return"] == pytest.approx(growth - 1, rel=1e-12)
    assert written == json.loads(json.dumps(result.to_json()))


def test_the_four_baselines_stand_beside_the_policy_in_the_terminal(run, tmp_path, capsys):
    main(load_config("replay", [f"run={run.path}", f"out={tmp_path}", "episodes=1"]))
    printed = capsys.readouterr().out
    for name in ("policy", "flat", "buy-and-hold", "random", "always-short"):
        assert f"\n{name}" in printed
    assert "Too little time to mean anything" in printed
    assert str(tmp_path / "replay.html") in printed


def test_a_replay_is_repeated_byte_for_byte_whatever_the_global_generator(run, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        main(load_config("replay", [f"run={run.path}", f"out={folder}"]))
    assert files_of(folders[0]) == files_of(folders[1])


def test_every_head_takes_its_most_likely_index(run, result):
    inputs = load_inputs(run.path, data_path=None, split="test", episodes=1, device="cpu")
    first = read_trace(run.path / "replay_actions.csv").query("lane == 0 and step == 0")
    bar = inputs.bounds[:1, :1].expand(500, 1).unsqueeze(-1)
    state = TensorDict(bar=bar, account=torch.zeros(500, 1, NUM_ACCOUNT), batch_size=(500, 1))
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
        sampled = inputs.policy(state)["action"]
    log_prob = sum(sampled[f"{head}_log_prob"].double() for head in ENV.num_actions)
    assert log_prob.unique().numel() > 50
    assert first["log_prob"].item() >= log_prob.max().item() - 1e-5


def test_another_file_is_seen_through_the_normaliser_of_the_training(run, tmp_path):
    other = write_bars(tmp_path / "other.csv", 900, seed=5, start="2026-01-01")
    inputs = load_inputs(run.path, data_path=str(other), split="val", episodes=2, device="cpu")
    state = load_checkpoint(run.checkpoints / "000000001").model
    (name,) = (name for name in state if name.endswith("window.module.loc"))
    trained = state[name]
    assert not torch.equal(inputs.table.loc, trained)
    locs = [
        value for key, value in inputs.policy.state_dict().items() if key.endswith("window.loc")
    ]
    assert all(torch.equal(loc, trained) for loc in locs)
    assert len(locs) == 1
    assert inputs.table.meta.source_name == "other.csv"
    assert inputs.notes == []


def test_bars_of_another_length_are_refused(run, tmp_path, capsys):
    other = write_bars(tmp_path / "minutes.csv", 900, step="1min")
    argv = [f"run={run.path}", f"data.path={other}"]
    with pytest.raises(SystemExit, match="2"):
        main(load_config("replay", argv))
    error = capsys.readouterr().err
    assert error == "error: minutes.csv: bars of 60 s; the policy was trained on bars of 900 s\n"


def test_other_features_are_refused_by_name(run):
    table = BarTable.load(run.bars)
    names = [*table.meta.feature_names[:-1], "astrology"]
    other = dataclasses.replace(table, meta=dataclasses.replace(table.meta, feature_names=names))
    with pytest.raises(ValueError, match="astrology"):
        require_fit(load_checkpoint(run.checkpoints / "000000001"), other)


def test_bars_that_were_trained_on_are_called_in_sample_whatever_the_file(run, tmp_path):
    def notes(**changes):
        given = {"data_path": None, "split": "test", "episodes": None, "device": "cpu"} | changes
        return load_inputs(run.path, **given).notes

    assert notes() == []
    (val,) = notes(split="val")
    assert val.startswith("In-sample: the policy was chosen on the time of ")
    (own,) = notes(split="train", episodes=1)
    assert own == "In-sample: the policy was trained on the time of 24 of these 24 bars."
    # The test split of a shorter file lies within the train split of the run's.
    shorter = write_bars(tmp_path / "shorter.csv", 620)
    (found,) = notes(data_path=str(shorter))
    assert found.startswith("In-sample: the policy was trained on the time of ")


def test_a_run_without_its_bars_can_replay_a_file_and_says_what_it_cannot_know(run, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(run.checkpoints, moved / "checkpoints")
    with pytest.raises(FileNotFoundError, match="no bar table here"):
        replay(moved)
    other = write_bars(tmp_path / "other.csv", 900, seed=5)
    given = {"data_path": str(other), "episodes": 1, "device": "cpu"}
    assert load_inputs(moved, split="test", **given).notes == []
    (note,) = load_inputs(moved, split="val", **given).notes
    assert note.startswith("In-sample: the policy was chosen on the time of ")


@pytest.mark.parametrize(
    ("times", "cut_at"),
    [
        ({"end": "2024-03-01"}, 0.85),
        ({"val_start": "2024-02-01", "test_start": "2024-03-01"}, 0.85),
        ({"start": "2027-01-01"}, 0.85),
        ({"val_start": "2026-01-06", "test_start": "2026-01-08"}, 7 * 96 / 900),
        ({}, 0.85),
    ],
    ids=["an end before it", "a test before it", "a start after it", "within it", "no times"],
)
def test_times_of_the_runs_own_bars_do_not_refuse_a_file_without_them(run, tmp_path, times, cut_at):
    known = load_checkpoint(run.checkpoints / "000000001")
    about = {k: v for k, v in known.manifest.items() if k not in ("values", "files")}
    config = about["config"] | {"data": about["config"]["data"] | times}
    save_checkpoint(
        tmp_path / "r/checkpoints/000000001", about=about | {"config": config},
        tensors=known.tensors,
    )  # fmt: skip
    later = write_bars(tmp_path / "later.csv", 900, seed=5, start="2026-01-01")
    inputs = load_inputs(
        tmp_path / "r", data_path=str(later), split="test", episodes=None, device="cpu"
    )
    told = [note.startswith("Cut by the fractions: ") for note in inputs.notes]
    assert told == ([True] if times and cut_at == 0.85 else [])
    embargo = inputs.cfg.window + inputs.cfg.episode_bars
    assert inputs.table.meta.splits["test"] == (round(cut_at * 900) + embargo, 900)


def test_a_checkpoint_that_does_not_say_what_it_has_seen_is_perhaps_in_sample(run, tmp_path):
    known = load_checkpoint(run.checkpoints / "000000001")
    about = {k: v for k, v in known.manifest.items() if k not in ("seen", "values", "files")}
    save_checkpoint(tmp_path / "r/checkpoints/000000001", about=about, tensors=known.tensors)
    given = {"split": "val", "episodes": 1, "device": "cpu"}
    other = write_bars(tmp_path / "other.csv", 900, seed=5)
    (note,) = load_inputs(tmp_path / "r", data_path=str(other), **given).notes
    assert note.startswith("Perhaps in-sample")
    shutil.copytree(run.bars, tmp_path / "r" / "bars")
    (note,) = load_inputs(tmp_path / "r", data_path=None, **given).notes
    assert note.startswith("In-sample: the policy was chosen on the time of ")


def test_a_folder_without_a_checkpoint_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint here"):
        replay(tmp_path)


def test_the_program_runs_as_its_documentation_says(run, tmp_path):
    program = Path(__file__).resolve().parents[1] / "pipelines" / "replay.py"
    words = [f"run={run.path}", "split=val", "episodes=2", f"out={tmp_path / 'out'}"]
    done = subprocess.run(
        [sys.executable, str(program), *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "2 tiles" in done.stdout
    rows = read_trace(tmp_path / "out" / "replay_actions.csv")
    assert set(rows["lane"]) == {0, 1}
    assert len(rows) == 48


def test_a_folder_that_takes_nothing_is_refused_before_the_bars_are_looked_at(
    run, tmp_path, monkeypatch, capsys
):
    own = tmp_path / "a"
    shutil.copytree(run.path, own)
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) not in (tmp_path / "out", own))
    book = tmp_path / "openings.jsonl"
    words = [f"run={run.path}", f"out={tmp_path / 'out'}", f"registry={book}", "episodes=1"]
    with pytest.raises(SystemExit, match="5"):
        main(load_config("replay", words))
    assert f"error: {tmp_path / 'out'}: cannot be written" in capsys.readouterr().err
    assert not book.exists()
    with pytest.raises(OSError, match="cannot be written to"):
        replay(own, episodes=1)
    assert not book.exists()


def test_a_full_disk_ends_the_program_in_one_line_with_its_code(run, tmp_path):
    program = Path(__file__).resolve().parents[1] / "pipelines" / "replay.py"
    words = [f"run={run.path}", "split=val", "episodes=2", f"out={tmp_path / 'out'}"]
    full = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (2_000, 2_000))
    done = subprocess.run(
        [sys.executable, "-B", str(program), *words], capture_output=True, text=True, timeout=120,
        preexec_fn=full,
    )  # fmt: skip
    assert done.returncode == DISK, done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def another_run(run, root, name, *, seed=1, **env):
    """A run on the same bars with other weights, and perhaps another simulator."""
    loaded = load_checkpoint(run.checkpoints / "000000001")
    cfg = dataclasses.replace(loaded.config, env=dataclasses.replace(ENV, **env))
    table = BarTable.load(run.bars)
    torch.manual_seed(seed)
    folder = RunFolder.create(str(root), str(root / name), "")
    table.save(folder.bars)
    model = make_model(cfg.model, cfg.env, table)
    with torch.no_grad():  # so that it prefers something, and trades
        model.get_policy_head()[0].module.linear.weight.mul_(300.0)
    save_checkpoint(
        folder.checkpoints / "000000001",
        about=describe(cfg, table),
        tensors={"model": model.state_dict()},
    )
    return folder


def test_policies_stand_side_by_side_on_the_same_tiles(run, result, tmp_path, capsys):
    other = another_run(run, tmp_path, "my_other", window=6)
    out = tmp_path / "out"
    both = main(load_config("replay", [f"run={run.path}", f"beside=[{other.path}]", f"out={out}"]))
    assert list(both.metrics) == [
        "policy", "my_other", "flat", "buy_and_hold", "random", "always_short",
    ]  # fmt: skip
    assert both.metrics["policy"] == result.metrics["policy"]
    assert "\nmy_other  " in capsys.readouterr().out
    assert '"name":"my_other"' in (out / "replay.html").read_text().replace('"name": "', '"name":"')
    mine, its = (read_trace(out / f"replay{name}_actions.csv") for name in ("", "_my_other"))
    assert mine["timestamp"].tolist() == its["timestamp"].tolist()
    assert set(its["run_id"]) == {"my_other"}
    alone = replay(other.path)
    assert alone.replayed.first_bar != both.replayed.first_bar  # its own window is shorter
    assert both.metrics["my_other"].trades > 0


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"taker_fee_bps": 7.0}, "env.taker_fee_bps is 7.0 there and 5.0 in"),
        ({"window": 12}, "env.window is 12 there and 8 in"),
    ],
)
def test_policies_that_do_not_compare_are_refused(run, tmp_path, capsys, env, said):
    other = another_run(run, tmp_path, "other", **env)
    with pytest.raises(SystemExit, match="2"):
        main(load_config("replay", [f"run={run.path}", f"beside=[{other.path}]"]))
    assert said in capsys.readouterr().err


def test_one_policy_has_one_name(run, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(load_config("replay", [f"run={run.path}", f"beside=[{run.path}]"]))
    assert "a name of its own" in capsys.readouterr().err


def test_drawn_actions_are_those_of_their_seed_alone(run, tmp_path):
    traces = []
    for i, seed in enumerate((3, 3, 4)):
        torch.manual_seed(i)
        words = [f"run={run.path}", f"out={tmp_path / str(i)}", "sampled=true", f"seed={seed}"]
        drawn = main(load_config("replay", words))
        assert any("Actions were drawn" in note for note in drawn.notes)
        traces.append(read_trace(tmp_path / str(i) / "replay_actions.csv"))
    actions = [trace[["direction", "size", "stop_loss"]].to_numpy() for trace in traces]
    assert (actions[0] == actions[1]).all()
    assert (actions[0] != actions[2]).any()
    assert len(np.unique(actions[0][:, 0])) == 3


@pytest.mark.parametrize("encoder", ["transformer", "streaming"])
def test_a_policy_shown_one_bar_at_a_time_does_the_same(run, encoder):
    cfg = dataclasses.replace(MODEL, encoder=encoder)
    table = BarTable.load(run.bars)
    torch.manual_seed(2)
    model = make_model(cfg, ENV, table).eval()
    with torch.no_grad():
        model.get_policy_head()[0].module.linear.weight.mul_(300.0)
    bounds = split_tiles(table, ENV, "test")
    bulk = play_tiles(table, ENV, bounds, RolloutPolicy(model, with_logits=True))
    live = play_tiles(table, ENV, bounds, make_live_policy(model))
    assert all(parting.is_tie for parting in partings(bulk, live))
    assert len(bulk.batch["action", "direction"].unique()) > 1
    same = bulk.alive & live.alive
    torch.testing.assert_close(
        bulk.batch["state_value"][same], live.batch["state_value"][same], atol=1e-4, rtol=1e-4
    )


def test_a_policy_that_knows_the_next_bar_is_found_out_live(run, tmp_path, capsys, monkeypatch):
    seen = LiveEncoder.forward

    def a_bar_late(self, tensordict):
        earlier = tensordict.clone().set("bar", tensordict["bar"] - 1)
        return tensordict.set("market_state", seen(self, earlier)["market_state"])

    other = another_run(run, tmp_path, "other")
    words = [f"run={other.path}", "live_like=true"]
    result = main(load_config("replay", words))
    told = capsys.readouterr().out
    assert "\nShown one bar at a time, " in told, "good news, which nobody is warned of"
    assert any(line.startswith("! Too ") for line in told.splitlines())
    page = (other.path / "replay.html").read_text("utf-8")
    assert f'<p class="small">{result.remarks[0]}</p>' in page
    doubts = re.search(r'<div class="caveats">.*?</div>', page)[0]
    assert "Too little time" in doubts
    assert "one bar at a time" not in doubts
    monkeypatch.setattr(LiveEncoder, "forward", a_bar_late)
    with pytest.raises(SystemExit, match="1"):
        main(load_config("replay", words))
    assert "\n! NOT the same one bar at a time" in capsys.readouterr().out
    page = (other.path / "replay.html").read_text("utf-8")
    doubts = re.search(r'<div class="caveats">.*?</div>', page)[0]
    assert "NOT the same one bar at a time" in doubts


def test_the_actions_of_a_trace_give_its_accounts_again_or_the_first_row_that_differs(
    run, tmp_path, capsys
):
    other = another_run(run, tmp_path, "other")
    replay(other.path)
    trace = other.path / "replay_actions.csv"
    main(load_config("replay", [f"actions={trace}"]))
    assert "every account to the last bit" in capsys.readouterr().out
    rows = pd.read_csv(trace)
    at = rows.index[rows["position"] != 0][0]
    rows.loc[at, "equity"] += 1e-6
    rows.to_csv(trace, index=False)
    with pytest.raises(SystemExit, match="1"):
        main(load_config("replay", [f"actions={trace}"]))
    assert "the trace has equity = " in capsys.readouterr().err


def test_a_trace_on_other_bars_is_refused(run, result, tmp_path, capsys):
    bars = write_bars(tmp_path / "other.csv", 900, seed=5)
    words = [f"actions={run.path / 'replay_actions.csv'}", f"data.path={bars}"]
    with pytest.raises(SystemExit, match="2"):
        main(load_config("replay", words))
    assert "played on own.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["run=somewhere", "sampled=true", "live_like=true"], "sampled="),
        (["actions=trace.csv", "sampled=true"], "actions="),
        (["actions=trace.csv", "beside=[other]"], "actions="),
    ],
)
def test_what_does_not_go_together_is_refused(words, key, capsys):
    with pytest.raises(SystemExit, match="2"):
        load_config("replay", words)
    assert f"error: {key}" in capsys.readouterr().err
