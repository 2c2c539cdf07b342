"""Which code is running."""

import functools
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_DIGITS = 8
_DIRTY = "-dirty"


@functools.cache
def git_revision() -> str | None:
    """Commit of the code, with ``-dirty`` if tracked files were changed since.

    Asked once a process, which should be at its start: the checkout may move on while it runs.
    None if the code does not lie in a checkout of its own, or git cannot tell.
    """
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return None
    describe = [git, "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty"]
    describe += ["--exclude=*"]  # no tags: always the hash
    try:
        done = subprocess.run(  # noqa: S603 (fixed words)
            describe, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def short_revision(revision: str | None) -> str:
    """A commit for a person: eight digits, and whether files were changed since."""
    if revision is None:
        return "unknown"
    return revision.removesuffix(_DIRTY)[:_DIGITS] + _DIRTY * revision.endswith(_DIRTY)
