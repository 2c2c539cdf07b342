"""An evaluation as its folder tells of it, with the tries and the checkpoints of today."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.folder_lock import is_locked
from pipelines.held_out.evaluation_files import EVALUATION
from pipelines.held_out.result import POLICY
from pipelines.judging.recounted import Recounter
from pipelines.run_insights.checkpoints import CheckpointName, named_checkpoint, other_than
from pipelines.run_insights.replays import other_bars
from pipelines.run_insights.run_files import list_in, object_in, read_object

HOLD = "buy_and_hold"
# Word and reason of an evaluation that is still being made.
GOING_ON = ("none yet", "A process is at work in this folder, and has judged nothing yet.")


@dataclass(frozen=True)
class Judged:
    """An evaluation.

    Attributes:
        name: of its folder, from the folder of all runs on.
        folder: with ``evaluation.json``.
        market: on which it was judged; empty if it is the run's only one, on its own test split.
        word: of the verdict, with all tries until now, or that these are not known; that there is
            none yet; empty if the file is damaged.
        reason: the first of the verdict's, or that there were more tries since, or what is wrong
            with the file, or that it is being written.
        earlier: which checkpoint was judged, if it is not the run's newest one; else empty.
        policy: figures of the judged account's equity.
        hold: those of buy-and-hold.
    """

    name: str
    folder: Path
    market: str
    word: str
    reason: str
    earlier: str
    policy: Mapping[str, Any]
    hold: Mapping[str, Any]


def read_judged(
    root: Path,
    folder: Path,
    recounter: Recounter,
    hashes: set[str] | None = None,
    newest: CheckpointName | None = None,
) -> Judged | None:
    """The evaluation in a folder, or that one is being made there; None if neither.

    Nothing that is in it raises.

    Args:
        root: folder of all runs.
        folder: of the evaluation.
        recounter: of verdicts.
        hashes: sha256 of the files of bars of the run that it is of; None of several runs.
        newest: checkpoint of that run; None if it is not known, or of several runs.
    """
    problems: list[str] = []
    found = None if folder.is_symlink() else read_object(folder / EVALUATION, problems)
    name = folder.relative_to(root).as_posix()
    values = found or {}
    market = _market(folder, values, hashes)
    if found is None and not problems:
        going_on = not folder.is_symlink() and is_locked(folder)
        return Judged(name, folder, market, *GOING_ON, "", {}, {}) if going_on else None
    verdict = object_in(values, "verdict")
    word = verdict.get("word") or ""
    first = next(iter(list_in(verdict, "reasons")), "")
    now = recounter.recounted(folder, values)
    if now is not None:
        word, first = now.short, now.sentence
    if not word:
        first = "; ".join(problems) or f"{EVALUATION}: without a verdict"
    accounts = object_in(values, "accounts")
    policy, hold = (object_in(accounts.get(name), "equity") for name in (POLICY, HOLD))
    earlier = other_than(newest, _checkpoints(values))
    return Judged(name, folder, market, str(word), str(first), earlier, policy, hold)


def _market(folder: Path, values: Mapping[str, Any], hashes: set[str] | None) -> str:
    """The market of ``evaluation_<market>/``, and what else than the run's test split it is of."""
    bars = object_in(values, "bars")
    _, named, market = folder.name.partition("evaluation_")
    words = [str(bars.get("asset") or market)] if named else []
    other = other_bars(bars, hashes) if bars and hashes is not None else ""
    return ", ".join([*words, other] if other else words)


def _checkpoints(values: Mapping[str, Any]) -> Iterator[CheckpointName]:
    """Those that were judged, as far as the evaluation can be read."""
    for seed in list_in(values, "seeds"):
        for each in list_in(seed, "checkpoints"):
            yield from named_checkpoint(each)
