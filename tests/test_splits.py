"""Splits: by time, an embargo apart; runs of tradable rows; a normaliser of the train split."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.data_config import DataConfig, utc_ns
from envs.splits import fit_normaliser, require_room, split_by_time, times_fit, tradable_runs

MINUTE = 60 * 10**9


def minutes(count):
    """Opening times from 2024-01-01 on."""
    return 1_704_067_200 * 10**9 + MINUTE * np.arange(count, dtype=np.int64)


@given(
    count=st.integers(0, 5000),
    train=st.floats(0.02, 0.6),
    val=st.floats(0.02, 0.38),
    embargo=st.integers(30, 200),
)
def test_splits_are_ordered_an_embargo_apart_and_end_with_the_bars(count, train, val, embargo):
    cfg = DataConfig(train_frac=train, val_frac=val, embargo_bars=embargo)
    splits = split_by_time(minutes(count), cfg, window=10, episode_bars=20)
    assert list(splits) == ["train", "val", "test"]
    for first, end in splits.values():
        assert 0 <= first <= end <= count
    used = [rows for rows in splits.values() if rows[0] < rows[1]]
    for (_, end), (first, _) in itertools.pairwise(used):
        assert first - end >= embargo


def test_the_embargo_is_window_and_episode_unless_it_is_set():
    splits = split_by_time(minutes(1000), DataConfig(), window=10, episode_bars=20)
    assert splits == {"train": (0, 700), "val": (730, 850), "test": (880, 1000)}
    wider = split_by_time(minutes(1000), DataConfig(embargo_bars=50), window=10, episode_bars=20)
    assert wider == {"train": (0, 700), "val": (750, 850), "test": (900, 1000)}


@pytest.mark.parametrize(
    ("times", "fit"),
    [
        ({}, True),
        ({"start": "2023-01-01", "end": "2025-01-01"}, True),
        ({"start": "2025-01-01"}, False),
        ({"end": "2024-01-01"}, False),
        ({"end": "2024-01-01T00:01"}, True),
        ({"val_start": "2024-01-01T06:00", "test_start": "2024-01-01T09:00"}, True),
        ({"val_start": "2023-01-01", "test_start": "2024-01-01T09:00"}, False),
        ({"val_start": "2024-01-01T06:00", "test_start": "2025-01-01"}, False),
        ({"start": "2024-01-01T06:00", "val_start": "2024-01-01T06:00:30"}
         | {"test_start": "2024-01-01T06:02"}, True),
        ({"val_start": "2023-01-01", "test_start": "2023-02-01", "end": "2023-03-01"}, False),
    ],
)  # fmt: skip
def test_times_fit_where_they_leave_bars_in_every_part(times, fit):
    assert times_fit(minutes(1000), DataConfig(**times)) == fit


def test_times_cut_where_they_say():
    cfg = DataConfig(
        start="2024-01-01T01:00",
        val_start="2024-01-01T06:00",
        test_start="2024-01-01T09:00Z",
        end="2024-01-01T12:00",
    )
    splits = split_by_time(minutes(1000), cfg, window=10, episode_bars=20)
    assert splits == {"train": (60, 360), "val": (390, 540), "test": (570, 720)}
    beyond = DataConfig(start="2023-01-01", end="2025-01-01")
    assert split_by_time(minutes(1000), beyond, window=10, episode_bars=20)["test"] == (880, 1000)
    # Over a hole, the first bar after the time.
    times = np.delete(minutes(1000), slice(300, 400))
    assert split_by_time(times, cfg, window=10, episode_bars=20)["train"] == (60, 300)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"start": "yesterday-ish"}, r"data\.start='yesterday-ish' is not allowed: a time such as"),
        ({"start": "03/04/2024"}, r"data\.start='03/04/2024' is not allowed: a time such as"),
        ({"end": "now"}, r"data\.end='now' is not allowed: a time such as"),
        ({"start": "2024-01-31/2024-02-01"}, r"data\.start='2024-01-31/.* not allowed: a time"),
        ({"end": "9999-12-31"}, r"data\.end='9999-12-31' is not allowed: .*, before 2262$"),
        ({"val_start": "2024-01-01"}, r"data\.val_start=.* set together with data\.test_start"),
        ({"start": "2024-02-01", "end": "2024-01-01"}, r"data\.end=.* after the times"),
        ({"val_start": "2024-02-01", "test_start": "2024-02-01"}, r"data\.test_start=.* after"),
    ],
)
def test_times_out_of_order_are_refused(times, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**times)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2024", "2024-01-01"),
        ("2024-02", "2024-02-01"),
        ("2024-01-31 12:00 UTC", "2024-01-31T12:00"),
        ("2024-01-31 12:00:30.5+02:00", "2024-01-31T10:00:30.500Z"),
    ],
)
def test_a_time_may_have_any_form_that_iso_has(text, same):
    assert utc_ns("data.start", text) == utc_ns("data.start", same)


@pytest.mark.parametrize("times", [{"start": "2030-01-01"}, {"end": "2023-01-01"}])
def test_times_that_leave_no_bar_are_refused_with_those_of_the_file(times):
    ((key, text),) = times.items()
    words = rf"data\.{key}='{text}' is not allowed: .* 2024-01-01T00:00:00.* to 2024-01-01T16:39:00"
    with pytest.raises(ValueError, match=words):
        split_by_time(minutes(1000), DataConfig(**times), window=10, episode_bars=20)


def test_an_embargo_that_lets_an_episode_reach_over_the_border_is_refused():
    with pytest.raises(ValueError, match=r"data.embargo_bars=29 .*env.window .* 10 \+ 20 = 30"):
        split_by_time(minutes(1000), DataConfig(embargo_bars=29), window=10, episode_bars=20)


def runs_by_loop(tradable, segment, first, end):
    runs, begin = [], None
    for row in range(first, end + 1):
        over = row == end or not tradable[row]
        if begin is not None and (over or segment[row] != segment[row - 1]):
            runs.append([begin, row])
            begin = None
        if begin is None and not over:
            begin = row
    return runs


@settings(max_examples=200)
@given(st.data())
def test_runs_are_the_maximal_ranges_without_hole_or_warm_up(data):
    rows = data.draw(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
    tradable = torch.tensor([row[0] for row in rows], dtype=torch.bool)
    segment = torch.tensor([row[1] for row in rows], dtype=torch.int64).cumsum(0)
    first = data.draw(st.integers(0, len(rows)))
    end = data.draw(st.integers(first, len(rows)))
    runs = tradable_runs(tradable, segment, (first, end))
    assert runs.dtype == torch.int64
    assert runs.shape[1] == 2
    assert runs.tolist() == runs_by_loop(tradable.tolist(), segment.tolist(), first, end)


def test_a_split_without_room_for_one_episode_is_refused_with_what_is_missing():
    splits = {"train": (0, 100), "val": (130, 155), "test": (190, 290)}
    runs = {name: torch.tensor([rows]) for name, rows in splits.items()}
    message = r"FILE: the val split has 25 bars, its longest run .* is 25 bars: .* = 30 .*, 5 more"
    with pytest.raises(ValueError, match=message):
        require_room(runs, splits, window=10, episode_bars=20, source="FILE")
    require_room(runs, splits, window=5, episode_bars=20, source="FILE")
    runs["test"] = torch.zeros((0, 2), dtype=torch.int64)
    longest = r"test split has 100 bars, its longest run .* is 0 bars: .* warm up anew after each"
    with pytest.raises(ValueError, match=longest):
        require_room(runs, splits, window=5, episode_bars=20, source="FILE")


def test_the_normaliser_is_mean_and_deviation_of_the_complete_train_rows():
    features = torch.tensor([[9.0, 1.0], [1.0, 0.1], [3.0, 0.1], [50.0, 7.0]])
    features[0, 0] = torch.nan
    loc, scale = fit_normaliser(features, (0, 3))
    assert loc.tolist() == pytest.approx([2.0, 0.1])
    assert scale.tolist() == [1.0, 1.0]
    loc, scale = fit_normaliser(features, (0, 4))
    assert scale[0].item() == pytest.approx((((1 - 18) ** 2 + 15**2 + 32**2) / 3) ** 0.5)


def test_a_constant_feature_has_scale_one_whatever_the_rounding_of_its_mean():
    features = torch.full((100_003, 1), 0.1)
    assert fit_normaliser(features, (0, 100_003))[1].item() == 1.0


def test_a_train_split_without_complete_rows_is_refused():
    with pytest.raises(ValueError, match=r"train split \(0, 4\)"):
        fit_normaliser(torch.full((9, 2), torch.nan), (0, 4))
