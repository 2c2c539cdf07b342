"""A number that is none stops a training before the optimiser's step, named and kept."""

import json

import pytest
import safetensors.torch
import torch
from tensordict import TensorDict

from pipelines.benchmarks.faults_numbers import PLACES, inject_numbers
from pipelines.non_finite import find_non_finite, keep_evidence, refuse_non_finite
from pipelines.non_finite_error import NonFiniteError


@pytest.mark.parametrize("seed", [0, 1])
def test_a_number_that_is_none_stops_the_training_before_the_step(tmp_path, seed):
    rows = inject_numbers(tmp_path, len(PLACES), seed=seed)
    assert [row for row in rows if row["held"] != 1 or row["tried"] != 1] == []


def test_the_place_is_named_and_the_tensors_are_kept(tmp_path):
    batch = TensorDict({"next": {"reward": torch.zeros(2, 3, 4, 1)}}, [2, 3, 4])
    refuse_non_finite(batch, [("next", "reward")])
    batch["next", "reward"][1, 2, 3] = torch.inf
    batch["next", "reward"][1, 2, 1] = torch.nan
    with pytest.raises(NonFiniteError) as caught:
        refuse_non_finite(batch, [("next", "reward")])
    assert "next/reward = nan at [path, account, step] [1, 2, 1]" in str(caught.value)
    assert "at 1 more places" in str(caught.value)
    folder = keep_evidence(caught.value, tmp_path / "debug")
    assert json.loads((folder / "place.json").read_text())["place"] == str(caught.value)
    kept = safetensors.torch.load_file(folder / "tensors.safetensors")
    assert kept["next/reward"].isnan().sum() == 1


def test_whole_numbers_and_finite_ones_are_no_suspects():
    good = {"a": torch.arange(3), "b": torch.ones(2, dtype=torch.bool), "c": torch.zeros(0)}
    assert find_non_finite(good) is None
    assert find_non_finite(good | {"d": torch.tensor([0.0, torch.nan])}) == (
        "non-finite d = nan at [1]"
    )
