"""Buy-and-hold at the policy's risk."""

import numpy as np
import pandas as pd
import pytest

from pipelines.held_out.risk_matched import risk_matched

TIMES = pd.date_range("2024-01-01", periods=500, freq="h", tz="UTC")


def curve(spread, seed, bars=500):
    moves = np.random.default_rng(seed).normal(1e-4, spread, bars)
    return pd.Series(np.cumprod(1.0 + moves), TIMES[:bars])


@pytest.mark.parametrize("spread", [0.002, 0.03])
def test_the_share_is_as_volatile_as_the_policy(spread):
    hold, policy = curve(0.01, 0), curve(spread, 1)
    growth, share = risk_matched(hold, policy)
    volatility = [c.to_numpy()[1:] / c.to_numpy()[:-1] - 1.0 for c in (growth, policy)]
    assert np.std(volatility[0]) == pytest.approx(np.std(volatility[1]), rel=0.02)
    assert share == pytest.approx(spread / 0.01, rel=0.15)
    moves = np.diff(hold.to_numpy(), prepend=1.0) / np.r_[1.0, hold.to_numpy()[:-1]]
    assert growth.iloc[-1] == pytest.approx(np.prod(1.0 + share * moves))


def test_a_policy_that_does_nothing_has_no_risk_to_match():
    growth, share = risk_matched(curve(0.01, 0), pd.Series(1.0, TIMES))
    assert share == 0.0
    assert (growth == 1.0).all()


def test_a_market_that_stands_still_matches_nothing():
    assert risk_matched(pd.Series(1.0, TIMES), curve(0.01, 0))[1] == 0.0


def test_a_ruined_policy_stands_still_from_then_on():
    policy = curve(0.01, 3, bars=200)
    padded = policy.reindex(TIMES).ffill()
    assert risk_matched(curve(0.01, 0), policy)[1] == risk_matched(curve(0.01, 0), padded)[1]
