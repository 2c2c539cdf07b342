"""A market of bare numbers, for tests, examples and synthetic ones: `BarTable.from_arrays`."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from envs.data_config import SPLITS
from envs.splits import fit_normaliser


def given_features(
    bars: Tensor, features: ArrayLike | Tensor | None, train: tuple[int, int]
) -> tuple[Tensor, list[str], Tensor, Tensor]:
    """Columns, names, loc and scale: of the given features, or of the log return unscaled."""
    if features is None:
        close = bars[:, 3]
        returns = torch.log(close / torch.cat((close[:1], close[:-1])))
        return returns.float().unsqueeze(1), ["log_return_1"], torch.zeros(1), torch.ones(1)
    columns = copied(features, torch.float32)
    if columns.ndim != 2 or len(columns) != len(bars):
        raise ValueError(f"features have shape {tuple(columns.shape)}: [{len(bars)}, F] is needed")
    loc, scale = fit_normaliser(columns, train)
    return columns, [f"feature_{i}" for i in range(columns.shape[1])], loc, scale


def copied(values: ArrayLike | Tensor, dtype: torch.dtype) -> Tensor:
    """A copy on the CPU: a table never shares memory with its maker."""
    if isinstance(values, Tensor):
        return values.detach().cpu().to(dtype, copy=True)
    return torch.tensor(np.asarray(values, dtype=np.float64), dtype=dtype)


def regular_times(count: int, start: str, interval_s: float) -> np.ndarray:
    """int64 [count] ns since 1970 UTC, one interval apart."""
    if not 0 < interval_s < float("inf"):
        raise ValueError(f"interval_s={interval_s!r} is not allowed: a finite number above 0")
    begin = pd.Timestamp(start)
    begin = begin.tz_localize("UTC") if begin.tz is None else begin.tz_convert("UTC")
    return begin.as_unit("ns").value + np.arange(count, dtype=np.int64) * round(interval_s * 1e9)


def check_ranges(ranges: Mapping[str, tuple[int, int]], count: int) -> None:
    """Refuse ranges of splits that are missing, empty, or not within `count` rows."""
    for name in SPLITS:
        first, end = ranges.get(name, (-1, -1))
        if not 0 <= first < end <= count:
            found = ranges.get(name, "missing")
            raise ValueError(f"splits[{name!r}]={found}: a half-open range within 0..{count}")
