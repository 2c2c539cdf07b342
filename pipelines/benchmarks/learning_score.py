"""How near a learner has come to the best policy of a known market, and how soon."""

from dataclasses import dataclass, field

import numpy as np

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.known_answer import KnownAnswer
from pipelines.held_out.rollout import Policy, log_growth, play_tiles, split_tiles

LEVELS = (0.5, 0.75, 0.9)


class Judge:
    """Plays a policy on the held-out tiles of a market, all of full length.

    Args:
        table: the bars.
        cfg: the environment's parameters.
        answer: the best policy, which is played on the same tiles.
    """

    def __init__(self, table: BarTable, cfg: EnvConfig, answer: KnownAnswer) -> None:
        self.table, self.cfg = table, cfg
        bounds = split_tiles(table, cfg, "test")
        self.bounds = bounds[bounds[:, 1] - bounds[:, 0] == cfg.episode_bars]
        self.optimum = float(self.growth(answer.policy).mean())
        self.promised = answer.episode_growth(cfg.episode_bars)

    def growth(self, policy: Policy) -> np.ndarray:
        """Log growth of equity on every tile, net of costs, flat at its start and at its end."""
        played = play_tiles(self.table, self.cfg, self.bounds, policy, max_lanes=4096)
        return log_growth(played, self.cfg.initial_cash)[:, 0].numpy()


@dataclass
class Curve:
    """Held-out results of one training run, in time order.

    Attributes:
        optimum: mean log growth of a tile under the best policy, on the same tiles.
        promised: its expectation.
        frames: collected before each evaluation.
        seconds: spent on training before it; evaluations are not counted.
        growth: mean log growth of a tile.
        errors: standard error of that mean over the tiles.
    """

    optimum: float
    promised: float
    frames: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    growth: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)

    def add(self, frames: int, seconds: float, growth: np.ndarray) -> None:
        """One evaluation, of the growth on every tile."""
        self.frames.append(frames)
        self.seconds.append(seconds)
        self.growth.append(float(growth.mean()))
        self.errors.append(float(growth.std(ddof=1) / len(growth) ** 0.5))

    def reached(self, level: float) -> tuple[int, float] | None:
        """Frames and seconds to `level` of the optimum, held at the next evaluation too.

        None if that never happened, as on a market whose optimum is 0.
        """
        if self.optimum <= 0.0:
            return None
        enough = [growth >= level * self.optimum for growth in self.growth]
        for i in range(len(enough) - 1):
            if enough[i] and enough[i + 1]:
                return self.frames[i], self.seconds[i]
        return None

    @property
    def final(self) -> float:
        """Growth in the end, the mean of the last three evaluations."""
        return float(np.mean(self.growth[-3:]))

    @property
    def z_score(self) -> float:
        """Growth in the end over its standard error: above 0 is luck on a fair market."""
        error = self.errors[-1]
        return self.growth[-1] / error if error > 0.0 else 0.0
