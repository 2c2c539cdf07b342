"""The band around the equity of a report."""

import math

import numpy as np
import pandas as pd
import pytest

from pipelines.reporting.report_equity import redrawn_band


def test_the_band_of_returns_that_are_all_alike_is_a_line():
    times = pd.date_range("2025-01-01", periods=20, freq="D", tz="UTC")
    band = redrawn_band(pd.Series(0.01, times), 86_400.0, draws=50)
    assert band.low == pytest.approx(1.01 ** np.arange(21))
    assert band.high == pytest.approx(band.low)
    assert band.times[0] == times[0]
    assert band.times[-1] == times[-1] + pd.Timedelta("1D")


def test_the_band_holds_what_it_says():
    times = pd.date_range("2025-01-01", periods=100, freq="D", tz="UTC")
    returns = pd.Series(np.random.default_rng(0).normal(0, 0.01, 100), times)
    band = redrawn_band(returns, 86_400.0, draws=2_000)
    # An account of independent returns: the log grows as a random walk of their spread.
    width = np.log(band.high[-1] / band.low[-1]) / (2 * 1.645 * returns.std() * math.sqrt(100))
    assert 0.8 < width < 1.3
