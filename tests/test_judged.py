"""Verdicts and replays of a run that has trained on since say which checkpoint they are of."""

import json

import pytest

from written_runs import shown, write_runs


@pytest.fixture
def runs(tmp_path):
    return write_runs(tmp_path / "runs")


@pytest.fixture
def trained_on(runs):
    """A finished run whose verdict and replay name a checkpoint, and how to add another one."""
    run = runs / "good"
    digits = iter("abcdef")

    def add(iteration):
        folder = run / "checkpoints" / f"{iteration:09d}"
        folder.mkdir(exist_ok=True)
        (folder / "manifest.json").write_text("{}")
        sha256 = next(digits) * 64
        (folder / "manifest.sha256").write_text(f"{sha256}  manifest.json\n")
        return {"iteration": folder.name, "sha256": sha256}

    named = add(10)
    path = run / "evaluation" / "evaluation.json"
    seeds = [{"checkpoints": [named]}]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seeds": seeds}))
    path = run / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checkpoint": named}))
    return add


@pytest.mark.parametrize(
    ("iteration", "words"),
    [(24, "iteration 10 of 24"), (10, "iteration 10, trained anew since")],
)
def test_results_of_an_earlier_checkpoint_say_so(runs, trained_on, iteration, words):
    found = shown(runs, "good")
    assert (found["verdict"], found["return"]) == ("no edge", "+30.00 %")
    assert "iteration" not in found["notes"]
    trained_on(iteration)
    found = shown(runs, "good")
    assert found["verdict"] == f"no edge ({words})"
    assert found["return"] == f"+30.00 % ({words})"
    assert found["buy-and-hold"] == "-2.00 %"
    assert f"the verdict is of {words};" in found["notes"]
    assert f"the replay is of {words};" in found["notes"]


@pytest.mark.parametrize("seeds", [None, 3, [3], [{"checkpoints": 3}], [{"checkpoints": [3, {}]}]])
def test_an_evaluation_that_names_no_checkpoint_is_shown_as_it_is(runs, trained_on, seeds):
    path = runs / "good" / "evaluation" / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seeds": seeds}))
    trained_on(24)
    assert shown(runs, "good")["verdict"] == "no edge"
