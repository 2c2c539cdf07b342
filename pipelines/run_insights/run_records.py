"""A run, and an evaluation, as its folder tells of it; what is damaged is said, and left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.checkpoint_store import list_checkpoints
from pipelines.held_out.evaluation import EVALUATION
from pipelines.held_out.result import POLICY
from pipelines.judging.recounted import recounted
from pipelines.run_folder import RunFolder
from pipelines.run_insights.learning_curves import Curves, read_curves
from pipelines.run_insights.replays import Replay, is_replayed, other_bars, own_hashes, read_replays
from pipelines.run_insights.run_files import CONFIG, find_folders, read_object
from pipelines.run_insights.run_state import RunState, state_of

HOLD = "buy_and_hold"
REPORT, REPLAY = "report.html", "replay.html"


@dataclass(frozen=True)
class Judged:
    """An evaluation.

    Attributes:
        name: of its folder, from the folder of all runs on.
        folder: with ``evaluation.json``.
        market: on which it was judged; empty if it is the run's only one, on its own test split.
        word: of the verdict, with all tries until now; empty if the file is damaged.
        reason: the first of the verdict's, or that there were more tries since, or what is wrong
            with the file.
        policy: figures of the judged account's equity.
        hold: those of buy-and-hold.
    """

    name: str
    folder: Path
    market: str
    word: str
    reason: str
    policy: Mapping[str, Any]
    hold: Mapping[str, Any]


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
    records = [read_run(root, folder) for folder in runs]
    records.sort(key=lambda record: record.state.when, reverse=True)
    return records, [judged for e in evaluations if (judged := _read_judged(root, e))]


def read_run(root: Path, folder: Path) -> RunRecord:
    """The run of a folder under `root`; nothing that is in it raises."""
    problems: list[str] = []
    config = read_object(folder / CONFIG, problems)
    manifest = _newest_manifest(folder / "checkpoints", problems)
    hashes = own_hashes(folder, manifest, problems)
    replays = read_replays(folder, hashes, problems)
    curves = read_curves(folder, problems)
    places = RunFolder(folder).evaluations()
    judged = [each for place in places if (each := _read_judged(root, place, hashes))]
    problems += [_of(each.market, each.reason) for each in judged if not each.word]
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
    """A number of a file; None if it is missing, or something else."""
    value = values.get(name)
    return float(value) if isinstance(value, (int, float)) else None


def _read_judged(root: Path, folder: Path, hashes: set[str] | None = None) -> Judged | None:
    problems: list[str] = []
    values = None if folder.is_symlink() else read_object(folder / EVALUATION, problems)
    if values is None and not problems:
        return None
    verdict = (values or {}).get("verdict")
    verdict = verdict if isinstance(verdict, dict) else {}
    word = verdict.get("word") or ""
    reasons = verdict.get("reasons")
    first = reasons[0] if isinstance(reasons, list) and reasons else ""
    now = recounted(folder, values or {})
    if now is not None:
        word, first = now.word, now.sentence
    if not word:
        first = "; ".join(problems) or f"{EVALUATION}: without a verdict"
    accounts = (values or {}).get("accounts")
    accounts = accounts if isinstance(accounts, dict) else {}
    policy, hold = (_equity(accounts.get(account)) for account in (POLICY, HOLD))
    name = folder.relative_to(root).as_posix()
    market = _market(folder, values or {}, hashes)
    return Judged(name, folder, market, str(word), str(first), policy, hold)


def _market(folder: Path, values: Mapping[str, Any], hashes: set[str] | None) -> str:
    """The market of ``evaluation_<market>/``, and what else than the run's test split it is of."""
    bars = values.get("bars")
    bars = bars if isinstance(bars, dict) else {}
    _, named, market = folder.name.partition("evaluation_")
    words = [str(bars.get("asset") or market)] if named else []
    other = other_bars(bars, hashes) if bars and hashes is not None else ""
    return ", ".join([*words, other] if other else words)


def _of(market: str, text: str) -> str:
    return f"{market}: {text}" if market else text


def _equity(account: object) -> dict[str, Any]:
    equity = account.get("equity") if isinstance(account, dict) else None
    return equity if isinstance(equity, dict) else {}


def _newest_manifest(folder: Path, problems: list[str]) -> dict[str, Any]:
    try:
        checkpoints = list_checkpoints(folder)
    except OSError as error:
        problems.append(f"checkpoints: {error.strerror or error}")
        return {}
    if not checkpoints or checkpoints[-1].is_symlink():
        return {}
    return read_object(checkpoints[-1] / "manifest.json", problems) or {}
