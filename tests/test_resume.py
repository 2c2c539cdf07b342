"""A stopped run goes on bit for bit, or not at all: in processes of their own."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from envs.bar_table import BarTable
from envs.trace_reader import read_trace
from pipelines.auditing.audit_rows import read_sidecar
from pipelines.benchmarks.faults_kills import kill_at_random
from pipelines.benchmarks.faults_run import Victim, fingerprint
from pipelines.checkpoint_store import load_newest
from pipelines.config import RunConfig, RunDirConfig
from pipelines.held_out.recorded import Recording
from pipelines.resume import find_run, inexact_notes, require_fits, require_same
from pipelines.source import git_revision


@pytest.mark.parametrize(("workers", "kills"), [(0, 3), (2, 1)])
def test_killed_runs_come_to_the_end_of_the_unhurt_one(tmp_path, workers, kills):
    found = kill_at_random(tmp_path, kills, workers=workers, seed=2, frames=24 * 256)
    assert (found["tried"], found["held"]) == (kills, kills)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    victim = Victim(folder, "total_frames=1024", "recorder.lanes=4")
    assert victim.finish() == 0, victim.said()
    return folder


def go_on(finished, tmp_path, *words):
    """What the program says that goes on with a copy of the finished run, its exit code, folder."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    victim = Victim(folder, "total_frames=1024", "recorder.lanes=4", *words)
    return victim.finish(), victim.said(), folder


def test_a_finished_run_goes_on_with_nothing_and_is_the_same(finished, tmp_path):
    code, said, folder = go_on(finished, tmp_path)
    assert code == 0, said
    assert "going on from" in said
    assert fingerprint(folder) == fingerprint(finished)
    assert "changed" not in read_sidecar(folder / "train_actions.csv")


def test_a_changed_configuration_is_refused_with_every_key_unless_told_otherwise(
    finished, tmp_path
):
    before = fingerprint(finished)
    words = ("train.lr=0.01", "env.taker_fee_bps=7", "total_frames=1280")
    code, said, folder = go_on(finished, tmp_path, *words)
    assert code == 2
    assert "train.lr: " in said
    assert "0.01 now" in said
    assert "env.taker_fee_bps: " in said
    assert "total_frames: 1024 then, 1280 now" in said
    assert "train.epochs" not in said
    assert fingerprint(folder) == before
    code, said, folder = go_on(finished, tmp_path / "other", *words, "resume=changed")
    assert code == 0, said
    assert fingerprint(folder) != before
    # Rows of before were played at other costs than the parameters beside the trace say.
    trace, table = folder / "train_actions.csv", BarTable.load(folder / "bars")
    about = json.loads(trace.with_suffix(".json").read_text())
    assert (about["simulator"]["taker_fee_bps"], about["changed"]) == (7.0, [1024])
    with pytest.raises(ValueError, match="from frame 1,024 on the run was another"):
        read_sidecar(trace)
    with pytest.raises(ValueError, match="from frame 1,024 on the run was another"):
        Recording.read(trace, table)


def test_episodes_lie_in_the_new_split_when_that_was_changed(finished, tmp_path):
    """Those that were running lay where validation and test bars are now; nothing tells them so."""
    words = ("total_frames=1536", "data.train_frac=0.2", "data.val_frac=0.2", "resume=changed")
    code, said, folder = go_on(finished, tmp_path, *words)
    assert code == 0, said
    table, rows = BarTable.load(folder / "bars"), read_trace(folder / "train_actions.csv")
    new = rows[rows["env_frame"] >= 1024]
    times = pd.DatetimeIndex(new["timestamp"]).as_unit("ns").asi8
    bars = np.searchsorted(table.timestamp.numpy(), times)
    (first, end), *more = table.runs("train").tolist()
    assert not more
    assert ((bars >= first) & (bars < end)).all()
    begun = new.groupby("lane").first()
    assert (begun["step"] == 0).all()
    assert (begun["episode"] > 0).all()
    with pytest.raises(ValueError, match="or in episodes that were left there"):
        read_sidecar(folder / "train_actions.csv")


