"""What a bar table is made of: names, splits, source, as plain values in a file beside its bars."""

from dataclasses import dataclass, field
from typing import Any

from envs.assets import AssetRows

META_FILE = "table.json"


@dataclass(frozen=True)
class TableMeta:
    """What a table is made of, as plain values.

    `splits` holds half-open row ranges; `report` the counts of what the loader found and mended.
    A table of several markets has both for each of its `assets`, and none itself.
    """

    asset: str
    interval_s: float
    feature_names: list[str]
    source_name: str
    source_sha256: str
    splits: dict[str, tuple[int, int]]
    window: int = 1
    episode_bars: int = 1
    report: dict[str, Any] = field(default_factory=dict)
    assets: list[AssetRows] | None = None
