"""A run as its folder tells of it; what is damaged is said, and left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.judging.recounted import Recounter
from pipelines.run_folder import RunFolder
from pipelines.run_insights.checkpoints import newest_checkpoint
from pipelines.run_insights.judged import Judged, read_judged
from pipelines.run_insights.learning_curves import Curves, read_curves
from pipelines.run_insights.replays import Replay, is_replayed, own_hashes, read_replays
from pipelines.run_insights.run_files import CONFIG, find_folders, finite, read_object
from pipelines.run_insights.run_state import RunState, state_of


@dataclass(frozen=True)
class RunRecord:
    """A run.

    Attributes:
        name: of its folder, from the folder of all runs on, with ``/``.
        folder: of the run.
        config: every key, by its dotted name.
        state: how far it has come.
        curves: what it logged.
        replays: of its own bars and of others.
        judged: its own evaluations, one a market.
        commit: of the newest checkpoint; empty if it is not known.
        problems: what is wrong with its files.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    state: RunState
    curves: Curves
    replays: list[Replay]
    judged: list[Judged]
    commit: str
    problems: list[str]

    def earlier(self, market: str) -> str:
        """Which checkpoint the held-out result of a market is of, if not of the newest one."""
        return next((each.earlier for each in self.replays if each.market == market), "")

    def figures(self, account: str, name: str) -> dict[str, float]:
        """A number of the held-out results, by market; other replays are left out."""
        held_out = [replay for replay in self.replays if not replay.other]
        found = {each.market: number(each.metrics.get(account, {}), name) for each in held_out}
        return {market: value for market, value in found.items() if value is not None}


def read_all(root: Path) -> tuple[list[RunRecord], list[Judged]]:
    """Every run under a folder, the newest first, and evaluations of more than one run.

    Raises:
        NotADirectoryError: if `root` is none.
    """
    runs, evaluations = find_folders(root)
    recounter = Recounter()
    records = [read_run(root, folder, recounter) for folder in runs]
    records.sort(key=lambda record: record.state.when, reverse=True)
    return records, [judged for e in evaluations if (judged := read_judged(root, e, recounter))]


def read_run(root: Path, folder: Path, recounter: Recounter) -> RunRecord:
    """The run of a folder under `root`; nothing that is in it raises, nor that it is removed.

    Args:
        root: folder of all runs.
        folder: of the run.
        recounter: of verdicts.
    """
    try:
        return _read_run(root, folder, recounter)
    except OSError as error:  # removed or moved meanwhile
        reason = f"cannot be read: {error.strerror or error}"
        name = folder.relative_to(root).as_posix()
        return RunRecord(name, folder, {}, RunState("broken", reason, ""), Curves(), [], [], "", [])


def _read_run(root: Path, folder: Path, recounter: Recounter) -> RunRecord:
    problems: list[str] = []
    config = read_object(folder / CONFIG, problems)
    manifest, newest = newest_checkpoint(folder / "checkpoints", problems)
    hashes = own_hashes(folder, manifest, problems)
    replays = read_replays(folder, hashes, newest, problems)
    curves = read_curves(folder, problems)
    places = RunFolder(folder).evaluations()
    own = (read_judged(root, place, recounter, hashes, newest) for place in places)
    judged = [each for each in own if each]
    problems += [at_market(each.market, each.reason) for each in judged if not each.word]
    replayed = is_replayed(folder, config or {}, replays)
    return RunRecord(
        name=folder.relative_to(root).as_posix(),
        folder=folder,
        config=flatten(config or {}),
        state=state_of(folder, config, curves.frames, is_replayed=replayed),
        curves=curves,
        replays=replays,
        judged=judged,
        commit=str(manifest.get("git_revision") or ""),
        problems=problems,
    )


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        found |= inner or {f"{prefix}{name}": value}
    return found


def number(values: Mapping[str, Any], name: str) -> float | None:
    """A finite number of a file; None if it is missing, or something else."""
    return finite(values.get(name))


def at_market(market: str, text: str) -> str:
    """What is said of one of several markets, with its name."""
    return f"{market}: {text}" if market else text
