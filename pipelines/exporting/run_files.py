"""Which files of a run are carried: those that a run is known to write, and no others.

A folder may hold a person's notes, keys, or code. What is packed is listed here by its place and
name; everything else stays, whatever it is. An archive that holds anything else is not unpacked.
"""

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.checkpoint import is_whole
from pipelines.checkpoint_store import load_best, load_newest
from pipelines.folder_lock import LOCK, lock_folder
from pipelines.run_folder import list_checkpoints

# Of an archive, at the top of the folder that was unpacked; made anew when that is packed.
MANIFEST = "manifest.json"
# What was held out lies in the run or, a market each, in folders that bear the market's name.
_JUDGED = r"evaluation(?:_[A-Za-z0-9._-]+)?/"
_PLAYED = r"replay_[A-Za-z0-9._-]+/"
_TRACE = re.compile(rf"(?:{_JUDGED}|{_PLAYED})?[^/]+_actions\.(?:csv|json|parquet)")
_CHECKPOINT = re.compile(r"checkpoints/\d{9}/(?:[a-z_]+\.safetensors|manifest\.(?:json|sha256))")
_WANDB = re.compile(r"wandb/(?:offline-)?run-[^/]+/.+")
_OTHERS = re.compile(
    rf"config\.json|metrics\.jsonl|(?:{_PLAYED})?(?:result\.json|replay\.html)"
    r"|bars/(?:table\.json|[a-z_]+\.npy)"
    r"|debug/[0-9-]+/(?:tensors\.safetensors|place\.json)"
    rf"|{_JUDGED}(?:evaluation\.json|(?:equity|returns)\.parquet|(?:report|quantstats)\.html)"
)
_LOGGERS = re.compile(
    r"csv/scalars/(?:[^/]+/)*[^/]+\.csv|csv/texts/[^/]+\.txt"
    r"|tensorboard/events\.out\.tfevents\.[^/]+"
    r"|trackio/[^/]+\.(?:db(?:-wal|-shm)?|lock)"
)
_KINDS = (_TRACE, _CHECKPOINT, _WANDB, _OTHERS, _LOGGERS)
_LONGEST_NAME = 1_024


@dataclass(frozen=True)
class Choice:
    """What to take of a run; the fields are those of `ExportConfig`."""

    checkpoints: str = "all"
    traces: bool = True
    wandb: bool = False


@dataclass(frozen=True)
class RunFiles:
    """The files of a run that are carried.

    Attributes:
        taken: their paths in the run's folder, with ``/``, sorted.
        checkpoints: the newest whole checkpoint among them last.
        strange: paths of what is no file of a run, or a link, or no plain file.
    """

    taken: list[str]
    checkpoints: list[Path]
    strange: list[str]


@contextmanager
def held_still(run: Path) -> Iterator[None]:
    """See to it that no training writes to a run's folder meanwhile.

    Raises:
        FileNotFoundError: if there is no such folder.
        BlockingIOError: if one does already.
        ValueError: if the folder, or something at the top of it, is a symbolic link.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"{run}: no such run")
    refusal = "being written by another process; stop it (SIGTERM saves it) or wait for its end"
    lock = lock_folder(run, refusal)
    try:
        yield
    finally:
        lock.release()


def is_run_file(path: str) -> bool:
    """Whether a path in a run's folder is one that a run writes; it has no way out of it then."""
    parts = path.split("/")
    plain = path.isprintable() and "\\" not in path and ":" not in path
    inside = all(part and not part.startswith(".") for part in parts)
    known = any(kind.fullmatch(path) for kind in _KINDS)
    return plain and inside and known and len(path) <= _LONGEST_NAME


def list_run_files(run: Path, choice: Choice) -> RunFiles:
    """The files of a run under a choice.

    Raises:
        FileNotFoundError: if the run has no checkpoint.
        ValueError: if none of its checkpoints is whole, or none was judged and the best is wanted.
    """
    checkpoints = _whole_checkpoints(run / "checkpoints", choice.checkpoints)
    kept = {path.name for path in checkpoints}
    taken, strange = [], []
    for path, is_plain in _walk(run):
        if is_plain and is_run_file(path):
            if _is_wanted(path, choice, kept):
                taken.append(path)
        elif path != MANIFEST and Path(path).name != LOCK and not path.startswith("wandb/"):
            strange.append(path)
    return RunFiles(sorted(taken), checkpoints, sorted(strange))


def _is_wanted(path: str, choice: Choice, checkpoints: set[str]) -> bool:
    if _TRACE.fullmatch(path):
        return choice.traces
    if _WANDB.fullmatch(path):
        return choice.wandb
    if _CHECKPOINT.fullmatch(path):
        return path.split("/")[1] in checkpoints
    return True


def _whole_checkpoints(folder: Path, wanted: str) -> list[Path]:
    if wanted == "best":
        return [load_best(folder).folder]
    newest = load_newest(folder).folder
    if wanted == "last":
        return [newest]
    earlier = [path for path in list_checkpoints(folder) if path < newest]
    return [*(path for path in earlier if is_whole(path)), newest]


def _walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Everything in a folder but folders: its path, and whether it is a plain file."""
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            yield from _walk(path, f"{prefix}{path.name}/")
        else:
            yield prefix + path.name, stat.S_ISREG(mode)
