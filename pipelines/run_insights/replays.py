"""The replays in a run's folder: of which bars they are, and whether those were held out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.assets import asset_folder, parse_assets
from envs.table_meta import META_FILE
from pipelines.held_out.result import IN_SAMPLE, POLICY
from pipelines.run_folder import RunFolder
from pipelines.run_insights.checkpoints import CheckpointName, named_checkpoint, other_than
from pipelines.run_insights.run_files import RESULT, list_in, object_in, read_object


@dataclass(frozen=True)
class Replay:
    """A replay.

    Attributes:
        folder: with ``result.json``.
        market: its name; empty if the run has one market, and this is it.
        other: what it is of, unless it is of the test split of the run's own bars, which its
            weights have not seen.
        earlier: which checkpoint it is of, if it is not the run's newest one; else empty.
        metrics: of the accounts, by their names.
    """

    folder: Path
    market: str
    other: str
    earlier: str
    metrics: Mapping[str, Mapping[str, Any]]


def read_replays(
    folder: Path, hashes: set[str], newest: CheckpointName | None, problems: list[str]
) -> list[Replay]:
    """Every replay of a run whose result can be read, by the name of its folder.

    Args:
        folder: of the run.
        hashes: sha256 of the run's own files of bars, as far as they are known.
        newest: checkpoint of the run, None if it is not known.
        problems: what is wrong with the results is appended.
    """
    found = []
    for place in [folder, *RunFolder(folder).replays()]:
        wrong: list[str] = []
        values = read_object(place / RESULT, wrong)
        if values is not None:
            market = "" if place == folder else place.name.removeprefix("replay_")
            found.append(_replay(place, market, values, hashes, newest, wrong))
        inside = "" if place == folder else f"{place.name}/"
        problems += [inside + line for line in wrong]
    return found


def is_replayed(folder: Path, config: Mapping[str, Any], replays: list[Replay]) -> bool:
    """Whether a run has a result of every market that it was trained on."""
    assets = list_in(config.get("data"), "assets")
    wanted = [folder]
    if len(assets) > 1:
        try:
            names = [asset.name for asset in parse_assets(list(map(str, assets)))]
        except ValueError:
            return False
        wanted = [folder / f"replay_{asset_folder(name)}" for name in names]
    return {replay.folder for replay in replays}.issuperset(wanted)


def own_hashes(folder: Path, manifest: Mapping[str, Any], problems: list[str]) -> set[str]:
    """The sha256 of a run's own files of bars, of the table or of a checkpoint's manifest.

    Args:
        folder: of the run.
        manifest: of a checkpoint; empty without one.
        problems: what is wrong with the table is appended.
    """
    table = read_object(folder / "bars" / META_FILE, problems) or {}
    files = [table, *list_in(table, "assets")]
    hashes = [each.get("source_sha256") for each in files if isinstance(each, dict)]
    data = object_in(manifest, "data")
    files = [data, *object_in(data, "assets").values()]
    hashes += [each.get("sha256") for each in files if isinstance(each, dict)]
    return {each for each in hashes if isinstance(each, str)}


def _replay(
    place: Path,
    market: str,
    values: Mapping[str, Any],
    hashes: set[str],
    newest: CheckpointName | None,
    problems: list[str],
) -> Replay:
    replayed = object_in(values, "replayed")
    if market:
        market = str(replayed.get("asset") or market)
    other = other_bars(replayed, hashes) or _in_sample(values)
    earlier = other_than(newest, named_checkpoint(values.get("checkpoint")))
    return Replay(place, market, other, earlier, _accounts(values, problems))


def _in_sample(values: Mapping[str, Any]) -> str:
    """Whether the weights have seen the bars, in another run or before this one was changed."""
    seen = any(str(note).startswith(IN_SAMPLE) for note in list_in(values, "notes"))
    return IN_SAMPLE.lower() if seen else ""


def other_bars(played: Mapping[str, Any], hashes: set[str]) -> str:
    """What was played, if it is not known to be the run's own test split; else nothing.

    Args:
        played: ``replayed`` of a result, or ``bars`` of an evaluation.
        hashes: from `own_hashes`.
    """
    split = played.get("split")
    if not isinstance(split, str):
        return "unknown bars"
    words = [] if split == "test" else [f"{split} split"]
    known = played.get("source_sha256")
    if not isinstance(known, str) or known not in hashes:  # a damaged file may hold anything
        words.append(f"{played.get('asset')} of {played.get('source_name')}")
    return ", ".join(words)


def _accounts(values: Mapping[str, Any], problems: list[str]) -> dict[str, dict[str, Any]]:
    accounts = object_in(values, "metrics")
    if not isinstance(accounts.get(POLICY), dict):
        if values:
            problems.append(f"{RESULT}: without the policy's metrics")
        return {}
    return {key: each for key, each in accounts.items() if isinstance(each, dict)}
