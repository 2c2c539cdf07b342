"""Runs that stopped before their first update: the bars, and a checkpoint of drawn weights."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from envs.config import EnvConfig
from envs.data_config import DataConfig
from envs.table import build_table
from modules.config import ModelConfig
from pipelines.checkpoint import describe, save_checkpoint
from pipelines.config import RunConfig
from pipelines.model import make_model
from pipelines.train_config import TrainConfig
from random_walk import write_bars

ENV = EnvConfig(paths=2, accounts=2, workers=0, window=8, episode_bars=24)
MODEL = ModelConfig(encoder="mlp", d_model=8, ff_dim=8, num_layers=1, num_heads=1, account_dim=4,
                    features_dim=8)  # fmt: skip
# Of the command line, for a training that is over in seconds.
WORDS = [
    "model=mlp", "model.d_model=8", "model.ff_dim=8", "env.paths=2", "env.accounts=2",
    "env.workers=0", "env.window=8", "env.episode_bars=24", "train.steps=8", "train.minibatch=16",
    "total_frames=64", "checkpoint.val_episodes=2",
]  # fmt: skip


def make_untrained(folder: Path, bars: Path, *, seed: int, **changes: Any) -> Path:
    """Make the folder of a run of a small network.

    Args:
        folder: that is not there yet, or is empty.
        bars: a file; its last half is for testing.
        seed: of the weights.
        changes: other values of the `RunConfig`.

    Returns:
        The folder. Its one checkpoint has been judged by validation: its score is 0.1.
    """
    cfg = RunConfig(
        seed=seed, data=DataConfig(path=str(bars), train_frac=0.4, val_frac=0.1), env=ENV,
        model=MODEL, train=TrainConfig(steps=8, minibatch=8),
    )  # fmt: skip
    cfg = dataclasses.replace(cfg, **changes)
    table = build_table(cfg.data, window=cfg.env.window, episode_bars=cfg.env.episode_bars)
    torch.manual_seed(seed)
    model = make_model(cfg.model, cfg.env, table)
    table.save(folder / "bars")
    save_checkpoint(
        folder / "checkpoints" / "000000001",
        about=describe(cfg, table),
        tensors={"model": model.state_dict()},
        values={"score": 0.1},
    )
    return folder


def make_three(root: Path) -> list[Path]:
    """Two seeds of one configuration, and a run of another, on the same 6,000 bars."""
    bars = write_bars(root / "bars.parquet", 6_000)
    other = dataclasses.replace(ENV, trailing=True)
    return [
        make_untrained(root / "a", bars, seed=1),
        make_untrained(root / "b", bars, seed=2),
        make_untrained(root / "c", bars, seed=3, env=other, tag="other"),
    ]
