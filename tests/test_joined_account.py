"""An equal share of each seed."""

import numpy as np
import pandas as pd
import pytest

from pipelines.held_out.joined_account import join
from pipelines.judging.period_returns import aggregate


def curves(count, bars=120 * 96, seed=0):
    times = pd.date_range("2024-01-01T05:00", periods=bars, freq="15min", tz="UTC")
    rng = np.random.default_rng(seed)
    return {
        f"seed {i}": pd.Series(np.exp(np.cumsum(rng.normal(0, 1e-3, bars))), times)
        for i in range(count)
    }


def test_at_the_end_of_a_period_it_is_what_the_verdict_judges():
    seeds = curves(3)
    returns = aggregate(seeds, 900.0)
    joint = join(seeds, returns)
    assert aggregate({"joint": joint}, 900.0).of("joint") == pytest.approx(
        returns.values.mean(axis=1).to_numpy(), rel=1e-9, abs=1e-15
    )
    assert joint.iloc[10] == pytest.approx(np.mean([c.iloc[10] for c in seeds.values()]))


def test_one_account_is_itself():
    (only,) = curves(1).values()
    joint = join({"a": only}, aggregate({"a": only}, 900.0))
    assert joint.to_numpy() == pytest.approx(only.to_numpy(), rel=1e-12)


def test_an_account_that_is_lost_keeps_nothing_of_its_share():
    seeds = curves(2)
    seeds["seed 1"] = seeds["seed 1"].iloc[: 50 * 96] * 0.0
    returns = aggregate(seeds, 900.0)
    joint = join(seeds, returns)
    judged = np.prod(1.0 + returns.values.mean(axis=1))
    assert joint.iloc[-1] == pytest.approx(judged, rel=1e-9)
