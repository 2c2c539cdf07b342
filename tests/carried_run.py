"""A run with a bit of everything in its folder, for the tests of what is carried."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from envs.data_config import DataConfig
from envs.known_config import SyntheticConfig
from envs.table import build_table
from pipelines.checkpoint import describe, save_checkpoint
from pipelines.config import RunConfig, compose_config
from pipelines.export import main
from pipelines.model import make_model
from pipelines.tracking.tracking_config import WandbConfig
from pipelines.train_config import TrainConfig
from untrained_run import ENV, MODEL

ROOT = Path(__file__).resolve().parents[1]
SECRET = "hf_0123456789abcdefghijklmnopqrstuvwx"  # noqa: S105
# What is no file of a run, whatever it is.
STRANGE = (".env", "notes.txt", "bars/.netrc", "checkpoints/000000002/run_me.py", "id_ed25519")


def make_run(folder: Path, bars: Path | dict[str, Path] | None) -> Path:
    """An untrained run with three checkpoints, of which the second is the best.

    Args:
        folder: of the run.
        bars: a file, or a file each of several markets; None: a market that is made.
    """
    several = isinstance(bars, dict)
    named = [f"{name}={path}" for name, path in bars.items()] if several else None
    path = str(bars) if isinstance(bars, Path) else None
    made = SyntheticConfig() if bars else SyntheticConfig(market="planted", bars=4_096)
    cfg = RunConfig(
        data=DataConfig(path=path, assets=named, synthetic=made, train_frac=0.4, val_frac=0.1),
        env=ENV, model=MODEL, train=TrainConfig(steps=8, minibatch=8),
        wandb=WandbConfig(entity="somebody"),
        init_from=str(folder.parent / "private" / "first"),
    )  # fmt: skip
    table = build_table(cfg.data, window=ENV.window, episode_bars=ENV.episode_bars)
    table.save(folder / "bars")
    for iteration, score in ((1, 0.1), (2, 0.3), (3, 0.2)):
        torch.manual_seed(iteration)
        model = make_model(cfg.model, cfg.env, table)
        save_checkpoint(
            folder / "checkpoints" / f"{iteration:09d}", about=describe(cfg, table),
            tensors={"model": model.state_dict(), "optimizer": {"0.step": torch.ones(3)}},
            values={"score": score, "iteration": iteration, "frames": 100 * iteration},
        )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(cfg)))
    (folder / "metrics.jsonl").write_text('{"frames": 100}\n')
    (folder / "train_actions.csv").write_text("a,b\n" * 1000)
    (folder / "train_actions.json").write_text("{}")
    of_wandb = folder / "wandb" / "offline-run-20250101_000000-abc"
    of_wandb.mkdir(parents=True)
    (of_wandb / "run-abc.wandb").write_bytes(b"curves")
    (folder / "wandb" / "latest-run").symlink_to(of_wandb.name)
    for name in STRANGE:
        (folder / name).write_text(SECRET)
    (folder / ".lock").touch()
    return folder


def make_card(run: Path, folder: Path, *words: str) -> str:
    """The card of a run's model, which is written to a folder that is not there yet."""
    main(compose_config("export", [f"run={run}", f"model={folder}", *words]))
    return (folder / "README.md").read_text("utf-8")


def export(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own; `options` are those of ``subprocess.run``."""
    command = [sys.executable, str(ROOT / "pipelines" / "export.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)
