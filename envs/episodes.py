"""Where episodes start and end on the table of bars."""

import torch
from torch import Tensor


class RandomStarts:
    """Uniformly random starts: windows and episodes stay within one run of tradable bars.

    A start is a bar ``p`` such that ``p - window + 1 .. p + episode_bars`` lie in one run.

    Args:
        runs: int64 [R, 2], half-open ranges of tradable bars.
        window: bars an observation looks at.
        episode_bars: steps of an episode.

    Raises:
        ValueError: if no run is long enough.
    """

    def __init__(self, runs: Tensor, window: int, episode_bars: int) -> None:
        first = runs[:, 0] + window - 1
        count = (runs[:, 1] - episode_bars - first).clamp_min(0)
        if int(count.sum()) == 0:
            longest = int((runs[:, 1] - runs[:, 0]).max()) if len(runs) else 0
            raise ValueError(
                f"no episode fits: the longest stretch of tradable bars has {longest}, and "
                f"env.window={window} plus env.episode_bars={episode_bars} are needed"
            )
        self.episode_bars = episode_bars
        self.first = first[count > 0]
        self.cumulative = count[count > 0].cumsum(0)
        self.total = int(self.cumulative[-1])

    def sample(self, num_paths: int, generator: torch.Generator) -> Tensor:
        """First and last bar of `num_paths` episodes: int64 [num_paths, 2]."""
        device = self.first.device
        draw = torch.randint(self.total, (num_paths,), generator=generator, device=device)
        run = torch.searchsorted(self.cumulative, draw, right=True)
        before = torch.where(run > 0, self.cumulative[run - 1], 0)
        start = self.first[run] + draw - before
        return torch.stack([start, start + self.episode_bars], -1)


class FixedStarts:
    """The same episodes at every reset, one a path.

    Args:
        bounds: int64 [paths, 2], the first bar an action is chosen on and the last bar of each.
    """

    def __init__(self, bounds: Tensor) -> None:
        self.bounds = bounds

    def sample(self, num_paths: int, generator: torch.Generator) -> Tensor:
        """The bounds themselves; `generator` is not drawn from."""
        return self.bounds


def tile(runs: Tensor, window: int, episode_bars: int) -> Tensor:
    """Cut runs into consecutive episodes, so that every bar after a window is stepped into once.

    Returns:
        int64 [tiles, 2]: first and last bar; the last tile of a run may be shorter.
    """
    tiles = [
        (start, min(start + episode_bars, end - 1))
        for first, end in runs.tolist()
        for start in range(first + window - 1, end - 1, episode_bars)
    ]
    return torch.tensor(tiles, dtype=torch.int64).reshape(-1, 2)


def check_shared_clock(ended: Tensor, reset: Tensor) -> None:
    """Refuse to start some accounts of a path anew that has ended, and leave others at its end.

    Args:
        ended: bool [paths], the path's clock stands at its last bar.
        reset: bool [paths, accounts, 1], the accounts to start anew.

    Raises:
        ValueError: if a path would get two clocks.
    """
    chosen = reset.flatten(1)
    if (ended & chosen.any(1) & ~chosen.all(1)).any():
        raise ValueError("_reset: the accounts of a path at its last bar can only start together")
