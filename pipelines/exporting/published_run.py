"""The model of a run, made ready for strangers: weights and what they need, and nothing private.

What is written is a run's folder with one checkpoint of one group of tensors, so that every program
that takes a run, or ``init_from=``, takes it too. Bars, traces, optimiser and paths stay at home.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.assets import parse_assets
from envs.bar_table import BarTable
from pipelines.checkpoint import MODEL, Checkpoint, load_checkpoint, save_checkpoint
from pipelines.checkpoint_store import load_best, load_newest

# Values of a checkpoint that say what it is; the others make a training go on.
_KEPT_VALUES = ("iteration", "frames", "score")
_FROM_SAVE = ("values", "files")


@dataclass(frozen=True)
class Model:
    """A checkpoint that is to be published.

    Attributes:
        run: the run's folder.
        checkpoint: of the run, as it was trained.
        table: the bars that it was trained on.
    """

    run: Path
    checkpoint: Checkpoint
    table: BarTable

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.resolve().name


def load_published(run: Path, checkpoints: str) -> Model:
    """The checkpoint of a run that is to be published.

    Args:
        run: its folder.
        checkpoints: ``last``; everything else is the best on validation.

    Raises:
        FileNotFoundError: if the run lacks a checkpoint or its bars.
        ValueError: if no checkpoint is whole, or none was judged, or the bars are others.
    """
    load = load_newest if checkpoints == "last" else load_best
    checkpoint, table = load(run / "checkpoints"), BarTable.load(run / "bars")
    if table.meta.source_sha256 != checkpoint.manifest["data"]["sha256"]:
        raise ValueError(f"{run / 'bars'}: not the bars that {checkpoint.folder} was trained on")
    return Model(run, checkpoint, table)


def save_published(model: Model, folder: Path) -> Path:
    """Write the model's checkpoint under ``checkpoints/`` of a folder, and read it back.

    Raises:
        FileExistsError: if it is there already.
        OSError: if the disk refuses.
    """
    known, path = model.checkpoint, folder / "checkpoints" / model.checkpoint.folder.name
    about = {key: value for key, value in known.manifest.items() if key not in _FROM_SAVE}
    save_checkpoint(
        path,
        about=about | {"config": without_paths(about["config"])},
        tensors={MODEL: known.model},
        values={key: known.values.get(key) for key in _KEPT_VALUES},
    )
    load_checkpoint(path)
    return path


def without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what says where its owner keeps things, or under which account."""
    plain = copy.deepcopy(config)
    for section, key in ((plain["data"], "path"), (plain, "init_from")):
        if section[key] is not None:
            section[key] = Path(section[key]).name
    if plain["data"]["assets"] is not None:
        assets = parse_assets(plain["data"]["assets"])
        plain["data"]["assets"] = [f"{name}={Path(path).name}" for name, path in assets]
    plain["run"] = {"root": "runs", "dir": None}
    plain["wandb"]["entity"] = None
    return plain
