"""Runs in folders of their own have registries of their own, and none is silent of the others."""

import dataclasses
import shutil

import pytest

from pipelines.evaluate import evaluate
from pipelines.held_out.looks_beside import candidates_beside
from pipelines.judging.opening import Opening
from pipelines.judging.registry import Registry

FIRST = Opening(
    asset="BTC/USD", source_sha256="aa", first_bar="2025-01-01", last_bar="2025-02-01",
    split="test", run="a", config_sha256="1", checkpoint_sha256="1", purpose="evaluate",
)  # fmt: skip
OTHER = dataclasses.replace(FIRST, checkpoint_sha256="2")


@pytest.fixture
def registry(tmp_path):
    found = Registry(tmp_path / "1" / "2" / "runs" / "openings.jsonl")
    found.open(FIRST)
    return found


@pytest.mark.parametrize("place", ["1/2/runs/b", "1/2/more", "1/2", "1", "."])
def test_candidates_of_registries_below_beside_and_above_are_known(registry, tmp_path, place):
    near = Registry(tmp_path / place / "openings.jsonl")
    near.open(FIRST)
    near.open(OTHER)
    near.open(dataclasses.replace(OTHER, purpose="replay"))
    near.open(dataclasses.replace(FIRST, checkpoint_sha256="3", asset="ETH/USD", source_sha256="b"))
    assert candidates_beside(registry, FIRST) == 1


def test_those_that_the_registry_itself_counts_are_not_counted_again(registry, tmp_path):
    near = Registry(tmp_path / "1" / "2" / "more" / "openings.jsonl")
    near.open(OTHER)
    registry.bring(near.carried())
    assert candidates_beside(registry, FIRST) == 0


def test_what_is_no_registry_knows_nobody(registry, tmp_path):
    near = tmp_path / "1" / "2" / "more" / "openings.jsonl"
    Registry(near).open(OTHER)
    near.write_text("none\n")
    (tmp_path / "1" / "2" / "folder" / "openings.jsonl").mkdir(parents=True)
    assert candidates_beside(registry, FIRST) == 0


def test_a_folder_near_by_that_cannot_be_asked_hides_no_other_and_ends_nothing(registry, tmp_path):
    """A mount whose machine is gone, in the folder of somebody's home: its look is counted."""
    near = tmp_path / "1" / "2"
    (near / "mount").symlink_to("n" * 300)
    with pytest.raises(OSError, match="name too long"):
        (near / "mount").stat()
    (near / "loop").symlink_to("loop")
    Registry(near / "more" / "openings.jsonl").open(OTHER)
    assert candidates_beside(registry, FIRST) == 1


def test_a_verdict_says_that_runs_in_another_folder_have_looked(three_runs, tmp_path):
    for folder, run in zip(("first", "second"), three_runs[::2], strict=True):
        shutil.copytree(run, tmp_path / "runs" / folder / "a")
        found = evaluate([tmp_path / "runs" / folder / "a"], draws=5)
        said = [each for each in found.verdict.reasons if each.startswith("Registries near")]
        assert found.looks.trials == 1
        assert len(said) == (folder == "second")
    assert "know 1 more candidate at these bars" in said[0]
