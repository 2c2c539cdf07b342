"""Where the runs are, and their small files, read whatever state they are in."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.folder_lock import is_locked
from pipelines.held_out.evaluation_files import EVALUATION

CONFIG, METRICS, RESULT = "config.json", "metrics.jsonl", "result.json"
# A folder with one of these is a run: the bars come first. A lock alone may be an evaluation's.
_MARKS = ("bars/table.json", CONFIG, METRICS, "checkpoints")
_DEPTH = 5
_MOST_BYTES = 64 * 2**20


def find_folders(root: Path) -> tuple[list[Path], list[Path]]:
    """Folders of runs, and those of evaluations that belong to no single run, by name.

    Of the evaluations that are not made yet those are among them in which a process writes.
    Links are not followed, and names that begin with a dot are left out.

    Raises:
        NotADirectoryError: if `root` is none.
    """
    if not root.is_dir():
        raise NotADirectoryError(f"runs={str(root)!r} is not allowed: a folder that exists")
    runs: list[Path] = []
    evaluations: list[Path] = []
    for folder in _folders(root, _DEPTH):
        if _is_run(folder):
            runs.append(folder)
        elif (folder / EVALUATION).is_file() or is_locked(folder):
            evaluations.append(folder)
    own = set(runs)
    return sorted(runs), sorted(e for e in evaluations if own.isdisjoint(e.parents))


def _is_run(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in _MARKS)


def _folders(parent: Path, depth: int) -> Iterator[Path]:
    """The folders below one, without those inside a run; what cannot be read has none."""
    try:
        inside = sorted(os.scandir(parent), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in inside:
        if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
            continue
        folder = parent / entry.name
        yield folder
        if depth > 1 and not _is_run(folder):
            yield from _folders(folder, depth - 1)


def read_object(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """A file that holds one JSON object; None if there is none.

    What is wrong with one that is there is appended to `problems`.
    """
    text = read_text(path, problems)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(f"{path.name}: half-written or damaged: {error}")
        return None
    if not isinstance(found, dict):
        problems.append(f"{path.name}: not an object")
        return None
    return found


def object_in(values: object, name: str) -> dict[str, Any]:
    """The object of that name within what a file holds; empty if there is none."""
    found = values.get(name) if isinstance(values, dict) else None
    return found if isinstance(found, dict) else {}


def list_in(values: object, name: str) -> list[Any]:
    """The list of that name within what a file holds; empty if there is none."""
    found = values.get(name) if isinstance(values, dict) else None
    return found if isinstance(found, list) else []


def finite(value: object) -> float | None:
    """A finite number of a file; None for anything else, truth values among it."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return found if math.isfinite(found) else None


def read_text(path: Path, problems: list[str]) -> str | None:
    """The text of a plain file of moderate size; None, and perhaps a problem, without one."""
    if not os.path.lexists(path):
        return None
    try:
        if path.is_symlink() or not path.is_file():
            problems.append(f"{path.name}: not a plain file")
        elif path.stat().st_size > _MOST_BYTES:
            problems.append(f"{path.name}: larger than {_MOST_BYTES >> 20} MiB")
        else:
            return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        problems.append(f"{path.name}: not UTF-8")
    except OSError as error:
        problems.append(f"{path.name}: {error.strerror or error}")
    return None
