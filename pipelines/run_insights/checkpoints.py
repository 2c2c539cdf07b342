"""Which checkpoint of a run is the newest, and whether a result is of another one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.run_folder import list_checkpoints
from pipelines.run_insights.run_files import read_object, read_text


class CheckpointName(NamedTuple):
    """A checkpoint: the name of its folder, which is its iteration, and the sha256 of its manifest.

    Results name it so; nothing of what they say is trusted.
    """

    iteration: str
    sha256: str


def named_checkpoint(value: object) -> list[CheckpointName]:
    """The checkpoint that a result names by ``iteration`` and ``sha256``; none if it names none."""
    if not isinstance(value, dict) or not value.get("sha256"):
        return []
    return [CheckpointName(str(value.get("iteration")), str(value["sha256"]))]


def newest_checkpoint(
    folder: Path, problems: list[str]
) -> tuple[dict[str, Any], CheckpointName | None]:
    """The manifest of a run's newest checkpoint, empty if it cannot be read, and its name.

    Args:
        folder: of the checkpoints.
        problems: what is wrong with it is appended.
    """
    try:
        checkpoints = list_checkpoints(folder)
    except OSError as error:
        problems.append(f"checkpoints: {error.strerror or error}")
        return {}, None
    if not checkpoints or checkpoints[-1].is_symlink():
        return {}, None
    newest = checkpoints[-1]
    manifest = read_object(newest / "manifest.json", problems) or {}
    line = (read_text(newest / "manifest.sha256", problems) or "").split()
    return manifest, CheckpointName(newest.name, line[0]) if line else None


def other_than(newest: CheckpointName | None, named: Iterable[CheckpointName]) -> str:
    """Which checkpoint a result is of, if it is not the newest one; else nothing.

    Args:
        newest: of the run; None if it is not known.
        named: by the result; none if it is older than such names.
    """
    found = list(named)
    if newest is None or not found or any(each.sha256 == newest.sha256 for each in found):
        return ""
    last = max(each.iteration for each in found)
    if last == newest.iteration:
        return f"iteration {_plain(last)}, trained anew since"
    return f"iteration {_plain(last)} of {_plain(newest.iteration)}"


def _plain(iteration: str) -> str:
    return iteration.lstrip("0") or "0"
