"""The example programs, as a user runs them."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from envs.data_config import DataConfig

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


def test_stable_baselines_trains_on_a_known_market(capsys) -> None:
    pytest.importorskip("stable_baselines3")
    mean = load("train_with_stable_baselines3").main(frames=8_192)
    assert np.isfinite(mean)
