"""Bars are opened for an evaluation where others who look with its runs count their looks."""

import dataclasses
import json
import shutil

from pipelines.evaluate import default_registry
from pipelines.held_out.candidate import load_candidate
from pipelines.held_out.evaluate_config import EvaluateConfig
from pipelines.held_out.opened_bars import open_bars
from pipelines.judging.registry import Registry


def test_the_registry_that_a_walk_forward_finds_is_at_home(three_runs, tmp_path):
    """It is looked for above the folder of it; its runs lie two levels below."""
    folder = tmp_path / "1" / "2" / "3" / "wf"
    run = folder / "runs" / "seed1_fold1"
    shutil.copytree(three_runs[0], run)
    candidate = dataclasses.replace(load_candidate("wf", [[run]]), folds=[{"fold": 1}])
    home = Registry(tmp_path / "openings.jsonl")
    home.open(load_candidate("other", [[three_runs[2]]]).opening())
    found = default_registry(EvaluateConfig(folds=2, out=str(folder)), folder)
    assert open_bars(candidate, found, folder).at_home
    opened = open_bars(candidate, tmp_path / "hidden.jsonl", folder)
    assert opened.looks.trials == 2
    assert len(home.known().carried) == 3


def test_looks_of_the_registry_that_counted_what_is_replaced_count(three_runs, tmp_path):
    """Under a registry of its own, and then at home into the same folder: no first look."""
    folder = tmp_path / "e"
    candidates = [load_candidate("x", [[run]]) for run in three_runs[::2]]
    for candidate in candidates:
        found = open_bars(candidate, tmp_path / "hidden.jsonl", folder)
    folder.mkdir()
    receipt = dataclasses.asdict(found.receipt) | {"file": "../hidden.jsonl"}
    (folder / "evaluation.json").write_text(json.dumps({"receipt": receipt}))
    home = tmp_path / "home" / "openings.jsonl"
    looks = open_bars(candidates[0], home, folder).looks
    assert (looks.earlier, looks.trials) == (2, 2)
    assert len(Registry(home).known().carried) == 3
