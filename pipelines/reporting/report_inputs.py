"""What an evaluation left in its folder, read and checked for its report."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from envs.config import EnvConfig
from envs.trace_beside import read_simulator
from envs.trace_reader import read_trace
from pipelines.held_out.evaluation_files import EVALUATION, FORMAT, require_own
from pipelines.judging.metrics import in_order, join_parts

# Without these there is nothing to report.
_PARTS = ("verdict", "bars", "accounts", "seeds", "folds", "costs", "looks", "receipt", "files")


@dataclass(frozen=True)
class SeedTrace:
    """What the runs of one seed did.

    Attributes:
        name: of the seed.
        rows: of its traces, from `pipelines.judging.metrics.in_order`.
        cfg: the simulator's parameters.
    """

    name: str
    rows: pd.DataFrame
    cfg: EnvConfig


@dataclass(frozen=True)
class ReportInputs:
    """The files of an evaluation.

    Attributes:
        folder: that they lie in.
        values: of ``evaluation.json``.
        equity: growth of every account, a column each, by the opening time of a bar.
        returns: of every account over the periods that were tested, by their beginning.
    """

    folder: Path
    values: dict[str, Any]
    equity: pd.DataFrame
    returns: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> "ReportInputs":
        """Read all but the traces.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if ``evaluation.json`` is none, or of another format, or a file beside it
                is another evaluation's.
        """
        path = folder / EVALUATION
        inner = sorted(found.parent for found in folder.glob(f"*/{EVALUATION}"))
        if inner and not path.exists():
            there = ", ".join(f"folder={found}" for found in inner)
            raise FileNotFoundError(f"{folder}: no {EVALUATION} here; there is {there}")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not an evaluation: {error}") from error
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"{path}: not an evaluation of format {FORMAT}")
        missing = [name for name in _PARTS if name not in values]
        if missing:
            raise ValueError(f"{path}: not an evaluation: {', '.join(missing)} is missing")
        for name in (values["files"][kind] for kind in ("equity", "returns")):
            require_own(values, _inside(folder, name))
        frames = (_read_frame(folder, values["files"][name]) for name in ("equity", "returns"))
        return cls(folder, values, *frames)

    def traces(self) -> Iterator[SeedTrace]:
        """What each seed did, one after the other: a year of minutes is large.

        Raises:
            FileNotFoundError: if a trace, or the JSON file beside it, is missing.
            ValueError: if a file is no trace, not one of the folder, or another evaluation's.
        """
        for seed in self.values["seeds"]:
            paths = [_inside(self.folder, name) for name in seed["traces"]]
            if not paths:
                raise ValueError(f"{self.folder / EVALUATION}: a seed has no trace")
            for path in paths:
                require_own(self.values, path)
            rows = in_order(join_parts([read_trace(path) for path in paths]))
            yield SeedTrace(str(seed["name"]), rows, read_simulator(paths[0]))


def _inside(folder: Path, name: str) -> Path:
    """A file of the folder itself; what a file of JSON names may be anything."""
    if not isinstance(name, str) or Path(name).name != name or name in ("", ".."):
        raise ValueError(f"{folder / EVALUATION}: {name!r} is no file of this folder")
    return folder / name


def _read_frame(folder: Path, name: str) -> pd.DataFrame:
    path = _inside(folder, name)
    try:
        frame = pd.read_parquet(path)
    except ValueError as error:  # the one of a damaged file as well
        raise ValueError(f"{path}: {error}") from error
    if frame.empty or "policy" not in frame or not isinstance(frame.index, pd.DatetimeIndex):
        raise ValueError(f"{path}: no series of an account named policy, by time")
    return frame
