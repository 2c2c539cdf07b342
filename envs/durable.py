"""Files and folders that are on the disk whole, or not at all, whenever the power goes."""

import errno
import glob
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".unfinished"
_DOOMED = ".removed"
_ID = 32  # letters of what makes a name unlike every other one
_PART = 1 << 20
# What a disk says that is full, or that fails; whoever gave its name is not to blame.
DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class UnwritableError(OSError):
    """A folder for what a program makes cannot be made, or takes nothing."""


def make_writable(folder: Path) -> None:
    """Make a folder, unless it is there, and see that it can be written to.

    Raises:
        FileExistsError, NotADirectoryError: if something else has its name, or that of a folder
            above it.
        UnwritableError: if the system lets nothing be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise
    except OSError as error:
        reason = f"cannot be written to: {error.strerror}"
        raise UnwritableError(error.errno, reason, str(folder)) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UnwritableError(errno.EACCES, "cannot be written to", str(folder))


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Have an error of the disk in this block name a file: one of a write names none by itself."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in DISK_ERRORS:
            error.filename = str(path)
        raise


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
            with named(folder / name), open(unfinished / name, "xb") as file:
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
        with named(path), open(unfinished, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_folder(folder: Path, blobs: Mapping[str, bytes]) -> None:
    """Write files into a folder in place of the one of that name, which stays until they are there.

    A folder that holds these very bytes, and nothing else, is left as it is.

    Args:
        folder: what is there goes; it need not exist.
        blobs: contents by file name, written in this order.

    Raises:
        OSError: if the disk refuses; what was there stays, and nothing else is left behind.

    Killed between two renamings it leaves the old folder under a name that `put_back` knows.
    """
    if not folder.is_dir():
        write_folder(folder, blobs)
    elif not _holds(folder, blobs):
        new, old = _unfinished(folder), _doomed(folder)
        write_folder(new, blobs)
        # From here on only names change, and what takes long comes when they have.
        folder.rename(old)
        try:
            new.rename(folder)
        except BaseException:
            old.rename(folder)
            shutil.rmtree(new, ignore_errors=True)
            raise
        sync_folder(folder.parent)
        shutil.rmtree(old, ignore_errors=True)


def put_back(folder: Path) -> None:
    """Give a folder its name again, if `replace_folder` was killed when it had just lost it.

    For a folder of which nobody else writes now. More than one that it may have been stay.
    """
    if not folder.exists():
        left = list(folder.parent.glob(f".{glob.escape(folder.name)}.{'?' * _ID}{_DOOMED}"))
        if len(left) == 1:
            left[0].rename(folder)
            sync_folder(folder.parent)


def _holds(folder: Path, blobs: Mapping[str, bytes]) -> bool:
    """Whether a folder has these files, with these bytes, and nothing else."""
    if {path.name for path in folder.iterdir()} != set(blobs):
        return False
    return all(_is_same(folder / name, blob) for name, blob in blobs.items())


def _is_same(path: Path, blob: bytes) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != len(blob):
        return False
    view, begin = memoryview(blob), 0
    with open(path, "rb") as file:
        while part := file.read(_PART):
            if part != view[begin : begin + len(part)]:
                return False
            begin += len(part)
    return begin == len(blob)


def _unfinished(path: Path) -> Path:
    """A name beside `path` that nobody else has."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}{UNFINISHED}")


def _doomed(path: Path) -> Path:
    """Likewise, for what is to be removed."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}{_DOOMED}")


def remove_folder(folder: Path) -> None:
    """Remove a folder; if this is cut short, what is left no longer bears its name."""
    doomed = _doomed(folder)
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
