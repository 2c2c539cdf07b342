"""The example programs, as a user runs them."""

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

from envs.data_config import DataConfig
from envs.trace_schema import action_values
from pipelines.held_out.replay_inputs import load_inputs
from pipelines.held_out.rollout import play_tiles
from pipelines.train_config import TrainConfig
from random_walk import write_bars
from untrained_run import ENV, MODEL, make_untrained

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_hand_made_network_learns_the_sine(capsys) -> None:
    rewards = load("train_with_your_own_network").main(iterations=15)
    assert rewards[0] < 0.0
    assert rewards[-1] > 0.15


def test_a_policy_of_one_s_own_is_judged_beside_a_rule_of_one_s_own(capsys) -> None:
    """On a market whose next move is given away: a network finds it, and an idle one does not."""
    example = load("judge_your_own_policy")
    verdict = example.main(iterations=30)
    assert verdict.word == "edge"
    assert any("better than my-rule" in reason for reason in verdict.reasons)
    assert "mine" in capsys.readouterr().out
    table = example.make_table()
    assert table.meta.feature_names[-1] == "distance_8"
    warm_up = torch.isnan(table.features[:, -1])
    assert 0 < warm_up.sum() <= 7 * (int(table.segment[-1]) + 1)
    assert not table.tradable[warm_up].any()


def test_the_same_program_judges_on_a_file_of_bars(monkeypatch, capsys) -> None:
    """As its first lines say: nothing in it needs the market on which the move is given away."""
    example = load("judge_your_own_policy")
    monkeypatch.setattr(example, "DATA", DataConfig())
    assert example.main(iterations=1).word == "not enough data"  # 12 days
    assert "my_rule" in capsys.readouterr().out


def test_the_encoder_takes_windows_of_one_s_own(capsys) -> None:
    state = load("encode_your_own_windows").main()
    assert state.shape == (5, 64)
    assert torch.isfinite(state).all()


@pytest.mark.parametrize("encoder", ["mlp", "streaming"])
def test_the_last_bar_is_decided_on_as_a_replay_does(encoder, tmp_path, capsys) -> None:
    """From a file that ends there, of later bars, at a fresh account: where tiles begin."""
    own = write_bars(tmp_path / "own.parquet", 1_400)
    model = dataclasses.replace(MODEL, encoder=encoder)
    data = DataConfig(path=str(own), timeframes=["30min"])
    train = TrainConfig(steps=8, minibatch=16)
    run = make_untrained(tmp_path / "run", own, seed=0, model=model, data=data, train=train)
    whole = write_bars(tmp_path / "whole.parquet", 1_600, seed=3, start="2026-01-01")
    inputs = load_inputs(
        run, data_path=str(whole), split="test", episodes=None, device="cpu", checkpoint="last"
    )
    played = play_tiles(inputs.table, inputs.cfg, inputs.bounds, inputs.policy)
    frame, file, example = (
        pd.read_parquet(whole),
        tmp_path / "now.parquet",
        "decide_on_the_last_bar",
    )
    seen = set()
    for tile, first in enumerate(inputs.bounds[:, 0].tolist()):
        frame[: first + 1].to_parquet(file)
        meant = load(example).main(str(run), str(file))
        values = action_values(inputs.cfg)
        replayed = {h: values[h][int(played.batch["action", h][tile, 0, 0])] for h in values}
        assert meant == replayed
        seen.add(tuple(meant.values()))
    assert len(seen) > 1  # not one action, whatever the bars
    assert "after the bar of 2026-" in capsys.readouterr().out
    frame[:300].to_parquet(file)
    with pytest.raises(ValueError, match=r"nan in column 0 is not allowed: .* in warm-up"):
        load(example).main(str(run), str(file))


@pytest.mark.parametrize(
    "account",
    [torch.full((8,), torch.nan), torch.tensor([0.0] * 7 + [torch.inf]), torch.ones(1)],
    ids=["nan", "inf", "one"],
)
def test_an_account_that_is_none_is_not_decided_for(account, tmp_path, capsys) -> None:
    """Of logits that are no numbers the first would be taken, a short; one number was all eight."""
    own = write_bars(tmp_path / "own.parquet", 1_400)
    run = make_untrained(tmp_path / "run", own, seed=0)
    decide = load("decide_on_the_last_bar").main
    with pytest.raises(ValueError, match=r"account=\[.*\]: 8 finite numbers are needed"):
        decide(str(run), str(own), account)
    held = torch.tensor([1, 0.01, 0, 0.5, 0.3, 2, 4, 0.1], dtype=torch.float64)
    assert set(decide(str(run), str(own), held)) == set(action_values(ENV))


def test_what_cannot_be_decided_on_is_said_in_a_line(tmp_path) -> None:
    program = [sys.executable, EXAMPLES / "decide_on_the_last_bar.py", tmp_path / "run", "b.csv"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path / 'run'}: no such folder\n"


def test_stable_baselines_trains_on_a_known_market(capsys) -> None:
    pytest.importorskip("stable_baselines3")
    mean = load("train_with_stable_baselines3").main(frames=8_192)
    assert np.isfinite(mean)
