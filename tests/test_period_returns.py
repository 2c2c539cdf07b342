"""Returns over periods: what is added up to what, and how long a period is."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.judging.period_returns import DAY_S, aggregate, growth_curve


def curve(growth, *, interval_s=60.0, start="2025-03-01"):
    times = pd.date_range(start, periods=len(growth), freq=f"{interval_s}s", tz="UTC")
    return pd.Series(np.asarray(growth, dtype=float), index=times)


def bars_of(days, interval_s=60.0, seed=0):
    steps = np.random.default_rng(seed).normal(0, 1e-3, round(days * DAY_S / interval_s))
    return curve(np.exp(steps.cumsum()), interval_s=interval_s)


@pytest.mark.parametrize(
    ("days", "interval_s", "hours"),
    [
        (100, 900, 24),
        (99, 900, 12),
        (50, 900, 12),
        (30, 900, 6),
        (11.25, 900, 2),
        (4, 60, 0.5),
        (0.2, 60, 5 / 60),  # the shortest, though it is not enough
        (2, 900, 1),  # a shorter one would hold less than four bars
        (300, 6 * 3600, 24),
        (300, 12 * 3600, 12),  # bars that are long themselves
    ],
)
def test_periods_are_the_longest_of_which_there_are_enough(days, interval_s, hours):
    returns = aggregate({"a": bars_of(days, interval_s)}, interval_s)
    assert returns.period_s == pytest.approx(3600 * hours)
    assert returns.days == pytest.approx(days, rel=0.01)
    assert returns.per_year == pytest.approx(365 * 24 / hours, rel=0.02)


@given(st.integers(1, 3000), st.integers(0, 5))
@settings(max_examples=30)
def test_nothing_is_lost_between_the_bars_and_the_periods(bars, seed):
    growth = bars_of(bars / 1440, seed=seed)
    returns = aggregate({"a": growth}, 60.0)
    assert np.prod(1 + returns.of("a")) == pytest.approx(growth.iloc[-1], rel=1e-12)
    assert returns.bars == bars


def test_days_begin_at_midnight_utc():
    growth = curve(np.r_[np.full(24, 1.1), np.full(24, 1.1 * 1.2)], interval_s=3600)
    long = curve(np.full(24 * 120, 1.1 * 1.2), interval_s=3600, start="2025-03-03")
    returns = aggregate({"a": pd.concat([growth, long])}, 3600.0)
    assert returns.values.index[0] == pd.Timestamp("2025-03-01", tz="UTC")
    assert returns.of("a")[:3].tolist() == pytest.approx([0.1, 0.2, 0.0])


def test_a_hole_is_no_quiet_time():
    first, second = bars_of(60), bars_of(60, seed=1)
    second.index = second.index + pd.Timedelta(days=500)
    returns = aggregate({"a": pd.concat([first, second])}, 60.0)
    assert len(returns.values) == 120
    assert returns.days == pytest.approx(120)
    assert returns.per_year == pytest.approx(365)


def test_an_account_that_is_ruined_loses_all_once_and_then_nothing():
    lives = bars_of(120, 3600)
    dies = lives.iloc[:50].copy()
    dies.iloc[-1] = 0.0
    returns = aggregate({"lives": lives, "dies": dies}, 3600.0)
    assert returns.of("dies").min() == -1.0
    assert (returns.of("dies")[3:] == 0.0).all()
    assert returns.of("lives").tolist() == aggregate({"a": lives}, 3600.0).of("a").tolist()


def test_a_curve_is_the_chained_equity_of_a_trace():
    rows = pd.DataFrame({"equity": [110.0, 121.0, 50.0], "tile": [0, 0, 1]})
    rows["timestamp"] = pd.date_range("2025-01-01", periods=3, freq="min", tz="UTC")
    assert growth_curve(rows, 100.0).tolist() == pytest.approx([1.1, 1.21, 0.605])


def test_no_bars_are_refused():
    with pytest.raises(ValueError, match="no bars were played"):
        aggregate({}, 60.0)
    with pytest.raises(ValueError, match="no bars were played"):
        aggregate({"a": curve([])}, 60.0)
