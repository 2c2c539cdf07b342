"""Walk-forward: which bars each fold trains on, is selected on, and is measured on.

The bars before a fold's test part are its past: train, then validation. The test parts follow each
other without a gap and cover the tail of the bars, each bar of it once. See ``docs/evaluation.md``.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd

from envs.checks import require, require_at_least, require_between, require_one_of
from envs.data_config import DataConfig, utc_ns
from pipelines.held_out.evaluate_config import MODES

Rows = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """How a walk-forward cuts bars.

    Attributes:
        folds: test parts of equal length.
        mode: ``anchored``: every fold trains from the first bar on; ``rolling``: on a past of the
            first fold's length.
        tail_frac: share of the bars that the test parts cover, the last ones.
        val_frac: share of a fold's past that is its validation part.
        window: bars that an observation looks at.
        episode_bars: steps of an episode.
        embargo_bars: left out between two parts; None: the least, ``window + episode_bars``.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    folds: int
    mode: str
    tail_frac: float
    val_frac: float
    window: int
    episode_bars: int
    embargo_bars: int | None = None

    def __post_init__(self) -> None:
        require_at_least("folds", self.folds, 1)
        require_one_of("mode", self.mode, MODES)
        require_between("tail_frac", self.tail_frac, 0.01, 0.95)
        require_between("data.val_frac", self.val_frac, 0.01, 0.95)
        least = self.window + self.episode_bars
        require(
            self.embargo >= least,
            "data.embargo_bars",
            self.embargo,
            f"at least env.window + env.episode_bars = {least}",
        )

    @property
    def embargo(self) -> int:
        """Bars left out between two parts."""
        least = self.window + self.episode_bars
        return least if self.embargo_bars is None else self.embargo_bars


@dataclass(frozen=True)
class Fold:
    """Half-open ranges of rows, in order of time.

    Attributes:
        number: from 1.
        train: what is trained on.
        val: what the checkpoint is selected on.
        test: the bars that the measured policy looks at: `played`, and the window before it.
        played: the bars that it lives through.
    """

    number: int
    train: Rows
    val: Rows
    test: Rows
    played: Rows


def plan_folds(rows: int, layout: Layout) -> list[Fold]:
    """The folds of a walk-forward over so many bars.

    The tail is cut into test parts of equal length, to a bar. Before the first bar that a test part
    looks at lie `embargo` bars that nothing else of the fold touches, and as many before its
    validation part.

    Raises:
        ValueError: if a part would not hold one window and one episode, naming how many bars it
            has.
    """
    tail = round(rows * layout.tail_frac)
    edges = rows - tail + np.linspace(0, tail, layout.folds + 1).round().astype(int)
    past = int(edges[0]) - layout.window - layout.embargo  # of the first fold
    return [_fold(i + 1, (int(edges[i]), int(edges[i + 1])), past, layout)
            for i in range(layout.folds)]  # fmt: skip


def _fold(number: int, played: Rows, past: int, layout: Layout) -> Fold:
    test = played[0] - layout.window, played[1]
    end = test[0] - layout.embargo
    first = 0 if layout.mode == "anchored" else end - past
    val = end - round((end - first) * layout.val_frac), end
    fold = Fold(number, (first, val[0] - layout.embargo), val, test, played)
    least = layout.window + layout.episode_bars
    for name in ("train", "val", "test"):
        begin, stop = getattr(fold, name)
        if stop - begin < least:
            raise ValueError(
                f"folds={layout.folds} is not allowed: the {name} part of fold {number} would have "
                f"{max(stop - begin, 0):,} bars, and env.window + env.episode_bars = {least} are "
                "needed; take fewer folds, more bars, or another tail_frac or data.val_frac"
            )
    return fold


def usable_rows(time_ns: np.ndarray, data: DataConfig) -> Rows:
    """The half-open range of bars between `data.start` and `data.end`.

    Args:
        time_ns: int64 [N], opening times, ns since 1970 UTC, ascending.
        data: the configuration.
    """
    first, end = 0, len(time_ns)
    if data.start is not None:
        first = int(np.searchsorted(time_ns, utc_ns("data.start", data.start)))
    if data.end is not None:
        end = int(np.searchsorted(time_ns, utc_ns("data.end", data.end)))
    return first, end


def fold_data(fold: Fold, time_ns: np.ndarray, data: DataConfig, embargo: int) -> DataConfig:
    """The configuration whose splits by time are the parts of a fold.

    `envs.splits` cuts the embargo from the start of val and of test, so both begin that much
    earlier in the configuration.

    Args:
        fold: with rows from 0 at the first usable bar.
        time_ns: int64 [N], opening times of the usable bars.
        data: of the walk-forward.
        embargo: bars left out between two parts.
    """
    end = fold.test[1]
    return dataclasses.replace(
        data,
        start=_text(time_ns[fold.train[0]]),
        val_start=_text(time_ns[fold.val[0] - embargo]),
        test_start=_text(time_ns[fold.test[0] - embargo]),
        end=_text(time_ns[end]) if end < len(time_ns) else data.end,
        embargo_bars=embargo,
    )


def _text(time_ns: int) -> str:
    return pd.Timestamp(int(time_ns), unit="ns").isoformat()
