"""The sweep that is shipped: what W&B's own agent would run is a command line of the training."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from wandb import wandb_agent

from pipelines.config import RunConfig, compose_config
from pipelines.overrides import list_keys

ROOT = Path(__file__).resolve().parents[1]
SWEEP = yaml.safe_load((ROOT / "configs" / "sweep" / "ppo_transformer.yaml").read_text("utf-8"))


def trials():
    """For every value of every parameter a trial that has it, as the server sends them."""

    def ends(spec):
        return spec.get("values") or [spec["min"], spec["max"]]

    first = {name: ends(spec)[0] for name, spec in SWEEP["parameters"].items()}
    return [first | {n: v} for n, spec in SWEEP["parameters"].items() for v in ends(spec)]


def command_of(trial, monkeypatch, folder):
    """What the agent starts for a trial, without starting it."""
    started = []
    monkeypatch.chdir(folder)

    def start(**words):
        started.append(words)
        return SimpleNamespace()

    monkeypatch.setattr(wandb_agent, "AgentProcess", start)
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")  # which the agent sets
    agent = object.__new__(wandb_agent.Agent)
    agent.__dict__.update(
        _in_jupyter=False, _function=None, _run_processes={}, _forward_signals=False,
        _sweep_command=list(SWEEP["command"]), _log=[], _api=SimpleNamespace(),
    )  # fmt: skip
    args = {name: {"value": value} for name, value in trial.items()}
    agent._command_run({"run_id": "trial1", "program": SWEEP["program"], "args": args})
    (words,) = started
    return words


@pytest.mark.parametrize("trial", trials(), ids=str)
def test_every_trial_is_a_command_line_that_the_training_takes(trial, monkeypatch, tmp_path):
    env, interpreter, program, *argv = command_of(trial, monkeypatch, tmp_path)["command"]
    assert (env, interpreter) == ("/usr/bin/env", "python")
    assert (ROOT / program).is_file()
    cfg = compose_config("ppo_transformer", argv)
    for name, value in trial.items():
        owner = cfg
        for part in name.split("."):
            owner = owner[part] if isinstance(owner, dict) else getattr(owner, part)
        assert owner == value, name
    assert not cfg.replay.enabled, "no trial opens the test split"


def test_the_metric_is_one_that_trainings_log_of_the_validation_split():
    assert SWEEP["metric"] == {"name": "val/best_log_growth", "goal": "maximize"}
    assert set(SWEEP["parameters"]) <= set(list_keys(RunConfig))
