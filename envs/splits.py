"""Train, val and test: cut by time, with bars left out between them; and what they can hold."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from envs.bar_files import time_text
from envs.checks import require
from envs.data_config import DataConfig, utc_ns


def split_by_time(
    time_ns: np.ndarray, cfg: DataConfig, *, window: int, episode_bars: int
) -> dict[str, tuple[int, int]]:
    """Cut rows, sorted by time, into train, val and test.

    `train_frac` and `val_frac` are fractions of the bars, not of the calendar: a hole of months
    holds nothing to train on. The embargo is cut from the start of val and of test. It is counted
    in bars, and bars are at least one interval apart, so it is as long in time or longer.

    Args:
        time_ns: int64 [N], opening times, ns since 1970 UTC.
        cfg: the fractions or the times, and the embargo.
        window: rows that an observation looks at.
        episode_bars: steps of an episode.

    Returns:
        Half-open row ranges by split, in time order, `embargo_bars` rows apart.

    Raises:
        ValueError: for an embargo under ``window + episode_bars``, or times that leave no row.
    """
    least = window + episode_bars
    embargo = least if cfg.embargo_bars is None else cfg.embargo_bars
    require(
        embargo >= least,
        "data.embargo_bars",
        embargo,
        f"at least env.window + env.episode_bars = {window} + {episode_bars} = {least}",
    )
    first, end = _row(time_ns, "start", cfg.start, 0), _row(time_ns, "end", cfg.end, len(time_ns))
    if first >= end and len(time_ns):
        key = "start" if first == len(time_ns) else "end"
        span = f"{time_text(time_ns[0])} to {time_text(time_ns[-1])}"
        require(False, f"data.{key}", getattr(cfg, key), f"a time that leaves bars, of {span}")
    count = end - first
    train_end = first + round(count * cfg.train_frac)
    val_end = first + round(count * (cfg.train_frac + cfg.val_frac))
    train_end = _row(time_ns, "val_start", cfg.val_start, train_end)
    val_end = _row(time_ns, "test_start", cfg.test_start, val_end)
    return {
        "train": (first, train_end),
        "val": (min(train_end + embargo, val_end), val_end),
        "test": (min(val_end + embargo, end), end),
    }


def times_fit(time_ns: np.ndarray, cfg: DataConfig) -> bool:
    """Whether the times of a configuration, if it has some, leave bars in everything they cut.

    Args:
        time_ns: int64 [N], opening times, ns since 1970 UTC.
        cfg: `start`, `val_start`, `test_start` and `end` are read.
    """
    rows = [_row(time_ns, "start", cfg.start, 0)]
    named = {"val_start": cfg.val_start, "test_start": cfg.test_start}
    rows += [_row(time_ns, key, text, 0) for key, text in named.items() if text is not None]
    rows.append(_row(time_ns, "end", cfg.end, len(time_ns)))
    return all(before < after for before, after in pairwise(rows))


def _row(time_ns: np.ndarray, key: str, text: str | None, otherwise: int) -> int:
    """The first row at or after a time."""
    if text is None:
        return otherwise
    return int(np.searchsorted(time_ns, utc_ns(f"data.{key}", text)))


def tradable_runs(tradable: Tensor, segment: Tensor, rows: tuple[int, int]) -> Tensor:
    """Maximal ranges of tradable rows of one segment within a range of rows.

    Args:
        tradable: bool [N].
        segment: int64 [N].
        rows: half-open range of rows.

    Returns:
        int64 [R, 2] on the CPU, half-open, ascending.
    """
    first, end = rows
    tradable, segment = tradable[first:end].cpu(), segment[first:end].cpu()
    inner = tradable[1:] & tradable[:-1] & (segment[1:] == segment[:-1])
    edge = torch.zeros(1, dtype=torch.bool)
    begins = tradable & ~torch.cat((edge, inner))
    ends = tradable & ~torch.cat((inner, edge))
    return torch.stack((begins.nonzero()[:, 0] + first, ends.nonzero()[:, 0] + first + 1), dim=1)


def require_room(
    runs: Mapping[str, Tensor],
    splits: Mapping[str, tuple[int, int]],
    *,
    window: int,
    episode_bars: int,
    source: str,
) -> None:
    """Refuse splits of which one has no run of ``window + episode_bars`` tradable bars.

    Raises:
        ValueError: naming the file, the split, its longest run, and the keys to change.
    """
    least = window + episode_bars
    for name, ranges in runs.items():
        longest = int((ranges[:, 1] - ranges[:, 0]).max()) if len(ranges) else 0
        if longest < least:
            first, end = splits[name]
            raise ValueError(
                f"{source}: the {name} split has {end - first} bars, its longest run without a "
                f"hole or warm-up rows is {longest} bars: env.window + env.episode_bars = "
                f"{window} + {episode_bars} = {least} are needed, {least - longest} more. Use a "
                "longer file, one with fewer long holes (columns warm up anew after each), shorter "
                "data.timeframes if there are any, fewer env.episode_bars, a smaller "
                "data.embargo_bars if it is above its least, or other data.train_frac and "
                "data.val_frac"
            )


def fit_normaliser(features: Tensor, train: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature over the complete rows of the train split.

    Args:
        features: float32 [N, F], NaN in warm-up rows.
        train: half-open range of rows; no other row is looked at.

    Returns:
        `loc` and `scale`, float32 [F]; the scale of a constant feature is 1.

    Raises:
        ValueError: if no row of the train split is complete.
    """
    rows = features[train[0] : train[1]]
    rows = rows[torch.isfinite(rows).all(dim=1)].double()
    if not len(rows):
        raise ValueError(f"no row of the train split {train} has all its features")
    constant = rows.amax(dim=0) == rows.amin(dim=0)
    scale = torch.where(constant, 1.0, rows.std(dim=0, correction=0))
    return rows.mean(dim=0).float(), scale.float()
