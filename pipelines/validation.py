"""How good a policy is while it trains: a few tiles of the validation split, played through."""

import torch
from torchrl.modules import ActorValueOperator

from envs.table import BarTable
from pipelines.config import RunConfig
from pipelines.held_out.rollout import log_growth, market_tiles, play_tiles
from pipelines.held_out.rollout_policy import RolloutPolicy


class Validation:
    """Plays the first `checkpoint.val_episodes` tiles of the validation split.

    Of several markets each plays its first tiles, as many as any other.

    Drawing no random number, it leaves the training what it was.

    Args:
        cfg: the run's configuration.
        table: the bars.
        model: actor and critic, as they stand whenever they are judged.
    """

    def __init__(self, cfg: RunConfig, table: BarTable, model: ActorValueOperator) -> None:
        self.table, self.cfg = table, cfg.env
        self.policy = RolloutPolicy(model)
        self.device: torch.device = next(model.parameters()).device
        tiles = cfg.checkpoint.val_episodes
        self.bounds = market_tiles(table, cfg.env, "val", tiles) if tiles else None

    def score(self) -> float | None:
        """Mean log growth of equity over a tile, net of costs; None if none are to be played."""
        if self.bounds is None:
            return None
        played = play_tiles(self.table, self.cfg, self.bounds, self.policy, device=self.device)
        return float(log_growth(played, self.cfg.initial_cash).mean())
