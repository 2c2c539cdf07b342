"""Which files of a finished training are kept elsewhere, under which names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs.table_meta import META_FILE
from pipelines.checkpoint import Checkpoint
from pipelines.checkpoint_store import load_best, load_newest
from pipelines.run_folder import RunFolder

BEST, LAST = "best", "last"
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Artifact:
    """Files under one name; the same files again are the same version.

    Attributes:
        name: letters, digits, ``_``, ``-`` and ``.``.
        kind: ``model``, ``dataset`` or ``trace``.
        files: where they lie, by their name in the artifact.
        aliases: names of this version.
        about: plain values.
    """

    name: str
    kind: str
    files: dict[str, Path]
    aliases: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)


def run_artifacts(run: RunFolder, wanted: Sequence[str]) -> list[Artifact]:
    """What is kept of a finished training, in the order in which it is to be logged.

    Args:
        run: the run's folder.
        wanted: some of `pipelines.tracking.tracking_config.ARTIFACTS`.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if none is whole.
    """
    found = []
    if "data" in wanted:
        found.append(data_artifact(run))
    if "model" in wanted:
        found += model_artifacts(run)
    if "trace" in wanted:
        found += trace_artifacts(run)
    return found


def data_artifact(run: RunFolder) -> Artifact:
    """What the bars are: names, hashes, splits and the loader's report; not the bars themselves.

    Named by the hash of their source, so that runs on the same bars share it.
    """
    about = load_newest(run.checkpoints).manifest["data"]
    name = str(about["sha256"])[:12] or fit_name(about["asset"])
    return Artifact(f"bars-{name}", "dataset", {META_FILE: run.bars / META_FILE}, about=dict(about))


def model_artifacts(run: RunFolder) -> list[Artifact]:
    """The checkpoint that did best on the validation split, and the last one, which may be it.

    Each is whole: ``init_from=FOLDER`` takes it once it has been downloaded.
    """
    last = load_newest(run.checkpoints)
    try:
        best = load_best(run.checkpoints)
    except ValueError:  # none was judged
        return [_model(run, last, [LAST])]
    if best.folder == last.folder:
        return [_model(run, last, [BEST, LAST])]
    # The last one comes last: W&B calls that one "latest".
    return [_model(run, best, [BEST]), _model(run, last, [LAST])]


def trace_artifacts(run: RunFolder) -> list[Artifact]:
    """The traces of training and replay, of every market, as far as there are any."""
    found = []
    for stage, folders in (("train", [run.path]), ("replay", [run.path, *run.replays()])):
        files = {
            path.relative_to(run.path).as_posix(): path
            for folder in map(RunFolder, folders)
            for suffix in ("csv", "parquet", "json")
            if (path := folder.trace(stage, suffix)).is_file()
        }
        if files:
            found.append(Artifact(fit_name(f"{stage}-trace-{run.name}"), "trace", files))
    return found


def fit_name(text: str) -> str:
    """A text as the name of an artifact may be."""
    return _UNFIT.sub("-", text)[:128]


def _model(run: RunFolder, checkpoint: Checkpoint, aliases: list[str]) -> Artifact:
    files = {path.name: path for path in sorted(checkpoint.folder.iterdir())}
    values = checkpoint.values
    about = {key: values[key] for key in ("iteration", "frames", "score")}
    return Artifact(fit_name(f"model-{run.name}"), "model", files, aliases, about)