def test_other_bars_are_refused_and_another_name_for_the_same_is_not(finished, tmp_path):
    code, said, _ = go_on(finished, tmp_path, "data.synthetic.market=drift")
    assert code == 2
    assert "data file: sha256" in said
    assert "data.synthetic.market" in said


def test_a_run_that_is_gone_on_with_is_the_newest_of_its_tag_with_a_checkpoint(tmp_path):
    def meant():
        found = find_run(RunConfig(tag="a", resume="auto", run=RunDirConfig(str(tmp_path))))
        return None if found is None else found.path.name

    begun = ("20250101-000000_a", "20250102-000000_a", "20250103-000000_a", "20250104-000000_b",
             "20250105-000000_a_a", "copy_a")  # fmt: skip
    for name in begun:
        (tmp_path / name).mkdir()
    assert meant() is None
    for name in begun[:2] + begun[3:]:
        (tmp_path / name / "checkpoints" / "000000001").mkdir(parents=True)
    assert meant() == "20250102-000000_a"
    named = RunConfig(resume="auto", run=RunDirConfig(str(tmp_path), str(tmp_path / begun[0])))
    assert find_run(named).path.name == begun[0]
    assert find_run(dataclasses.replace(named, resume="none")) is None


def test_what_may_change_the_last_bits_of_a_sum_is_said_and_nothing_else(finished):
    """The same bars by another name, another place and another logger are the same run."""
    checkpoint = load_newest(finished / "checkpoints")
    cfg, table = checkpoint.config, BarTable.load(finished / "bars")
    elsewhere = dataclasses.replace(
        cfg,
        logger="csv",
        run=RunDirConfig("elsewhere"),
        data=dataclasses.replace(cfg.data, path="x"),
    )
    require_same(checkpoint, elsewhere, table)
    threads = torch.get_num_threads()
    here = {"threads": threads, "git_revision": git_revision()}
    now = dataclasses.replace(checkpoint, manifest=checkpoint.manifest | here)
    assert inexact_notes(now, cfg, table) == []
    versions = now.manifest["versions"] | {"torch": "1.0"}
    before = {"threads": threads + 3, "git_revision": "abc", "versions": versions}
    other = dataclasses.replace(now, manifest=now.manifest | before)
    notes = inexact_notes(other, elsewhere, table)
    assert len(notes) == 3
    for words in ("'abc' then", f"threads: {threads + 3} then, {threads} now", "versions.torch"):
        assert sum(words in note for note in notes) == 1
    assert all(note.startswith("not bit for bit") for note in notes)


def test_a_run_is_never_gone_on_with_unasked(finished, tmp_path):
    code, said, _ = go_on(finished, tmp_path, "resume=none")
    assert code == 2
    assert "it exists already" in said


def test_one_process_writes_a_run(tmp_path):
    first = Victim(tmp_path / "run", "total_frames=100000")
    assert first.wait_for(lambda: first.iterations >= 1), first.said()
    second = Victim(tmp_path / "run", "total_frames=100000")
    assert second.finish() == 2
    assert "another process is writing this run" in second.said()
    first.kill()


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_anew(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / "metrics.jsonl").write_text("half a li")
    victim = Victim(tmp_path / "run", "total_frames=256")
    assert victim.finish() == 0, victim.said()
    assert victim.iterations == 1


def test_a_link_in_a_run_folder_is_not_written_through(finished, tmp_path):
    precious = tmp_path / "precious.csv"
    precious.write_text("mine")
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    (folder / "train_actions.csv").unlink()
    (folder / "train_actions.csv").symlink_to(precious)
    victim = Victim(folder, "total_frames=1024", "recorder.lanes=4")
    assert victim.finish() == 2
    assert "symbolic link" in victim.said()
    assert precious.read_text() == "mine"


def test_a_new_run_begins_with_the_weights_of_another(finished, tmp_path):
    victim = Victim(tmp_path / "new", "total_frames=256", "train.lr=1e-12", f"init_from={finished}")
    assert victim.finish() == 0, victim.said()
    assert f"beginning with the weights of {finished / 'checkpoints'}" in victim.said()
    before, after = (
        load_newest(folder / "checkpoints").model for folder in (finished, tmp_path / "new")
    )
    weights = [name for name in before if name.endswith("weight") and "module.2" not in name]
    assert weights
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in weights)
    missing = Victim(tmp_path / "none", f"init_from={tmp_path / 'nowhere'}")
    assert missing.finish() == 2
    assert "nowhere" in missing.said()
    assert not (tmp_path / "none").exists()


