"""Held-out bars are opened once: every look is written down before it, counted and told."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from pipelines.config import compose_config
from pipelines.evaluate import evaluate, main
from pipelines.held_out import played_seed
from pipelines.held_out.candidate import load_candidate
from pipelines.held_out.evaluate_config import EvaluateConfig
from pipelines.held_out.looks import is_above, open_everywhere, open_replay
from pipelines.held_out.replay_inputs import load_inputs
from pipelines.judging.registry import LEVELS, Registry, find_registry
from pipelines.ppo_transformer import main as train_run
from pipelines.replay import replay
from untrained_run import WORDS


def test_the_look_is_written_down_before_any_bar_is_played(three_runs, tmp_path, monkeypatch):
    registry = Registry(tmp_path / "openings.jsonl")

    def killed(*_, **__):
        assert len(registry.known().carried) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(played_seed, "play_tiles", killed)
    told = {
        "run": str(three_runs[0]),
        "registry": str(registry.file.path),
        "out": str(tmp_path / "e"),
    }
    with pytest.raises(KeyboardInterrupt):
        main(EvaluateConfig(**told))
    monkeypatch.undo()
    found = main(EvaluateConfig(**told, draws=5))
    assert (found.looks.earlier, found.looks.trials) == (1, 1)
    assert any("Not a first look" in reason for reason in found.verdict.reasons)
    values = found.to_json()
    assert values["looks"]["first"] is False
    assert values["verdict"]["findings"]["earlier_openings"] == 1
    assert len(registry.verify([found.receipt])) == 3


def test_a_folder_that_cannot_be_written_is_refused_before_the_look(
    three_runs, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("os.access", lambda path, _: path != tmp_path / "e")
    with pytest.raises(SystemExit) as ended:
        evaluate(three_runs[:1], out=tmp_path / "e", registry=tmp_path / "o.jsonl", draws=5)
    assert ended.value.code == 5
    assert f"error: {tmp_path / 'e'}: cannot be written" in capsys.readouterr().err
    assert not (tmp_path / "o.jsonl").exists()


def test_a_link_that_a_person_has_named_is_followed_and_no_other(three_runs, tmp_path, capsys):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    evaluate(three_runs[:1], out=tmp_path / "link", registry=tmp_path / "o.jsonl", draws=5)
    assert (tmp_path / "disk" / "evaluation.json").is_file()
    run = shutil.copytree(three_runs[0], tmp_path / "run")
    shutil.rmtree(run / "evaluation", ignore_errors=True)
    (run / "evaluation").symlink_to(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        evaluate([run], registry=tmp_path / "o.jsonl", draws=5)
    assert "symbolic link; nothing is written through one" in capsys.readouterr().err


def test_another_candidate_on_the_same_bars_is_another_trial(three_runs, tmp_path):
    registry = tmp_path / "openings.jsonl"
    first = evaluate(three_runs[:1], out=tmp_path / "1", registry=registry, draws=5)
    second = evaluate(three_runs[2:], out=tmp_path / "2", registry=registry, draws=5)
    assert [found.looks.trials for found in (first, second)] == [1, 2]
    assert second.verdict.findings.trials == 2
    opening = Registry(registry).known().carried[0].opening
    assert first.bars.first_bar == opening.first_bar
    assert first.bars.last_bar == opening.last_bar


def test_no_run_of_a_test_lies_under_a_registry_of_this_machine():
    """A registry beside other runs in the folder of temporary files was one above the tests'."""
    root = Path(os.environ["PYTEST_DEBUG_TEMPROOT"]).resolve()
    folder = root / "pytest-of-somebody" / "pytest-0" / "test_0"  # as pytest has them below it
    assert Path(tempfile.gettempdir()).resolve() not in [folder, *folder.parents][:LEVELS]


def test_a_registry_begun_anew_is_refused(three_runs, tmp_path, capsys):
    registry = tmp_path / "openings.jsonl"
    evaluate(three_runs[:1], out=tmp_path / "1", registry=registry, draws=5)
    for path in tmp_path.glob("openings.jsonl*"):
        path.unlink()
    Registry(registry).open(load_candidate("other", [[three_runs[2]]]).opening())
    with pytest.raises(SystemExit) as ended:
        evaluate(three_runs[:1], out=tmp_path / "1", registry=registry, draws=5)
    assert ended.value.code == 2
    assert "Either that was begun anew, or the run was made on another" in capsys.readouterr().err


def test_a_replay_of_test_bars_is_a_look_and_one_of_others_is_none(three_runs, tmp_path, capsys):
    copies = [tmp_path / name for name in ("seen", "other")]
    for run, copy in zip(three_runs[:2], copies, strict=True):
        shutil.copytree(run, copy)
    replay(copies[0], split="val")
    assert not (tmp_path / "openings.jsonl").exists()
    replay(copies[0], checkpoint="best")
    assert "Not a first look" not in capsys.readouterr().out
    replay(copies[0], checkpoint="best")
    assert "had been opened once before; 1 candidate has" in capsys.readouterr().out
    again = evaluate(copies[:1], draws=5)
    assert (again.looks.earlier, again.looks.trials) == (2, 1)  # the same checkpoint
    assert any("opened 2 times before" in text for text in again.verdict.reasons)
    other = evaluate(copies[1:], draws=5)
    assert (other.looks.earlier, other.looks.trials) == (3, 2)


