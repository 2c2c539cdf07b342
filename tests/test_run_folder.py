"""The folder of a run: where it is, and what is refused before anything is made."""

import os

import pytest

from envs.bar_table import BarTable
from envs.durable import _doomed
from pipelines.run_folder import RunFolder


def test_runs_that_begin_in_the_same_second_do_not_get_in_each_other_s_way(tmp_path):
    first, second = (RunFolder.create(str(tmp_path), None, "sweep") for _ in range(2))
    assert first.path != second.path
    assert sorted(tmp_path.iterdir()) == [first.path, second.path]


def test_the_folder_is_named_for_time_and_tag_unless_it_is_given(tmp_path):
    assert RunFolder.create(str(tmp_path), None, "tag").path.name.endswith("_tag")
    given = tmp_path / "of my own" / "run 1"
    assert RunFolder.create(str(tmp_path), str(given), "tag").path == given
    assert given.is_dir()


@pytest.mark.parametrize("name", ["a,b", "=1+1", 'quo"te'])
def test_a_name_that_no_trace_could_carry_is_refused_and_not_made(tmp_path, name):
    with pytest.raises(ValueError, match=r"run\.dir=.* is not allowed"):
        RunFolder.create(str(tmp_path), str(tmp_path / name), "tag")
    assert list(tmp_path.iterdir()) == []


def test_a_root_without_a_name_is_refused_and_not_the_folder_that_one_is_in(tmp_path, monkeypatch):
    """What run.root=$RUNS is where RUNS was never set."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"run\.root='' is not allowed"):
        RunFolder.create("", None, "tag")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "wandb"])
def test_a_folder_with_a_link_in_it_is_not_written_to(tmp_path, name):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".lock").touch()
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(precious)
    run = RunFolder.create(str(tmp_path), str(folder), "tag", anew=True)
    with pytest.raises(ValueError, match="symbolic link"):
        run.lock()
    assert precious.read_text() == "mine"


def test_replays_and_evaluations_are_the_folders_of_markets_and_no_links(tmp_path):
    for name in ("replay_B", "replay_A", "evaluation", "evaluation_A", "evaluations", "replays"):
        (tmp_path / name).mkdir()
    (tmp_path / "replay_file").touch()
    (tmp_path / "replay_link").symlink_to(tmp_path / "replay_A")
    run = RunFolder(tmp_path)
    assert [path.name for path in run.replays()] == ["replay_A", "replay_B"]
    assert [path.name for path in run.evaluations()] == ["evaluation", "evaluation_A"]


def test_a_folder_of_somebody_else_is_never_begun_anew(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="it exists already"):
        RunFolder.create(str(tmp_path), str(tmp_path / "thesis"), "tag", anew=True)


def test_a_run_keeps_its_bars_until_the_new_ones_are_on_the_disk(tmp_path, monkeypatch):
    first, second = (BarTable.from_arrays([[p, p, p, p, 1.0]] * 20) for p in (100.0, 101.0))
    run = RunFolder.create(str(tmp_path), str(tmp_path / "run"), "tag")
    run.replace_bars(first)

    def refuse(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse)
        run.replace_bars(first)  # they are there
        with pytest.raises(OSError, match="No space left"):
            run.replace_bars(second)
    assert BarTable.load(run.bars).ohlcv[0, 0] == 100.0
    run.replace_bars(second)
    assert BarTable.load(run.bars).ohlcv[0, 0] == 101.0
    assert list(run.path.iterdir()) == [run.bars]


def test_who_goes_on_with_a_run_finds_the_bars_that_a_kill_left_without_their_name(tmp_path):
    run = RunFolder.create(str(tmp_path), str(tmp_path / "run"), "tag")
    run.replace_bars(BarTable.from_arrays([[100.0, 100.0, 100.0, 100.0, 1.0]] * 20))
    run.bars.rename(_doomed(run.bars))
    run.lock()
    assert run.bars.is_dir()
    assert BarTable.load(run.bars).ohlcv[0, 0] == 100.0
