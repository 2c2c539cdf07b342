"""The JSON file beside a trace: what a reader needs besides rows, and whether it holds for all."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.config import EnvConfig
from envs.table_meta import TableMeta

# Of the simulator's parameters, those that the trades are made out with.
_NEEDED = ("initial_cash", "taker_fee_bps", "maker_fee_bps")


def about_trace(meta: TableMeta, cfg: EnvConfig) -> dict[str, object]:
    """What a reader needs besides the rows."""
    about: dict[str, object] = {
        "simulator": dataclasses.asdict(cfg),
        "data": {"file": meta.source_name, "sha256": meta.source_sha256},
        "interval_s": meta.interval_s,
    }
    if meta.assets is not None:
        about["assets"] = {
            part.asset: {"file": part.source_name, "sha256": part.source_sha256}
            for part in meta.assets
        }
    return about


def path_beside(path: Path) -> Path:
    """The JSON file beside a trace."""
    return path.with_suffix(".json")


def read_simulator(trace: Path) -> EnvConfig:
    """The parameters that a trace was played under, from the JSON file beside it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no parameters.
    """
    path = path_beside(trace)
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["simulator"]
        needed = {name: known[name] for name in _NEEDED}
        # A key that is newer than the trace changes nothing that is read here.
        names = {field.name for field in dataclasses.fields(EnvConfig)} & set(known)
        return EnvConfig(**{name: known[name] for name in names} | needed)
    except (KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: no parameters of a simulator: {error!r}") from error


def require_unchanged(path: Path, about: Mapping[str, Any]) -> None:
    """Refuse a trace whose rows were played under more than one set of parameters.

    Args:
        path: of the trace.
        about: what the JSON file beside it holds.

    Raises:
        ValueError: naming the frame from which on they are others.
    """
    if about.get("changed"):
        raise ValueError(
            f"{path}: from frame {about['changed'][0]:,} on the run was another (resume=changed): "
            "the rows before it were played under other parameters than those beside the trace, "
            "or in episodes that were left there"
        )


def find_changes(
    beside: Path, about: dict[str, object], frame: int, *, is_cut: bool = False
) -> list[int]:
    """Frames from which on a trace has been gone on with under other parameters, or other bars.

    Args:
        beside: the JSON file as it was.
        about: what it is to hold.
        frame: with which the trace goes on.
        is_cut: episodes were left there.
    """
    try:
        before = json.loads(beside.read_text("utf-8"))
        frames = list(before.get("changed", []))
        is_same = _told(before) == _told(json.loads(json.dumps(about)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    # Rows behind an older checkpoint are gone, and what was changed behind it is so from there on.
    frames = [min(each, frame) for each in frames]
    return sorted({*frames, *([] if is_same and not is_cut else [frame])} - {0})


def _told(about: dict[str, Any]) -> list[object]:
    """What a row means, without what changes no number."""
    simulator = {k: v for k, v in about["simulator"].items() if k not in ("workers", "compile")}
    files = {name: each["sha256"] for name, each in about.get("assets", {}).items()}
    return [simulator, about["data"]["sha256"], files, about["interval_s"], about["lanes"]]
