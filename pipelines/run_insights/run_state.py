"""How far a run has come, and how it ended."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipelines.folder_lock import is_locked
from pipelines.run_folder import RunFolder
from pipelines.run_insights.run_files import CONFIG, METRICS, RESULT, object_in

Word = Literal["running", "finished", "interrupted", "failed", "broken"]


@dataclass(frozen=True)
class RunState:
    """The state of a run.

    Attributes:
        word: ``broken`` if its configuration cannot be read, ``failed`` if numbers were none.
        reason: why it is not finished, in a sentence; empty if it is, or runs.
        when: its last line or result was written, ISO 8601, UTC; empty if there is none.
    """

    word: Word
    reason: str
    when: str


def state_of(
    folder: Path, config: dict[str, Any] | None, frames: int, *, is_replayed: bool
) -> RunState:
    """The state of the run in a folder.

    Args:
        folder: of the run.
        config: of ``config.json``, None if it is missing or damaged.
        frames: that it has been trained on.
        is_replayed: whether there is a result of each of its markets.
    """
    word, reason = _judge(folder, config, frames, is_replayed)
    return RunState(word, reason, _last_written(folder))


def _judge(
    folder: Path, config: dict[str, Any] | None, frames: int, is_replayed: bool
) -> tuple[Word, str]:
    if is_locked(folder):
        return "running", ""
    total = config.get("total_frames") if config else None
    if config is None or type(total) is not int:
        return "broken", f"{CONFIG} is missing or damaged"
    is_done = is_replayed or not object_in(config, "replay").get("enabled")
    if frames >= total and is_done:
        return "finished", ""
    if _has_entries(folder / "debug"):
        return "failed", "a number was none: see debug/"
    if frames >= total:
        return "interrupted", "trained to the end, without its held-out replay"
    if not frames:
        return "interrupted", "stopped before its first line"
    return "interrupted", f"stopped at {frames:,} of {total:,} frames"


def _last_written(folder: Path) -> str:
    times = []
    results = [place / RESULT for place in [folder, *RunFolder(folder).replays()]]
    for path in (folder / CONFIG, folder / METRICS, *results):
        if path.is_file() and not path.is_symlink():
            times.append(path.stat().st_mtime)
    return datetime.fromtimestamp(max(times), UTC).isoformat(timespec="seconds") if times else ""


def _has_entries(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and any(folder.iterdir())
