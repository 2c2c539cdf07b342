"""Several markets in one training: which files, under which names, and which rows are whose."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from envs.checks import require, require_cell

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_ALLOWED = "a list of files, each PATH or NAME=PATH"


class AssetFile(NamedTuple):
    """One market of several: its name in the trace, and its file or folder of bars."""

    name: str
    path: str


def parse_assets(items: Sequence[str]) -> list[AssetFile]:
    """The markets of ``data.assets``: ``NAME=PATH``, or ``PATH`` for a file that names its market.

    What stands before the first ``=`` is the name; without one, the name of the file is, less its
    suffix.

    Raises:
        ValueError: for no item at all, one without a path, a name that is unfit for a trace, and
            two names that are the same, or would be as the name of a folder, a for A.
    """
    require(len(items) > 0, "data.assets", list(items), _ALLOWED)
    found: dict[str, AssetFile] = {}
    for item in items:
        name, equals, path = item.partition("=")
        if not equals:
            name, path = _stem(item), item
        require(bool(path.strip()), "data.assets", item, _ALLOWED)
        require_cell("data.assets", name)
        asset = AssetFile(name, path)
        known = found.setdefault(asset_folder(name).lower(), asset)
        require(known is asset, "data.assets", item, f"a name of its own, not that of {known.path}")
    return list(found.values())


@contextmanager
def of_market(name: str) -> Iterator[None]:
    """Say of which market of several something is wrong: their files may bear one name.

    Args:
        name: of the market; empty: of the only one.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}" if name else f"{error}") from error


def asset_folder(name: str) -> str:
    """A market's name as a part of a file's name: ``BTC/USDT`` gives ``BTC-USDT``."""
    return _UNFIT.sub("-", name)


def _stem(path: str) -> str:
    name = Path(path).name
    for suffix in (".csv.gz", ".csv", ".parquet"):
        name = name.removesuffix(suffix)
    return name


@dataclass(frozen=True)
class AssetRows:
    """One market within a table of several.

    Attributes:
        asset: the market's name.
        rows: half-open range of the table's rows.
        source_name: of its file.
        source_sha256: of the file's bytes.
        splits: half-open ranges of the table's rows.
        report: the loader's counts.
    """

    asset: str
    rows: tuple[int, int]
    source_name: str
    source_sha256: str
    splits: dict[str, tuple[int, int]]
    report: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From the plain values of a JSON file."""
        pairs = {name: (rows[0], rows[1]) for name, rows in values["splits"].items()}
        return cls(**{**values, "rows": tuple(values["rows"]), "splits": pairs})