def test_a_run_goes_on_when_the_one_that_it_began_with_is_gone(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "origin")
    words = ("total_frames=256", "env.workers=0", f"init_from={tmp_path / 'origin'}")
    first = Victim(tmp_path / "new", *words)
    assert first.finish() == 0, first.said()
    shutil.rmtree(tmp_path / "origin")
    again = Victim(tmp_path / "new", *words)
    assert again.finish() == 0, again.said()
    assert "going on from" in again.said()


def test_a_finished_run_with_a_packed_trace_is_left_as_it_is(tmp_path):
    words = ("total_frames=256", "recorder.format=parquet")
    first = Victim(tmp_path / "run", *words)
    assert first.finish() == 0, first.said()
    packed = (tmp_path / "run" / "train_actions.parquet").read_bytes()
    assert not (tmp_path / "run" / "train_actions.csv").exists()
    again = Victim(tmp_path / "run", *words)
    assert again.finish() == 0, again.said()
    assert (tmp_path / "run" / "train_actions.parquet").read_bytes() == packed


CHANGES = {
    "env.paths=8": "env.paths: 4 then, 8 now",
    "env.workers=0": "env.workers: 2 then, 0 now",
    "model.num_heads=4": "model.num_heads: 2 then, 4 now",
    "train.hindsight_bars=4": "train.hindsight_bars: 0 then, 4 now",
    "recorder.lanes=2": "recorder.lanes: 4 then, 2 now",
}


@pytest.mark.parametrize("word", CHANGES)
def test_a_change_that_no_training_can_take_is_refused_by_its_key(finished, word):
    checkpoint, table = load_newest(finished / "checkpoints"), BarTable.load(finished / "bars")
    require_fits(checkpoint, checkpoint.config, table)
    key, value = word.split("=")
    section, name = key.split(".")
    part = dataclasses.replace(getattr(checkpoint.config, section), **{name: int(value)})
    changed = dataclasses.replace(checkpoint.config, **{section: part})
    with pytest.raises(ValueError, match=f"of another training: {CHANGES[word]}. Give what it"):
        require_fits(checkpoint, changed, table)


def test_rows_of_other_lanes_may_be_kept_where_none_are_counted(finished):
    checkpoint, table = load_newest(finished / "checkpoints"), BarTable.load(finished / "bars")
    silent = dataclasses.replace(checkpoint.config.recorder, enabled=False, lanes=2)
    require_fits(checkpoint, dataclasses.replace(checkpoint.config, recorder=silent), table)


def test_a_run_whose_change_is_refused_keeps_its_bars(finished, tmp_path):
    """A replay cuts its held-out bars from them."""
    words = ("data.train_frac=0.3", "data.val_frac=0.3", "train.hindsight_bars=4")
    code, said, folder = go_on(finished, tmp_path, *words, "resume=changed")
    assert code == 2
    assert "train.hindsight_bars: 0 then, 4 now" in said
    for path in (finished / "bars").iterdir():
        assert (folder / "bars" / path.name).read_bytes() == path.read_bytes(), path.name


def test_what_does_not_fit_is_refused_and_no_worker_stays(finished, tmp_path):
    words = ("resume=changed", "model.d_model=64", "env.workers=2", "total_frames=2048")
    code, said, _ = go_on(finished, tmp_path, *words)
    assert code == 2, said
    assert "of another training" in said
    code, said, folder = go_on(finished, tmp_path / "cut", "resume=changed", "total_frames=2048")
    assert code == 0, said
    shutil.rmtree(folder)
    shutil.copytree(finished, folder)
    (folder / "train_actions.csv").write_text("")
    victim = Victim(folder, "total_frames=2048", "recorder.lanes=4", "resume=changed")
    assert victim.finish() == 2, victim.said()
    assert "train_actions.csv: not a trace" in victim.said()
