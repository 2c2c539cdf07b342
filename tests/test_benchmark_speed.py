"""What the speed suite counts; what it times is no test's business."""

import pytest
import torch

from envs.bars import DataConfig
from envs.table import build_table
from pipelines import benchmark_speed
from pipelines.benchmark_speed import gemm_flops, time_speed


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bars") / "bars"
    build_table(DataConfig(), window=64, episode_bars=96).save(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_speed, "NETWORKS", ("tiny",))
        patch.setattr(benchmark_speed, "SHARING", (1, 4))
        return time_speed(folder, 1, 2)


def test_a_window_that_is_shared_costs_its_share(rows):
    alone, shared = (row["update, GFLOP a frame"] for row in rows)
    assert shared == pytest.approx(alone / 4, rel=0.2)  # what an account costs is not shared


def test_every_column_is_measured(rows):
    for row in rows:
        assert row["lanes"] == 8 * row["accounts"]
        for column in ("env", "env + policy", "training"):
            assert row[f"{column}, frames/s"] > 0
        assert row["share of the GEMM peak"] > 0
        assert row["bytes a stored frame"] < 1_000


def test_the_peak_is_measured():
    assert gemm_flops(torch.device("cpu"), 1) > 0
