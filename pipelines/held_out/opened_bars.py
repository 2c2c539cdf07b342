"""Held-out bars opened for an evaluation: the look is written down, rivals' returns are at hand."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from envs.checks import require
from pipelines.held_out.candidate import Candidate
from pipelines.held_out.evaluation_files import EVALUATION, RETURNS, require_own
from pipelines.held_out.looks import is_above, open_everywhere, verify_receipts
from pipelines.held_out.looks_beside import candidates_beside
from pipelines.held_out.result import POLICY
from pipelines.judging.known_looks import Looks
from pipelines.judging.opening import Opening, Receipt


@dataclass(frozen=True)
class Opened:
    """Held-out bars that may be looked at: the look is written down.

    Attributes:
        registry: the file.
        receipt: of the look.
        looks: at these bars, this one included.
        rivals: returns of other candidates by name, over the periods they were tested on.
        at_home: whether the registry is one that others who look with these runs find.
        beside: more candidates at these bars that registries near this one know.
    """

    registry: Path
    receipt: Receipt
    looks: Looks
    rivals: Mapping[str, pd.Series]
    at_home: bool
    beside: int


def open_bars(
    candidate: Candidate, registry: Path, folder: Path, rivals: Sequence[str] = ()
) -> Opened:
    """Write down the look at a candidate's held-out bars.

    The receipts of earlier evaluations that are to be replaced, or rivals, must be in the registry
    if it is theirs; if another one counted them, what it knows counts. So does what is known to a
    registry above the runs that is another one.

    Args:
        candidate: what will look.
        registry: the file.
        folder: of the evaluation.
        rivals: folders of evaluations of other candidates on the same bars.

    Raises:
        FileNotFoundError: if a rival has no returns.
        ValueError: if a rival was measured on other bars.
        BrokenChainError: if the registry is damaged, gone, or was begun anew since an earlier look.
        OSError: if it cannot be written.
    """
    opening = candidate.opening()
    returns = {f"rival {path}": _rival(Path(path), opening, candidate.bars) for path in rivals}
    elsewhere = verify_receipts([*map(Path, rivals), folder], registry)
    runs = [part.run.path for parts in candidate.seeds.values() for part in parts]
    places = [folder] if candidate.folds else runs  # the runs of a walk-forward lie in its folder
    book, receipt = open_everywhere(opening, registry, places, elsewhere)
    at_home = is_above(registry, places)
    beside = candidates_beside(book, opening)
    return Opened(book.file.path, receipt, book.looks(receipt), returns, at_home, beside)


def _rival(folder: Path, opening: Opening, bars: int) -> pd.Series:
    """Returns of another candidate on the same bars."""
    values = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    found, own = values["bars"], dataclasses.asdict(opening) | {"bars": bars}
    for key in ("source_sha256", "asset", "first_bar", "last_bar", "bars"):
        here = own[key]
        require(found[key] == here, "rivals", str(folder), f"measured on other bars: its {key} is "
                f"{found[key]}, here it is {here}")  # fmt: skip
    require_own(values, folder / RETURNS)
    return pd.read_parquet(folder / RETURNS)[POLICY]
