"""The folds of a walk-forward: what may never touch, and that they are the splits of a table."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from envs.data_config import DataConfig
from envs.splits import split_by_time
from pipelines.held_out.walk_forward import Layout, fold_data, plan_folds, usable_rows

LAYOUTS = st.builds(
    Layout,
    folds=st.integers(1, 12),
    mode=st.sampled_from(["anchored", "rolling"]),
    tail_frac=st.floats(0.1, 0.8),
    val_frac=st.floats(0.05, 0.5),
    window=st.integers(1, 40),
    episode_bars=st.integers(1, 60),
    embargo_bars=st.one_of(st.none(), st.integers(100, 300)),
)
BARS = st.integers(200, 40_000)


def planned(rows, layout):
    """The folds; where the bars do not suffice, another layout is drawn."""
    try:
        return plan_folds(rows, layout)
    except ValueError:
        reject()


@given(rows=BARS, layout=LAYOUTS)
def test_test_parts_are_disjoint_in_order_and_cover_the_tail(rows, layout):
    folds = planned(rows, layout)
    assert len(folds) == layout.folds
    assert [fold.number for fold in folds] == list(range(1, layout.folds + 1))
    assert folds[0].played[0] == rows - round(rows * layout.tail_frac)
    assert folds[-1].played[1] == rows
    for before, after in itertools.pairwise(folds):
        assert before.played[1] == after.played[0]
    lengths = [fold.played[1] - fold.played[0] for fold in folds]
    assert max(lengths) - min(lengths) <= 1


@given(rows=BARS, layout=LAYOUTS)
def test_no_bar_of_train_or_val_lies_within_the_embargo_of_a_test_bar(rows, layout):
    assert layout.embargo >= layout.window + layout.episode_bars
    for fold in planned(rows, layout):
        assert 0 <= fold.train[0] < fold.train[1] <= fold.val[0] - layout.embargo
        assert fold.val[1] == fold.test[0] - layout.embargo
        assert fold.test == (fold.played[0] - layout.window, fold.played[1])


@given(rows=BARS, layout=LAYOUTS)
def test_the_past_begins_at_the_first_bar_or_keeps_its_length(rows, layout):
    folds = planned(rows, layout)
    pasts = {fold.val[1] - fold.train[0] for fold in folds}
    if layout.mode == "anchored":
        assert all(fold.train[0] == 0 for fold in folds)
    else:
        assert len(pasts) == 1
        assert folds[0].train[0] == 0


@given(rows=BARS, layout=LAYOUTS)
def test_the_splits_of_a_fold_s_table_are_its_parts(rows, layout):
    time_ns = 1_700_000_000_000_000_000 + 60_000_000_000 * np.arange(rows)
    for fold in planned(rows, layout):
        data = fold_data(fold, time_ns, DataConfig(), layout.embargo)
        splits = split_by_time(
            time_ns, data, window=layout.window, episode_bars=layout.episode_bars
        )
        assert splits == {"train": fold.train, "val": fold.val, "test": fold.test}


def test_usable_bars_lie_between_start_and_end():
    time_ns = pd.date_range("2024-01-01", periods=10, freq="D").as_unit("ns").asi8
    assert usable_rows(time_ns, DataConfig()) == (0, 10)
    assert usable_rows(time_ns, DataConfig(start="2024-01-03", end="2024-01-06")) == (2, 5)


def layout(**changes):
    known = {
        "folds": 6, "mode": "anchored", "tail_frac": 0.5, "val_frac": 0.15, "window": 10,
        "episode_bars": 20,
    }  # fmt: skip
    return Layout(**{**known, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 0}, "folds=0 is not allowed"),
        ({"mode": "nested"}, "mode='nested' is not allowed: one of anchored, rolling"),
        ({"tail_frac": 1.0}, r"tail_frac=1\.0 is not allowed"),
        ({"embargo_bars": 29}, r"data\.embargo_bars=29 .* = 30"),
    ],
)
def test_values_out_of_range_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        layout(**changes)


@pytest.mark.parametrize(("rows", "part"), [(150, "train"), (350, "val"), (800, "val")])
def test_bars_that_do_not_suffice_are_refused(rows, part):
    with pytest.raises(ValueError, match=rf"the {part} part of fold 1 would have [\d,]+ bars"):
        plan_folds(rows, layout(val_frac=0.05))
    with pytest.raises(ValueError, match="the test part of fold 1 would have 27 bars"):
        plan_folds(1_700, layout(folds=50))
