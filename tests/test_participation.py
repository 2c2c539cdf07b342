"""Fills against the volume of their bars."""

import numpy as np
import pandas as pd
import pytest

from pipelines.judging.participation import participation


def rows_of(*bars):
    """(closed at the open, opened, closed within, volume) of each bar."""
    names = ["open_exit_units", "entry_units", "exit_units", "volume"]
    return pd.DataFrame(bars, columns=names).replace(0.0, np.nan).fillna({"volume": 0.0})


def test_all_that_is_filled_in_a_bar_counts_against_its_volume():
    found = participation(rows_of((-2, -1, 1, 100), (0, 0, 0, 1), (0, 5, 0, 100)))
    assert found.bars == 2
    assert found.largest_fraction == pytest.approx(0.05)
    assert found.median_fraction == pytest.approx(0.045)
    assert not found.flagged
    assert found.sentence == ""


def test_more_than_a_tenth_is_flagged_and_a_tenth_is_not():
    assert not participation(rows_of((0, 10, 0, 100))).flagged
    found = participation(rows_of((0, 10, 0, 100), (0, 11, 0, 100), (0, 1, 0, 100)))
    assert (found.large, found.flagged) == (1, True)
    assert "In 1 of 3 bars with a fill it was more than 10 % of the volume:" in found.sentence


def test_a_fill_in_a_bar_without_volume_is_flagged_whatever_its_size():
    found = participation(rows_of((0, 1e-6, 0, 0)))
    assert (found.without_volume, found.large) == (1, 1)
    assert found.largest_fraction is None
    assert "more than 10 % of the volume (1 had none):" in found.sentence


def test_an_account_that_never_traded_has_nothing_to_flag():
    found = participation(rows_of((0, 0, 0, 0), (0, 0, 0, 5)))
    assert (found.bars, found.large, found.median_fraction) == (0, 0, None)
    assert not found.flagged
