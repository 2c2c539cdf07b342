"""How good a policy is while it trains: a few tiles of the validation split, played through."""

from typing import NamedTuple

import torch
from torchrl.modules import ActorValueOperator

from envs.bar_table import BarTable
from pipelines.config import RunConfig
from pipelines.held_out.baselines import buy_and_hold
from pipelines.held_out.rollout import log_growth, market_tiles, play_tiles
from pipelines.judging.metrics import in_order
from pipelines.rollout_policy import RolloutPolicy
from pipelines.tracking.evaluated import Evaluated


class Judged(NamedTuple):
    """What came of it."""

    score: float  # mean log growth of equity over a tile, net of costs
    evaluated: Evaluated | None  # of several markets there is no account in the order of time

    def scores(self, best: float | None) -> dict[str, float]:
        """This score and the best one so far, of which `best` was the highest before."""
        highest = self.score if best is None else max(self.score, best)
        return {"val/log_growth": self.score, "val/best_log_growth": highest}


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

    def judge(self) -> Judged | None:
        """Play the policy as it stands; None if no tiles are to be played."""
        if self.bounds is None:
            return None
        played = play_tiles(self.table, self.cfg, self.bounds, self.policy, device=self.device)
        evaluated = None
        if len(self.table.asset_names) == 1:
            evaluated = Evaluated(
                name="val",
                rows=in_order(played.rows(self.table, self.cfg)),
                hold=in_order(buy_and_hold(self.table, self.cfg, self.bounds)),
                cfg=self.cfg,
                interval_s=self.table.meta.interval_s,
            )
        return Judged(float(log_growth(played, self.cfg.initial_cash).mean()), evaluated)
