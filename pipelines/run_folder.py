"""The folder of one run and the names of the files in it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from envs.checks import require_cell


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its files; ``docs/run_folder.md`` describes each of them."""

    path: Path

    @classmethod
    def create(cls, root: str, directory: str | None, tag: str) -> "RunFolder":
        """Make the folder of a new run: `directory`, else ``<root>/<UTC time>_<tag>``.

        Raises:
            ValueError: if the folder's name is unfit for a trace, where it stands in every row.
            FileExistsError: if `directory` exists and is not empty; nothing is overwritten.
        """
        path = Path(directory) if directory else Path(root) / f"{_now()}_{tag}"
        require_cell("run.dir", path.resolve().name)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FileExistsError(
                f"run.dir={str(path)!r} is not allowed: it exists already; name a new folder"
            )
        path.mkdir(parents=True, exist_ok=True)
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
    def checkpoint(self) -> Path:
        """Weights, normaliser and what they were trained on."""
        return self.path / "checkpoint"

    def trace(self, stage: str, suffix: str = "csv") -> Path:
        """The trace of every action: `stage` is ``train`` or ``replay``."""
        return self.path / f"{stage}_actions.{suffix}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
