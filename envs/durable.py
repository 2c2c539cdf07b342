"""Files and folders that are on the disk whole, or not at all, whenever the power goes."""

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

UNFINISHED = ".unfinished"
_DOOMED = ".removed"


def write_folder(folder: Path, blobs: Mapping[str, bytes]) -> None:
    """Write files into a folder that gets its name only when they are on the disk.

    Args:
        folder: must not exist, or be empty.
        blobs: contents by file name, written in this order.

    Raises:
        OSError: if the disk refuses; nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{UNFINISHED}")
    try:
        unfinished.mkdir()
        for name, blob in blobs.items():
            with open(unfinished / name, "xb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
        sync_folder(unfinished)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def write_file(path: Path, blob: bytes) -> None:
    """Write a file that gets its name, or replaces the file of that name, when it is on the disk.

    Raises:
        OSError: if the disk refuses; what was there stays, and nothing else is left behind.
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}{UNFINISHED}")
    try:
        with open(unfinished, "xb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder; if this is cut short, what is left no longer bears its name."""
    doomed = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{_DOOMED}")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def sweep_unfinished(parent: Path) -> list[str]:
    """Remove what killed writers have left in a folder that nobody else writes to.

    Returns:
        Names of the files and folders that were never finished.
    """
    left = [path for path in parent.glob(".*") if path.name.endswith((UNFINISHED, _DOOMED))]
    for path in left:
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)
    return sorted(path.name for path in left if path.name.endswith(UNFINISHED))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system lets a folder be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
