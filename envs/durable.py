"""Files and folders that are on the disk whole, or not at all, whenever the power goes."""

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

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
    with new_folder(folder) as unfinished:
        for name, blob in blobs.items():
            with open(unfinished / name, "xb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when the block has ended; nothing is left if it fails.

    Args:
        folder: must not exist, or be empty; folders above it are made.

    Yields:
        Where to write; whoever writes files, or folders in it, makes them durable.

    Raises:
        OSError: if the disk refuses.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _unfinished(folder)
    try:
        unfinished.mkdir()
        yield unfinished
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
    with new_file(path) as file:
        file.write(blob)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which gets its name when the block has ended; nothing is left if it fails.

    It replaces the file of that name, if there is one.

    Raises:
        OSError: if the disk refuses; what was there stays.
    """
    unfinished = _unfinished(path)
    try:
        with open(unfinished, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _unfinished(path: Path) -> Path:
    """A name beside `path` that nobody else has."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}{UNFINISHED}")


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
