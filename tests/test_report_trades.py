"""What is said of the trades of a report."""

import numpy as np
import pandas as pd
import pytest

from pipelines.reporting.report_figures import draw_returns
from pipelines.reporting.report_sections import mix_words
from pipelines.reporting.report_trades import (
    HEADS,
    SeedTrades,
    by_group,
    holding_steps,
    return_steps,
    top_share,
)


def test_steps_of_returns_hold_every_trade_and_no_gain_beside_a_loss():
    returns = np.r_[np.random.default_rng(0).standard_t(2, 5_000) * 0.01, 4.0, -0.9]
    edges, counts = return_steps(returns)
    assert counts.sum() == len(returns)
    assert len(counts) <= 63
    assert np.isclose(edges, 0.0, atol=1e-12).any()
    losses = counts[edges[1:] <= 1e-12].sum()
    assert losses == (returns < 0).sum()
    assert return_steps(np.zeros(3))[1].sum() == 3


def test_bars_that_take_what_lies_beyond_them_say_so():
    """Else the worst trade seems to have lost a hundredth of what it did."""
    inside = np.repeat([-0.004, -0.002, 0.001, 0.004], 250)
    for far, first, last in (([], "-0.4 to", "to 0.4"), ([-0.9, 4.0], "under", "over")):
        figure = draw_returns(pd.DataFrame({"return_fraction": [*inside, *far]}))
        (bars,), title = figure["data"], figure["layout"]["xaxis"]["title"]["text"]
        assert (first in bars["text"][0], last in bars["text"][-1]) == (True, True)
        assert title.endswith("take all beyond") == bool(far)
        assert sum(bars["y"]) == 1_000 + len(far)


def test_holding_times_are_counted_in_steps_that_double():
    longest, counts = holding_steps(np.array([1, 2, 3, 4, 5, 8, 9]))
    assert longest.tolist() == [1, 2, 4, 8, 16]
    assert counts.tolist() == [1, 1, 2, 2, 1]


def test_groups_without_trades_have_no_mean_and_one_trade_no_interval():
    trades = pd.DataFrame({"return_fraction": [0.1, 0.3, 0.5]})
    found = by_group(trades, np.array([0, 0, 2]), 4)
    assert found["trades"].tolist() == [2, 0, 1, 0]
    assert found["mean"].tolist()[0] == pytest.approx(0.2)
    assert found["half_width"][0] == pytest.approx(12.706 * 0.1, rel=1e-4)
    assert found["half_width"].isna().tolist() == [False, True, True, True]


@pytest.mark.parametrize("trades", [2, 3, 5, 20])
def test_few_trades_have_an_interval_that_misses_once_in_twenty(trades):
    """With 1.96 standard errors two trades miss three times in ten, and noise looks like skill."""
    returns = np.random.default_rng(0).normal(0.0, 0.01, (4_000, trades))
    frame = pd.DataFrame({"return_fraction": returns.ravel()})
    found = by_group(frame, np.repeat(np.arange(4_000), trades), 4_000)
    missed = (found["mean"].abs() > found["half_width"]).mean()
    assert missed == pytest.approx(0.05, abs=0.015)


def test_the_share_of_the_best_trades_is_of_what_was_earned():
    assert top_share(pd.Series([5.0, 4, 3, 2, 1, 5, -100])) == pytest.approx(19 / 20)
    assert top_share(pd.Series([-1.0])) is None


def test_an_account_is_flat_in_the_bars_that_it_lacks_being_ruined():
    """Else the page has two shares of bars with a position, one of the bars that it had."""
    none = pd.DataFrame()
    choices = dict.fromkeys(HEADS, pd.Series(dtype=int))
    ruined = SeedTrades("seed 0", none, none, choices, sides=(1, 3))
    whole = SeedTrades("seed 1", none, none, choices, sides=(0, 10))
    words = mix_words([ruined, whole], 10)
    assert "long in 65.00 %, short in 5.00 % and flat in 30.00 % of the bars" in words
