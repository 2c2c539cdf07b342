"""Which run to go on with, and whether it is still the same one."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.bar_table import BarTable
from pipelines.checkpoint import Checkpoint, describe
from pipelines.checkpoint_store import load_newest
from pipelines.config import RunConfig
from pipelines.run_folder import RunFolder, list_checkpoints

# Keys that change where a run writes, what it does when it ends and how it computes, and none of
# its numbers; what a file of bars holds counts by its hash, not by its name.
FREE = (
    *("resume", "run.", "logger", "wandb.", "alerts.", "replay.", "checkpoint."),
    "recorder.format",
    "env.compile",
    "train.cuda_graph",
    *("data.path", "data.assets", "data file: file"),
)
_CLIP = ("model.feature_clip",)  # weights of the same shapes that mean the same
# What says where episodes may lie: one that was begun under another may lie in bars that are none.
_OF_EPISODES = ("data.", "data file: ", "env.episode_bars: ")


def open_run(cfg: RunConfig, table: BarTable) -> tuple[RunFolder, Checkpoint | None]:
    """The folder to write to, locked for this process, and the checkpoint to go on from.

    Raises:
        ValueError: if the run is another one, or can be no such one, every key that differs being
            named, none of its checkpoints is whole, or something in its folder is a symbolic link.
        OSError: if another process writes there, or the folder is not empty.
    """
    run = find_run(cfg)
    if run is None:
        anew = cfg.resume != "none"
        run = RunFolder.create(cfg.run.root, cfg.run.dir, cfg.tag, anew=anew)
        run.lock()
        return run, None
    run.lock()
    checkpoint = load_newest(run.checkpoints)
    if cfg.resume == "auto":
        require_same(checkpoint, cfg, table)
    require_fits(checkpoint, cfg, table)
    return run, checkpoint


def find_run(cfg: RunConfig) -> RunFolder | None:
    """The run that ``resume`` means: `run.dir`, else the newest one of this tag under the root.

    Returns:
        None if there is none that has a checkpoint: then a new run begins.
    """
    if cfg.resume == "none":
        return None
    if cfg.run.dir is not None:
        folders = [Path(cfg.run.dir)]
    else:
        ours = re.compile(rf"\d{{8}}-\d{{6}}_{re.escape(cfg.tag)}")
        folders = sorted(Path(cfg.run.root).glob(f"*_{cfg.tag}"), reverse=True)
        folders = [folder for folder in folders if ours.fullmatch(folder.name)]
    for folder in folders:
        run = RunFolder(folder)
        if list_checkpoints(run.checkpoints):
            return run
    return None


def require_same(checkpoint: Checkpoint, cfg: RunConfig, table: BarTable) -> None:
    """Refuse to go on under another configuration or with other data.

    Raises:
        ValueError: naming every key that differs, with both values.
    """
    if differing := _differing(checkpoint, cfg, table):
        raise ValueError(
            f"{checkpoint.folder} is not of this run; it differs in {'; '.join(differing)}. "
            "Give what it was started with; or go on all the same (resume=changed), begin anew "
            "(another run.dir), or begin with its weights (init_from=...)"
        )


def require_fits(checkpoint: Checkpoint, cfg: RunConfig, table: BarTable) -> None:
    """Refuse a change that a training cannot take, before its bars make way for others.

    Raises:
        ValueError: naming every key that must be what it was.
    """
    checkpoint.require_features(table.meta.feature_names)
    before = checkpoint.config
    has_trace = cfg.recorder.enabled and before.recorder.enabled
    found = [
        *network_differences(before, cfg),
        *differences(_lanes(before, has_trace=has_trace), _lanes(cfg, has_trace=has_trace)),
    ]
    if found:
        raise ValueError(
            f"{checkpoint.folder} is of another training: {'; '.join(found)}. Give what it was "
            "started with, or begin anew (another run.dir)"
        )


def network_differences(before: RunConfig, now: RunConfig) -> list[str]:
    """Keys by which weights are of another network, whose shapes may be the same."""
    return differences(_network(before), _network(now), free=_CLIP)


def _network(cfg: RunConfig) -> dict[str, dict[str, Any]]:
    """What shapes it: of the action how many choices each head has, not what they mean."""
    env = cfg.env
    return {
        "model": dataclasses.asdict(cfg.model),
        "env": {"window": env.window, "stop_steps": env.stop_steps},
        "number of env": {
            "risk_multiples": len(env.risk_multiples),
            "take_profit_r": len(env.take_profit_r),
        },
    }


def _lanes(cfg: RunConfig, *, has_trace: bool) -> dict[str, dict[str, Any]]:
    """What else a checkpoint has tensors for: lanes, those whose rows are counted, a critic."""
    env, kept = cfg.env, cfg.recorder.kept_lanes(cfg.env.lanes) if has_trace else None
    return {
        "env": {"paths": env.paths, "accounts": env.accounts, "workers": env.workers},
        "train": {"hindsight_bars": cfg.train.hindsight_bars},
        "recorder": {"lanes": None if kept is None else len(kept)},
    }


def are_others(checkpoint: Checkpoint, cfg: RunConfig, table: BarTable) -> bool:
    """Whether the episodes of a checkpoint cannot be played to their ends (``resume=changed``).

    Other bars, other splits of them or other lengths: they may lie in held-out bars by now, over a
    hole, or beyond the table.
    """
    return any(each.startswith(_OF_EPISODES) for each in _differing(checkpoint, cfg, table))


def _differing(checkpoint: Checkpoint, cfg: RunConfig, table: BarTable) -> list[str]:
    now = describe(cfg, table)
    differing = [
        *differences(checkpoint.manifest["config"], now["config"]),
        *differences(checkpoint.manifest["data"], now["data"], "data file: "),
    ]
    if checkpoint.manifest["features"] != now["features"]:
        differing.append("the features of the bars")
    return differing


def inexact_notes(checkpoint: Checkpoint, cfg: RunConfig, table: BarTable) -> list[str]:
    """What is another than it was, and may change the last bits of every sum."""
    now = describe(cfg, table)
    keys = ("git_revision", "threads", "versions")
    before = {key: checkpoint.manifest.get(key) for key in keys}
    found = differences(before, {key: now[key] for key in keys})
    return [f"not bit for bit as it would have been: {difference}" for difference in found]


def differences(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    prefix: str = "",
    free: tuple[str, ...] = FREE,
) -> list[str]:
    """Keys whose values differ, as ``train.lr: 0.001 then, 0.01 now``; those in `free` may."""
    found = []
    for key in sorted(before.keys() | now.keys()):
        path, a, b = prefix + key, before.get(key), now.get(key)
        if path in free or path.startswith(tuple(k for k in free if k.endswith("."))):
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{path}.", free)
        elif a != b:
            found.append(f"{path}: {a!r} then, {b!r} now")
    return found
