"""What weights have seen, in whatever run: spans of time, of made-up bars those of their market."""

import numpy as np
import torch

from envs.bar_table import BarTable
from envs.data_config import DataConfig
from envs.known_config import SyntheticConfig
from envs.table import build_table
from pipelines.seen_times import count_seen, seen_times

SPLITS = {"train": (0, 60), "val": (70, 80), "test": (90, 100)}


def table(start="2025-01-01", splits=SPLITS):
    return BarTable.from_arrays(np.full((100, 5), 100.0), start=start, splits=splits)


def bars(first, last):
    """A tile that steps into these rows."""
    return torch.tensor([[first - 1, last]])


def test_bars_of_the_train_and_val_splits_are_seen_and_no_others():
    seen = seen_times(table())
    assert seen["trained"] == [["2025-01-01T00:00:00+00:00", "2025-01-01T00:59:00+00:00"]]
    for rows, counts in (((50, 75), (10, 6)), ((60, 69), (0, 0)), ((80, 99), (0, 0))):
        found = count_seen(seen, table(), bars(*rows))
        assert (found["trained"], found["chosen"]) == counts
    assert count_seen(seen, table("2025-01-01T01:00"), bars(1, 99)) == {"trained": 0, "chosen": 10}


def test_what_was_seen_before_stays_seen():
    first = seen_times(table())
    then = seen_times(table(splits=SPLITS | {"train": (0, 20), "val": (30, 40)}), first)
    assert len(then["trained"]) == len(then["chosen"]) == 2
    assert count_seen(then, table(), bars(1, 99)) == {"trained": 59, "chosen": 20}
    assert seen_times(table(), first) == first, "the same bars again are nothing new"


def test_bars_that_were_drawn_know_nothing_of_others_at_the_same_times():
    def drawn(seed):
        made = SyntheticConfig(market="martingale", seed=seed, bars=8_192, segment_bars=2_048)
        cut = DataConfig(synthetic=made, train_frac=0.4, val_frac=0.25)
        return build_table(cut, window=8, episode_bars=24)

    one, other = drawn(0), drawn(1)
    rows = bars(1, 100)
    assert count_seen(seen_times(one), one, rows)["trained"] == 100
    assert count_seen(seen_times(one), other, rows)["trained"] == 0
    assert count_seen(seen_times(one), table(), bars(1, 50))["trained"] == 0
    assert count_seen(seen_times(table()), one, bars(1, 50))["trained"] == 0
    assert count_seen(seen_times(other, seen_times(one)), one, rows)["trained"] == 100
