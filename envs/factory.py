"""The environment a learner collects from: the market, in workers or not, and its transforms."""

import dataclasses
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torchrl.envs import (
    Compose,
    EnvBase,
    ObservationNorm,
    ParallelEnv,
    RewardSum,
    StepCounter,
    TransformedEnv,
)

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.market import MarketEnv
from envs.observation import account_scale
from envs.workers import end_with_program, limit_waiting


def make_env(
    table: BarTable | Path,
    cfg: EnvConfig,
    *,
    split: str = "train",
    record_fills: bool = True,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> TransformedEnv:
    """The market under its transforms, ready for a collector.

    Args:
        table: the bars, or the folder that `BarTable.save` wrote, which workers need: they map
            the same memory.
        cfg: the parameters; `workers` > 0 puts that many shares of the paths into processes.
        split: the split that paths may visit.
        record_fills: whether steps carry the key ``fills``.
        device: where the environment lives; workers need ``cpu``.
        seed: of the starts; workers and paths draw different ones.

    Returns:
        An environment of batch [paths, accounts], or [workers, paths / workers, accounts].
    """
    share = dataclasses.replace(cfg, paths=cfg.paths // max(cfg.workers, 1), workers=0)
    make = partial(
        _make_market, table, share, split=split, record_fills=record_fills, device=device
    )
    base: EnvBase
    if cfg.workers:
        # Starting workers would take the parent's threads away from the update.
        base = ParallelEnv(
            cfg.workers,
            partial(_make_in_worker, os.getpid(), make),
            num_threads=torch.get_num_threads(),
        )
    else:
        base = make()
    env = TransformedEnv(base, training_transforms(cfg))
    env.set_seed(seed)
    if isinstance(base, ParallelEnv):
        limit_waiting(base)  # seeding has started the workers
        end_with_program(base)
    return env


def training_transforms(cfg: EnvConfig) -> Compose:
    """Account normalisation, and the episode's return and length for the logs."""
    return Compose(account_norm(cfg), RewardSum(), StepCounter())


class AccountNorm(ObservationNorm):
    """The standard normal one, without asking a tensor at every step which of two it is.

    On a GPU the answer is waited for.
    """

    def _apply_transform(self, obs: Tensor) -> Tensor:
        return (obs - self.loc) / self.scale


def account_norm(cfg: EnvConfig) -> AccountNorm:
    """Scale the account's columns to order one; fixed, so that it cannot drift or leak."""
    scale = account_scale(cfg)
    return AccountNorm(
        loc=torch.zeros_like(scale), scale=scale, in_keys=["account"], standard_normal=True
    )


def _make_market(table: BarTable | Path, cfg: EnvConfig, **kwargs: object) -> MarketEnv:
    bars = BarTable.load(table) if isinstance(table, Path) else table
    return MarketEnv(bars, cfg, **kwargs)  # type: ignore[arg-type]


def _make_in_worker(parent: int, make: Callable[[], MarketEnv]) -> MarketEnv:
    """The market of a worker; the process `parent` calls this once too, to learn the specs.

    Ctrl-C reaches every process of a terminal, SIGTERM every process of a group. Workers leave both
    to their parent, which waits ten seconds for the farewell of each worker that has gone without
    one, and kills them when it ends.
    """
    if os.getpid() != parent:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    return make()
