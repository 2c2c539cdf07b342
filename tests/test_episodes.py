"""Episodes begin where they may, everywhere as often, and tiles leave no bar out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.episodes import RandomStarts, tile

WINDOW, EPISODE = 3, 4
lengths = st.lists(st.integers(1, 14), min_size=1, max_size=6)


def runs_of(lengths: list[int]) -> torch.Tensor:
    """Runs of these lengths, with a hole of two bars before each."""
    ends = (torch.tensor(lengths) + 2).cumsum(0)
    return torch.stack([ends - torch.tensor(lengths), ends], 1)


def allowed(runs: torch.Tensor) -> list[int]:
    """Every start whose window and episode lie in one run, counted out bar by bar."""
    return [
        bar
        for first, end in runs.tolist()
        for bar in range(first, end)
        if first <= bar - WINDOW + 1 and bar + EPISODE < end
    ]


@settings(max_examples=60)
@given(lengths)
def test_starts_are_those_with_room_and_all_of_them_are_as_likely(lengths):
    runs = runs_of(lengths)
    starts = allowed(runs)
    if not starts:
        with pytest.raises(ValueError, match=f"has {max(lengths)}, and env.window=3"):
            RandomStarts(runs, WINDOW, EPISODE)
        return
    drawn = RandomStarts(runs, WINDOW, EPISODE).sample(
        200 * len(starts), torch.Generator().manual_seed(0)
    )
    assert (drawn[:, 1] - drawn[:, 0] == EPISODE).all()
    seen, count = drawn[:, 0].unique(return_counts=True)
    assert seen.tolist() == starts
    assert ((count - 200).abs() < 6 * 200**0.5).all()  # six standard deviations


@settings(max_examples=100)
@given(lengths)
def test_tiles_step_into_every_bar_after_a_window_once(lengths):
    runs = runs_of(lengths)
    stepped = [bar for first, last in tile(runs, WINDOW, EPISODE).tolist()
               for bar in range(first + 1, last + 1)]  # fmt: skip
    assert stepped == [bar for first, end in runs.tolist() for bar in range(first + WINDOW, end)]
    assert all(0 < last - first <= EPISODE for first, last in tile(runs, WINDOW, EPISODE).tolist())
