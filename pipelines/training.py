"""Rollouts and updates in turn, until the frames are spent."""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.collectors import Collector
from torchrl.envs import EnvBase
from torchrl.modules import ActorValueOperator

from envs.bar_table import BarTable
from envs.checks import require
from envs.env_state import get_carrier, get_env_state, set_carrier, set_env_state
from envs.ledger import LEDGER
from envs.observation import NUM_ACCOUNT
from envs.workers import name_lost_workers
from modules.hindsight import make_hindsight_critic
from pipelines.advantage import sequences
from pipelines.checkpoint import MODEL
from pipelines.config import RunConfig
from pipelines.learner import Learner
from pipelines.operations import count_operations, peak_flops, synchronize
from pipelines.random_state import get_random_state, set_random_state
from pipelines.rollout_policy import RolloutPolicy
from pipelines.snapshot import Snapshot, copies, join_optimizer, split_optimizer
from pipelines.watched_policy import WatchedPolicy


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
        self.model, self.hindsight = model, hindsight
        self.done, self.frames = 0, 0  # iterations, and the frames collected in them
        self._flops_an_epoch: float | None = None
        self._peak: float = 0.0  # operations a second
        self.frames_per_batch = cfg.env.lanes * cfg.train.steps
        self._wanted_frames = cfg.total_frames
        self.learner = Learner(
            model,
            cfg.train,
            cfg.loss,
            lanes=cfg.env.lanes,
            accounts=cfg.env.accounts,
            iterations=self.iterations,
            sequence=cfg.sequence_length,
            hindsight=hindsight,
        )
        self.policy = RolloutPolicy(
            model,
            cfg.train.precision,
            hindsight,
            self.learner.encode,
            is_graphed=self.learner.is_graphed,
        )
        self.collector = Collector(
            env,
            WatchedPolicy(self.policy),
            frames_per_batch=self.frames_per_batch,
            total_frames=-1,  # the loop below counts; at its end a collector closes its workers
            env_device=env.device,
            policy_device=device,
            storing_device=device,
            track_traj_ids=False,
            auto_register_policy_transforms=False,
            no_cuda_sync=env.device == device and device.type == "cuda",
        )

    @property
    def iterations(self) -> int:
        """Iterations at whose end the frames are spent."""
        left = max(self._wanted_frames - self.frames, 0)
        return self.done + -(-left // self.frames_per_batch)

    @property
    def total_frames(self) -> int:
        """Frames of all iterations."""
        return self.frames + (self.iterations - self.done) * self.frames_per_batch

    def __iter__(self) -> Iterator[Iteration]:
        """Collect, update, hand over; the rollout belongs to the caller until the next one.

        Raises:
            NonFiniteError: before the optimiser's step, for a number that is none.
            WorkerLostError: if a worker of the environment has died or hangs.
        """
        ended = time.perf_counter()
        rollouts = iter(self.collector)
        while self.done < self.iterations:
            began = time.perf_counter()
            self.policy.announce(self.learner.cfg.steps)
            with name_lost_workers():
                rollout = next(rollouts)
            synchronize(self.learner.device)
            collected = time.perf_counter()
            losses = self.learner.update(rollout)
            synchronize(self.learner.device)
            trained = time.perf_counter()
            self.done += 1
            self.frames += self.frames_per_batch
            speed = {
                "time/sps": self.frames_per_batch / (trained - ended),
                "time/sps_collect": self.frames_per_batch / (collected - began),
                "time/sps_train": self.frames_per_batch / (trained - collected),
                **self._operations(rollout, trained - collected),
            }
            ended = trained
            yield Iteration(self.done, self.frames, rollout, {**losses, **speed})

    def _operations(self, rollout: TensorDictBase, seconds: float) -> dict[str, float]:
        """What the update has computed in a second, alone and beside what the machine can do."""
        learner = self.learner
        if self._flops_an_epoch is None:
            bars = sequences(rollout.select("bar"), learner.sequence)["bar"][..., 0, 0]
            accounts = rollout.batch_size[-2]
            self._flops_an_epoch = count_operations(self.model, bars, accounts)
        flops = learner.epochs_done * self._flops_an_epoch / seconds
        if not self._peak or self.done.bit_count() == 1:
            # Timed too low if the machine had other work: again after 2, 4, 8, 16 iterations.
            timed = peak_flops(learner.device, learner.cfg.precision)
            self._peak = max(self._peak, timed)
        return {"perf/gflops": flops / 1e9, "perf/peak_share": flops / self._peak}

    def snapshot(self) -> Snapshot:
        """A copy of everything that the next iterations depend on; only between iterations."""
        learner = self.learner
        optimizer, groups = split_optimizer(learner.optimizer)
        random_tensors, random_values = get_random_state()
        tensors = {
            MODEL: copies(self.model.state_dict()),
            "optimizer": optimizer,
            "env": get_env_state(self.collector.env),
            "carrier": copies(get_carrier(self.collector._carrier)),
            "random": random_tensors,
        }
        if self.hindsight is not None:
            tensors["hindsight"] = copies(self.hindsight.state_dict())
        values = {
            "iteration": self.done,
            "frames": self.frames,
            "optimizer": groups,
            "scheduler": learner.scheduler.state_dict(),
            "random": random_values,
        }
        return Snapshot(self.done, tensors, values)

    def restore(
        self,
        tensors: Mapping[str, Mapping[str, Tensor]],
        values: Mapping[str, Any],
        *,
        begins_episodes: bool = False,
    ) -> None:
        """Become the training whose `snapshot` these are; it goes on bit for bit as that one.

        Learning rate, schedule, weight decay and the frames of an iteration are those of this
        configuration, whatever they were before.

        Args:
            tensors: of the snapshot.
            values: likewise.
            begins_episodes: leave its episodes where they stood, as those of another market, and
                begin others.

        Raises:
            ValueError: if something of it does not fit this configuration, saying what.
        """
        try:
            self.model.load_state_dict(tensors[MODEL])
            if self.hindsight is not None:
                self.hindsight.load_state_dict(tensors["hindsight"])
            join_optimizer(self.learner.optimizer, tensors["optimizer"], values["optimizer"])
            set_env_state(self.collector.env, tensors["env"])
            set_carrier(self.collector._carrier, tensors["carrier"])
            self.done, self.frames = values["iteration"], values["frames"]
            self.learner.reschedule(values["scheduler"], self.iterations)
            if begins_episodes:
                self.collector.reset()
            self._require_whole_sequences()
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"the checkpoint is of another training: {error}") from error
        set_random_state(tensors["random"], values["random"])

    def _require_whole_sequences(self) -> None:
        """A `train.sequence` that is another than it was may not divide what episodes have left."""
        carrier, length = self.collector._carrier, self.learner.sequence
        left = carrier["ledger"][..., LEDGER.index("last_bar")] - carrier["bar"][..., 0]
        most = math.gcd(length, *left.long().flatten().tolist())
        allowed = f"a divisor of {most}: the episodes that go on would end within a sequence"
        require(most == length, "train.sequence", length, allowed)

    def close(self) -> None:
        """Shut the collector and its environment down."""
        threads = torch.get_num_threads()
        self.collector.shutdown()
        torch.set_num_threads(threads)  # torchrl 0.14 leaves another number after workers