def test_a_run_from_elsewhere_is_told_to_bring_its_registry(three_runs, tmp_path, capsys):
    there, here = tmp_path / "there" / "runs", tmp_path / "here" / "runs"
    shutil.copytree(three_runs[0], there / "a")
    evaluate([there / "a"], draws=5)
    shutil.copytree(there / "a", here / "a")
    shutil.copytree(three_runs[1], here / "b")
    evaluate([here / "b"], draws=5)
    with pytest.raises(SystemExit):
        evaluate([here / "a"], draws=5)
    assert "made on another machine: then bring its registry" in capsys.readouterr().err
    brought = here / "from_there"
    brought.mkdir()
    for file in there.glob("openings.jsonl*"):
        shutil.copy(file, brought)
    shutil.move(here / "a", brought)
    assert evaluate([brought / "a"], draws=5).looks.earlier == 1


def test_a_damaged_registry_is_refused_before_a_training(tmp_path, capsys):
    registry = tmp_path / "openings.jsonl"
    registry.write_text("{}\n")
    words = [*WORDS, f"run.dir={tmp_path / 'run'}", "wandb.mode=disabled"]
    with pytest.raises(SystemExit) as ended:
        train_run(compose_config("ppo_transformer", words))
    assert ended.value.code == 2
    assert "openings.jsonl" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_registry_above_a_run_counts_it_and_two_are_refused(three_runs, tmp_path, capsys):
    inner = tmp_path / "wf" / "runs" / "a"
    shutil.copytree(three_runs[0], inner)
    shutil.copytree(three_runs[1], tmp_path / "lone" / "b")
    Registry(tmp_path / "openings.jsonl").open(load_candidate("other", [[three_runs[2]]]).opening())
    found = evaluate([inner], draws=5)
    assert (found.looks.earlier, found.looks.trials) == (1, 2)
    Registry(tmp_path / "lone" / "openings.jsonl").open(
        load_candidate("o", [[three_runs[2]]]).opening()
    )
    with pytest.raises(SystemExit):
        evaluate([inner, tmp_path / "lone" / "b"], draws=5)
    assert "registry=PATH" in capsys.readouterr().err


def test_a_run_is_counted_where_it_lies_by_whatever_way_it_is_reached(three_runs, tmp_path):
    runs, link = tmp_path / "disk" / "runs", tmp_path / "runs"
    shutil.copytree(three_runs[0], runs / "a")
    link.symlink_to(runs)
    (tmp_path / "one").symlink_to(runs / "a")
    known = (runs / "openings.jsonl").resolve()
    for path in (runs / "a", link / "a", tmp_path / "one"):
        assert find_registry([path]) == known
        assert is_above(known, [path])
    assert not is_above(tmp_path / "other" / "openings.jsonl", [runs / "a"])


def test_of_several_registries_above_the_runs_the_named_one_keeps_the_look(three_runs, tmp_path):
    candidates = [load_candidate("x", [[run]]) for run in three_runs[:2]]
    books = [Registry(tmp_path / name / "openings.jsonl") for name in "ab"]
    for book, candidate in zip(books, candidates, strict=True):
        book.open(candidate.opening())
    runs = [tmp_path / name / "run" for name in "ab"]
    for named in (*books, Registry(tmp_path / "c.jsonl")):
        keeper, receipt = open_everywhere(candidates[0].opening(), named.file.path, runs)
        assert keeper.file.path == named.file.path
        assert all(book.knows(receipt) for book in (*books, named))
    assert keeper.looks(receipt).trials == 2


def test_a_registry_that_takes_nothing_is_refused_before_the_look(
    three_runs, tmp_path, monkeypatch
):
    candidate = load_candidate("x", [[three_runs[0]]])
    home = Registry(tmp_path / "runs" / "openings.jsonl")
    home.open(candidate.opening())
    named, make = tmp_path / "closed" / "openings.jsonl", Path.mkdir

    def refuse(path, **words):
        if path.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        make(path, **words)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match="closed"):
        open_everywhere(candidate.opening(), named, [tmp_path / "runs" / "a"])
    assert len(home.known().carried) == 1


def test_a_replay_cannot_be_hidden_in_a_registry_of_its_own(three_runs, tmp_path):
    for name, run in zip("ac", three_runs[::2], strict=True):
        shutil.copytree(run, tmp_path / "runs" / name)
    home = tmp_path / "runs" / "openings.jsonl"
    for name, registry in (("c", home), ("a", tmp_path / "hidden.jsonl")):
        inputs = load_inputs(
            tmp_path / "runs" / name, data_path=None, split="test", episodes=1, device="cpu"
        )
        said = open_replay([inputs], registry)
    assert "had been opened once before; 2 candidates have" in said[0]
    assert [look.opening.run for look in Registry(home).known().carried] == ["c", "a"]


def test_a_moved_evaluation_still_knows_its_registry(three_runs, tmp_path, capsys):
    first = tmp_path / "first"
    shutil.copytree(three_runs[0], first / "a")
    evaluate([first / "a"], draws=5)
    moved = tmp_path / "moved"
    shutil.move(first, moved)
    assert evaluate([moved / "a"], draws=5).looks.earlier == 1
    for path in moved.glob("openings.jsonl*"):
        path.unlink()
    with pytest.raises(SystemExit):
        evaluate([moved / "a"], draws=5)
    assert "openings.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "{}", '{"receipt": {"file": "x"}}'])
def test_an_evaluation_that_cannot_be_read_is_named_before_any_look(
    three_runs, tmp_path, text, capsys
):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "evaluation.json").write_text(text)
    with pytest.raises(SystemExit):
        evaluate(three_runs[:1], out=tmp_path / "e", registry=tmp_path / "openings.jsonl", draws=5)
    assert "evaluation.json: no evaluation" in capsys.readouterr().err
    assert not (tmp_path / "openings.jsonl").exists()
