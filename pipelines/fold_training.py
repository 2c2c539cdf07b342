"""The trainings of a walk-forward: one run for each seed and fold, none of them done twice."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from envs.bar_files import time_text
from envs.bar_table import BarTable
from envs.bars import report_lines
from envs.checks import require
from envs.data_config import SPLITS, DataConfig
from envs.episodes import RandomStarts
from envs.table import build_table
from pipelines.checkpoint_store import load_newest
from pipelines.config import RunConfig, compose_config
from pipelines.ending import ENDING
from pipelines.held_out.rollout import split_tiles
from pipelines.held_out.walk_forward import Fold, Layout, Rows, fold_data, plan_folds, usable_rows
from pipelines.ppo_transformer import main as train_and_tell
from pipelines.resume import FREE, differences
from pipelines.run_folder import RunFolder, list_checkpoints
from pipelines.tracking.wandb_outlet import run_id_of_its_own

# What the words of a training cannot say, since the walk-forward does.
_OWN = (
    *("seed", "tag", "resume", "init_from", "run.", "replay."),
    *("data.train_frac", "data.val_start", "data.test_start"),
)
_USUAL = ("wandb.mode=disabled", "recorder.enabled=false")
_ALWAYS = ("replay.enabled=false", "resume=auto")
# Of code and bars the walk-forward tells once, not every training anew.
train_run = partial(train_and_tell, is_told=True)


@dataclass(frozen=True)
class WalkForward:
    """What is to be trained.

    Attributes:
        folds: how the bars are cut.
        runs: configurations of each seed, one a fold.
        table: the bars.
        first_row: of the table, that the folds count from.
        lines: what a person is told of the bars and of how the folds cut them.
    """

    folds: list[Fold]
    runs: list[list[RunConfig]]
    table: BarTable
    first_row: int
    lines: list[str]

    def describe(self) -> list[dict[str, Any]]:
        """Number of each fold, and first and last bar of its parts."""
        return [
            {"fold": fold.number}
            | {
                name: [self._time(rows[0]), self._time(rows[1] - 1)]
                for name, rows in _parts(fold).items()
            }
            for fold in self.folds
        ]

    def folders(self) -> list[list[Path]]:
        """Of the runs of each seed, one a fold."""
        return [[Path(str(cfg.run.dir)) for cfg in runs] for runs in self.runs]

    def _time(self, row: int) -> str:
        return time_text(int(self.table.timestamp[self.first_row + row]))


def _parts(fold: Fold) -> dict[str, Rows]:
    return {"train": fold.train, "val": fold.val, "test": fold.played}


def plan_runs(
    words: Sequence[str],
    *,
    folder: Path,
    folds: int,
    mode: str,
    tail_frac: float,
    seeds: Sequence[int],
) -> WalkForward:
    """The configurations of all trainings.

    Args:
        words: of a training's command line.
        folder: that will hold the runs.
        folds: test parts.
        mode: ``anchored`` or ``rolling``.
        tail_frac: share of the bars that the test parts cover.
        seeds: of the trainings.

    Raises:
        FileNotFoundError: if there is no such file of bars.
        ValueError: for a word that is not allowed, bars that cannot be used, or too few of them.
    """
    for word in words:
        key = word.partition("=")[0]
        if key in _OWN or key.startswith(tuple(own for own in _OWN if own.endswith("."))):
            raise ValueError(f"train=[{word}] is not allowed: the walk-forward itself sets {key}")
    try:
        cfg: RunConfig = compose_config("ppo_transformer", [*_USUAL, *words, *_ALWAYS])
    except ValueError as error:
        raise ValueError(f"train=[...]: {error}") from error
    table = build_table(cfg.data, window=cfg.env.window, episode_bars=cfg.env.episode_bars)
    alone = len(table.asset_names) == 1
    allowed = "one market: a walk-forward measures one account in the order of time"
    require(alone, "train=[data.assets=...]", table.asset_names, allowed)
    layout = Layout(
        folds=folds,
        mode=mode,
        tail_frac=tail_frac,
        val_frac=cfg.data.val_frac,
        window=cfg.env.window,
        episode_bars=cfg.env.episode_bars,
        embargo_bars=cfg.data.embargo_bars,
    )
    times = table.timestamp.numpy()
    first, end = usable_rows(times, cfg.data)
    planned = plan_folds(end - first, layout)
    datas = [fold_data(fold, times[first:end], cfg.data, layout.embargo) for fold in planned]
    lines = report_lines(table.meta.report) if table.meta.report else []
    for fold, data in zip(planned, datas, strict=True):
        lines += _cut(fold, data, cfg)
    runs = [
        [_run(cfg, seed, fold, data, folder) for fold, data in zip(planned, datas, strict=True)]
        for seed in seeds
    ]
    return WalkForward(planned, runs, table, first, lines)


def _cut(fold: Fold, data: DataConfig, cfg: RunConfig) -> list[str]:
    """What the parts of a fold have to trade, a line each, before any training.

    Raises:
        ValueError: if holes have left a part without an episode, naming the fold and the part.
    """
    table = build_table(data, window=cfg.env.window, episode_bars=cfg.env.episode_bars)
    for split in SPLITS:
        try:
            if split == "train":
                RandomStarts(table.runs(split), cfg.env.window, cfg.env.episode_bars)
            else:
                split_tiles(table, cfg.env, split)
        except ValueError as error:
            raise ValueError(f"fold {fold.number}, {split} part: {error}") from error
    return [f"fold {fold.number}, {line}" for line in table.split_lines()]


def _run(cfg: RunConfig, seed: int, fold: Fold, data: Any, folder: Path) -> RunConfig:
    name = f"seed{seed}_fold{fold.number}"
    place = dataclasses.replace(cfg.run, dir=str(folder / name))
    # Shown together: the tag, which groups the runs of a person, is another for each of these.
    group = cfg.wandb.group or folder.resolve().parent.name
    wandb = dataclasses.replace(cfg.wandb, group=group)
    return dataclasses.replace(cfg, seed=seed, data=data, run=place, tag=name, wandb=wandb)


def untrained(plan: WalkForward) -> list[RunConfig]:
    """The trainings that are still to be done, or to be gone on with.

    Raises:
        ValueError: if a run that is there is of another configuration, naming the keys.
    """
    sha256 = plan.table.meta.source_sha256
    return [cfg for runs in plan.runs for cfg in runs if not is_trained(cfg, sha256)]


def train_all(runs: Sequence[RunConfig]) -> None:
    """Train one after the other; a run that was stopped goes on where it was."""
    for i, cfg in enumerate(runs):
        print(f"training {i + 1} of {len(runs)}: {cfg.run.dir}")
        with run_id_of_its_own(cfg.tag):
            train_run(cfg)
        ENDING.set_last_will(None)


def is_trained(cfg: RunConfig, source_sha256: str) -> bool:
    """Whether the run of a configuration is there, trained to its end.

    Raises:
        ValueError: if it is, and of another configuration or other bars.
    """
    run = RunFolder(Path(str(cfg.run.dir)))
    if not list_checkpoints(run.checkpoints):
        return False
    checkpoint = load_newest(run.checkpoints)
    if checkpoint.values["frames"] < cfg.total_frames:
        return False
    found = differences(dataclasses.asdict(checkpoint.config), dataclasses.asdict(cfg), free=FREE)
    if checkpoint.manifest["data"]["sha256"] != source_sha256:
        found.append("the file of bars")
    if found:
        raise ValueError(
            f"{run.path}: trained before, in another way: {'; '.join(found)}. Give another out="
        )
    return True
