"""The folder of one run and the names of the files in it."""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from filelock import BaseFileLock

from envs.checks import require, require_cell
from envs.durable import make_writable, put_back, sweep_unfinished
from pipelines.folder_lock import LOCK, lock_folder

_HELD: list[BaseFileLock] = []
_CHECKPOINT = re.compile(r"\d{9}")


class Savable(Protocol):
    """What the workers of a run share, an `envs.bar_table.BarTable`: not everybody needs one."""

    def save(self, directory: Path, *, replace: bool) -> None:
        """Write it into a folder; one that is there goes only when the new one is whole."""
        ...


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its files; ``docs/run_folder.md`` describes each of them."""

    path: Path

    @classmethod
    def create(
        cls, root: str, directory: str | None, tag: str, *, anew: bool = False
    ) -> "RunFolder":
        """Make the folder of a new run: `directory`, else ``<root>/<UTC time>_<tag>``.

        Args:
            root: folder of all runs.
            directory: folder of this run.
            tag: part of its name.
            anew: take the folder of a run that was stopped before its first checkpoint, too.

        Raises:
            ValueError: if the folder's name is unfit for a trace, where it stands in every row, or
                neither folder has a name.
            FileExistsError: if `directory` exists and is not empty; nothing is overwritten.
        """
        if not directory:
            require(bool(root), "run.root", root, "a folder; . is this one")
            return cls(_new_folder(Path(root), tag))
        path = Path(directory)
        require_cell("run.dir", path.resolve().name)
        stopped = anew and (path / LOCK).is_file() and not path.is_symlink()
        if path.exists() and not stopped and (not path.is_dir() or any(path.iterdir())):
            raise FileExistsError(
                f"run.dir={str(path)!r} is not allowed: it exists already; name a new folder"
            )
        make_writable(path)
        return cls(path)

    @property
    def name(self) -> str:
        """The run's name, in traces and logs."""
        return self.path.resolve().name

    @property
    def bars(self) -> Path:
        """The memory-mapped table of bars that workers share."""
        return self.path / "bars"

    @property
    def checkpoints(self) -> Path:
        """The checkpoints: the newest ones and the best."""
        return self.path / "checkpoints"

    @property
    def debug(self) -> Path:
        """What was kept of numbers that are none."""
        return self.path / "debug"

    def replace_bars(self, table: Savable) -> None:
        """Write the table, unless it is there; what is there instead stays until it is written."""
        sweep_unfinished(self.path)
        table.save(self.bars, replace=True)

    def lock(self) -> None:
        """Make this process the only one that writes here, as long as it lives.

        Bars that a kill has left without their name, when others took their place, get it back.

        Raises:
            BlockingIOError: if another one does.
            ValueError: if the folder, or something at the top of it, is a symbolic link.
        """
        # For the life of the process: collected, it would be released.
        _HELD.append(lock_folder(self.path, "another process is writing this run"))
        put_back(self.bars)

    def trace(self, stage: str, suffix: str = "csv") -> Path:
        """The trace of every action: `stage` is ``train`` or ``replay``."""
        return self.path / f"{stage}_actions.{suffix}"

    def replays(self) -> list[Path]:
        """``replay_<market>/`` of every market that was replayed, by name; links are left out."""
        return self._folders("replay_*")

    def evaluations(self) -> list[Path]:
        """``evaluation/`` and ``evaluation_<market>/``, by name; links are left out."""
        return [f for f in self._folders("evaluation*") if f.name[10:11] in ("", "_")]

    def _folders(self, pattern: str) -> list[Path]:
        found = self.path.glob(pattern)
        return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def list_checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints of a run, the oldest first; none if there is no such folder."""
    found = folder.iterdir() if folder.is_dir() and not folder.is_symlink() else ()
    return sorted(path for path in found if _CHECKPOINT.fullmatch(path.name))


def _new_folder(root: Path, tag: str) -> Path:
    """Of two runs that begin in the same second, as agents of a sweep do, one waits for the next.

    Two processes never get the same folder.
    """
    while True:
        path = root / f"{_now()}_{tag}"
        require_cell("run.dir", path.resolve().name)
        make_writable(root)
        try:
            path.mkdir()
        except FileExistsError:
            time.sleep(0.05)
        else:
            return path


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
