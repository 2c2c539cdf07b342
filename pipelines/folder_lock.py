"""One process at a time writes to a folder."""

import os
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

LOCK = ".lock"
_LOCKS = Path("/proc/locks")


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


def is_locked(folder: Path) -> bool:
    """Whether a process of this machine writes to a folder; False where the system lists no locks.

    Only looked up, never tried: a trial would hold the lock, and who begins then would be refused.
    """
    try:
        inode = os.stat(folder / LOCK, follow_symlinks=False).st_ino
        held = _LOCKS.read_text("ascii")
    except OSError:
        return False
    rows = (line.split() for line in held.splitlines())
    return any("FLOCK" in row and row[-3].endswith(f":{inode}") for row in rows if len(row) > 5)
