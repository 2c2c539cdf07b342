"""The checkpoints of one run: the newest and the best are kept, a damaged one is passed over."""

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from envs.durable import remove_folder, sweep_unfinished
from pipelines.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pipelines.run_folder import list_checkpoints

KEPT = 3
_HOW_LANES_ARE_RUN = ("paths", "accounts", "workers", "compile")
_LOG = logging.getLogger(__name__)


class CheckpointStore:
    """Writes the checkpoints of a run; one process may hold one at a time.

    Args:
        folder: of all checkpoints; what killed writers have left there is swept.
        about: what every manifest says, from `pipelines.checkpoint.describe`.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder, self.about = folder, about
        self._scores: dict[str, float] = {}
        if left := sweep_unfinished(folder):
            _LOG.warning("%s: swept %d unfinished checkpoints", folder, len(left))
        manifests = {}
        for path in reversed(list_checkpoints(folder)):
            with contextlib.suppress(ValueError, OSError):  # a damaged one is not the best
                manifests[path.name] = load_checkpoint(path).manifest
        self._scores |= judged_alike(manifests, about)

    def save(
        self,
        iteration: int,
        *,
        tensors: Mapping[str, Mapping[str, Tensor]],
        values: Mapping[str, Any],
    ) -> Path:
        """Write the checkpoint of an iteration, then drop what is neither new nor best.

        One of the same iteration that is there already, and damaged, is replaced.

        Args:
            iteration: whole iterations of training behind it.
            tensors: as in `save_checkpoint`.
            values: as there; ``score`` says how good it is, None if that is unknown.

        Raises:
            OSError: if the disk refuses; the checkpoints that were there still are.
        """
        path = self.folder / f"{iteration:09d}"
        if path.exists():
            remove_folder(path)
        save_checkpoint(path, about=self.about, tensors=tensors, values=values)
        self._note(path, values)
        self._prune()
        return path

    @property
    def best_score(self) -> float | None:
        """The highest score of the checkpoints that are there; None if none was judged.

        Those of before the run was changed do not count: see `judged_alike`.
        """
        return max(self._scores.values(), default=None)

    def _note(self, path: Path, values: Mapping[str, Any]) -> None:
        score = values.get("score")
        if score is not None:
            self._scores[path.name] = score

    def _prune(self) -> None:
        kept = [path.name for path in list_checkpoints(self.folder)]
        best = max(self._scores, key=lambda name: (self._scores[name], name), default=None)
        for name in kept[:-KEPT]:
            if name != best:
                self._scores.pop(name, None)
                remove_folder(self.folder / name)


def judged_alike(
    manifests: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any]
) -> dict[str, float]:
    """Scores that compare: on the same bars and tiles, at the same costs. Others do not.

    Args:
        manifests: of checkpoints by name, the newest first.
        about: the manifest of the one that they are to compare with, or what
            `pipelines.checkpoint.describe` says. If it is not judged at all
            (``checkpoint.val_episodes=0``), tiles are those of the newest that was.
    """
    tiles, scores = about["config"]["checkpoint"]["val_episodes"], {}
    for name, manifest in manifests.items():
        score = manifest["values"].get("score")
        if score is not None and _played_on(manifest) == _played_on(about):
            own = manifest["config"]["checkpoint"]["val_episodes"]
            tiles = tiles or own
            if own == tiles:
                scores[name] = score
    return scores


def _played_on(about: Mapping[str, Any]) -> str:
    """What a score depends on beside the policy and the tiles: bars and costs."""
    config, data = about["config"], about["data"]
    env = {name: value for name, value in config["env"].items() if name not in _HOW_LANES_ARE_RUN}
    bars = {name: value for name, value in data.items() if name != "file"}
    return json.dumps([env, bars], sort_keys=True)


def load_newest(folder: Path) -> Checkpoint:
    """The newest checkpoint that is whole; what is damaged is named in a warning.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if none of them is whole, naming the first damage.
    """
    return _first_whole(folder, list_checkpoints(folder)[::-1])


def load_best(folder: Path) -> Checkpoint:
    """The whole checkpoint with the highest score, of those judged as the newest one would be.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if none of them is whole, or none has a score.
    """
    manifests = {}
    for path in reversed(list_checkpoints(folder)):
        try:
            manifests[path.name] = load_checkpoint(path).manifest
        except (ValueError, OSError) as error:
            _LOG.warning("passed over: %s", error)
    if not list_checkpoints(folder):
        raise _none_there(folder)
    newest = next(iter(manifests.values()), None)
    scores = {} if newest is None else judged_alike(manifests, newest)
    if not scores:
        earlier = any(each["values"].get("score") is not None for each in manifests.values())
        since = " since the run was changed" if earlier else ""
        raise ValueError(
            f"{folder}: no whole checkpoint here was judged{since} (checkpoint.val_episodes)"
        )
    return load_checkpoint(folder / max(scores, key=lambda name: (scores[name], name)))


def _first_whole(folder: Path, paths: list[Path]) -> Checkpoint:
    errors = []
    for path in paths:
        try:
            checkpoint = load_checkpoint(path)
        except (ValueError, OSError) as error:
            _LOG.warning("passed over: %s", error)
            errors.append(str(error))
            continue
        if errors:
            _LOG.warning("falling back to %s", path)
        return checkpoint
    if errors:
        raise ValueError(f"{folder}: none of the {len(errors)} checkpoints is whole: {errors[0]}")
    raise _none_there(folder)


def _none_there(folder: Path) -> FileNotFoundError:
    """Of a run that has no checkpoint, or that is not there at all: its name is mistyped."""
    if not folder.parent.exists():
        return FileNotFoundError(f"{folder.parent}: no such folder")
    return FileNotFoundError(f"{folder}: no checkpoint here")
