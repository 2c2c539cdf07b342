"""One process at a time writes to a folder."""

from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

LOCK = ".lock"


def lock_folder(folder: Path, refusal: str) -> BaseFileLock:
    """Make the caller the only one that writes to a folder.

    Args:
        folder: must exist.
        refusal: what to say if somebody else does already.

    Returns:
        The lock, held until it is released, collected, or the process ends.

    Raises:
        BlockingIOError: if somebody else does.
        ValueError: if the folder, or something at the top of it, is a symbolic link.
    """
    links = [path for path in (folder, *folder.iterdir()) if path.is_symlink()]
    if links:
        raise ValueError(f"{links[0]}: a symbolic link; nothing is written through one")
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(f"{folder}: {refusal}") from None
    return lock
