"""Rollouts and updates in turn, until the frames are spent."""

import time
from collections.abc import Iterator
from typing import NamedTuple

from tensordict import TensorDictBase
from torch import Tensor
from torchrl.collectors import Collector
from torchrl.envs import EnvBase
from torchrl.modules import ActorValueOperator

from envs.observation import NUM_ACCOUNT
from envs.table import BarTable
from modules.hindsight import make_hindsight_critic
from modules.policy import make_collection_policy
from pipelines.config import RunConfig
from pipelines.learner import Learner
from pipelines.precision import MixedPrecision


class Iteration(NamedTuple):
    """One rollout and the update on it."""

    number: int  # from 1
    frames: int  # collected so far, this rollout included
    rollout: TensorDictBase
    stats: dict[str, Tensor | float]  # losses, and frames a second


class Training:
    """Collector and learner of a configuration; iterating it trains the model.

    Args:
        cfg: the run's configuration.
        table: the bars.
        env: where rollouts come from, of batch [..., paths, accounts].
        model: actor and critic, on the device where updates happen.
    """

    def __init__(
        self, cfg: RunConfig, table: BarTable, env: EnvBase, model: ActorValueOperator
    ) -> None:
        device = next(model.parameters()).device
        hindsight = None
        if cfg.train.hindsight_bars:
            hindsight = make_hindsight_critic(
                table.ohlcv.to(device),
                table.runs("train"),
                horizon=cfg.train.hindsight_bars,
                features_dim=cfg.model.features_dim,
                num_account=NUM_ACCOUNT,
            ).to(device)
        self.frames_per_batch = cfg.env.lanes * cfg.train.steps
        self.iterations = -(-cfg.total_frames // self.frames_per_batch)
        self.collector = Collector(
            env,
            MixedPrecision(make_collection_policy(model, hindsight), cfg.train.precision, device),
            frames_per_batch=self.frames_per_batch,
            total_frames=-1,  # the loop below counts; at its end a collector closes its workers
            env_device=env.device,
            policy_device=device,
            storing_device=device,
            track_traj_ids=False,
            auto_register_policy_transforms=False,
        )
        self.learner = Learner(
            model,
            cfg.train,
            cfg.loss,
            lanes=cfg.env.lanes,
            accounts=cfg.env.accounts,
            iterations=self.iterations,
            hindsight=hindsight,
        )

    @property
    def total_frames(self) -> int:
        """Frames of all iterations."""
        return self.iterations * self.frames_per_batch

    def __iter__(self) -> Iterator[Iteration]:
        """Collect, update, hand over; the rollout belongs to the caller until the next one."""
        began = time.perf_counter()
        numbers = range(1, self.iterations + 1)
        for number, rollout in zip(numbers, self.collector, strict=False):
            collected = time.perf_counter()
            losses = self.learner.update(rollout)
            trained = time.perf_counter()
            speed = {
                "time/sps": self.frames_per_batch / (trained - began),
                "time/sps_collect": self.frames_per_batch / (collected - began),
                "time/sps_train": self.frames_per_batch / (trained - collected),
            }
            frames = number * self.frames_per_batch
            yield Iteration(number, frames, rollout, {**losses, **speed})
            began = trained

    def close(self) -> None:
        """Shut the collector and its environment down."""
        self.collector.shutdown()
