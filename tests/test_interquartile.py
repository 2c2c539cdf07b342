"""The interquartile mean and its interval, against sums done by hand and SciPy's trimmed mean."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from pipelines.judging.interquartile import interquartile_mean, interval


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([1.0, 2.0, 3.0, 100.0], 2.5),
        ([5.0], 5.0),
        # Of five, the middle three count 3/4, 1 and 3/4.
        ([0.0, 1.0, 2.0, 3.0, 50.0], (0.75 * 1 + 2 + 0.75 * 3) / 2.5),
        ([1.0, 1.0, 1.0, 1.0, float("inf")], 1.0),
    ],
)
def test_the_interquartile_mean_is_that_of_the_middle_half(values, mean):
    assert interquartile_mean(values) == pytest.approx(mean)
    assert interquartile_mean(values[::-1]) == pytest.approx(mean)


def test_most_runs_that_never_arrived_make_a_mean_that_never_arrives():
    assert interquartile_mean([1.0, 2.0, np.inf, np.inf, np.inf]) == np.inf


def test_an_interval_holds_its_mean_and_shrinks_to_a_point():
    low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert low < 3.0 < high
    assert interval([2.0] * 5) == (2.0, 2.0)


@pytest.mark.parametrize("values", [[5.0, 1.0, 2.0], [1.0, 0.0], [3.0, 1.0, 4.0, 1.5, 9.0]])
def test_an_interval_is_that_of_all_the_seeds_that_might_have_been_picked(values):
    means = [interquartile_mean(picked) for picked in product(values, repeat=len(values))]
    ends = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    assert interval(values, 20_000) == pytest.approx(tuple(ends), abs=0.21)
    assert interval(values) == interval(values[::-1]) == interval(sorted(values))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_whole_quarters_are_trimmed_as_scipy_trims_them(values):
    four = values * 4  # whatever the number, a quarter of it is whole
    assert interquartile_mean(four) == pytest.approx(trim_mean(four, 0.25), rel=1e-9, abs=1e-9)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9), st.floats(-5, 5), st.floats(0.1, 5))
def test_it_moves_and_stretches_with_its_values(values, shift, scale):
    moved = interquartile_mean(np.asarray(values) * scale + shift)
    expected = interquartile_mean(values) * scale + shift
    assert moved == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert min(values) - 1e-9 <= interquartile_mean(values) <= max(values) + 1e-9
