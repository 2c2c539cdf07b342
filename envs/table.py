"""The bar table: one market in memory, which every environment and every network points into."""

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from envs.bar_files import OHLCV, time_text
from envs.bare_numbers import check_ranges, copied, given_features, regular_times
from envs.bars import Bars, DataConfig, check_bars, load_bars, report_lines
from envs.durable import write_folder
from envs.features import FEATURE_NAMES, market_features
from envs.known_bars import draw_market
from envs.mending import refuse_insane_prices
from envs.splits import (
    SPLITS,
    fit_normaliser,
    require_room,
    split_by_time,
    tradable_runs,
)

META_FILE = "table.json"
_TENSOR_NAMES = ("timestamp", "ohlcv", "features", "segment", "tradable", "loc", "scale")


@dataclass(frozen=True)
class TableMeta:
    """What a table is made of, as plain values.

    `splits` holds half-open row ranges; `report` the counts of what the loader found and mended.
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


@dataclass(frozen=True)
class BarTable:
    """Bars, features and normaliser of one market, N bars and F features.

    Rows are sorted by time; a segment is a run of rows exactly one interval apart. An environment's
    state is a row number of this table.

    Attributes:
        timestamp: int64 [N], opening time of the bar, ns since 1970 UTC.
        ohlcv: float64 [N, 5], open, high, low, close (quote currency) and volume (base units).
        features: float32 [N, F], raw causal features; NaN in warm-up rows.
        segment: int64 [N], number of the row's segment, ascending from 0.
        tradable: bool [N], whether every feature of the row is complete.
        loc: float32 [F], mean of each feature over the tradable rows of the train split.
        scale: float32 [F], standard deviation over the same rows; 1 for a constant feature.
        meta: names, splits, source and the loader's report.
    """

    timestamp: Tensor
    ohlcv: Tensor
    features: Tensor
    segment: Tensor
    tradable: Tensor
    loc: Tensor
    scale: Tensor
    meta: TableMeta

    def __len__(self) -> int:
        return self.timestamp.shape[0]

    def to(self, device: torch.device | str | None) -> Self:
        """The same table with its tensors on `device`."""
        moved = {name: getattr(self, name).to(device) for name in _TENSOR_NAMES}
        return dataclasses.replace(self, **moved)

    def runs(self, split: str) -> Tensor:
        """Maximal ranges of tradable rows of one segment within a split.

        Args:
            split: ``"train"``, ``"val"`` or ``"test"``.

        Returns:
            int64 [R, 2] on the CPU, half-open row ranges, ascending.

        Raises:
            ValueError: for an unknown split.
        """
        return tradable_runs(self.tradable, self.segment, self._rows(split))

    def summary_lines(self) -> list[str]:
        """For a person: what the file holds, what was mended, and what each split has to trade."""
        lines = report_lines(self.meta.report) if self.meta.report else []
        for name, (first, end) in self.meta.splits.items():
            tradable = int(self.tradable[first:end].sum())
            begin, last = (time_text(int(self.timestamp[row])) for row in (first, end - 1))
            lines.append(
                f"{name}: {tradable:,} tradable bars of {end - first:,}, {begin} to {last}, "
                f"unbroken runs: {len(self.runs(name))}"
            )
        return lines

    def save(self, directory: str | Path) -> None:
        """Write the table to a new folder: an array file for each tensor, and a JSON file.

        The folder appears whole or not at all.

        Raises:
            OSError: if there is a folder with something in it already, or the disk refuses.
        """
        meta = json.dumps(dataclasses.asdict(self.meta), indent=2, allow_nan=False)
        blobs = {f"{name}.npy": _npy_bytes(getattr(self, name)) for name in _TENSOR_NAMES}
        write_folder(Path(directory), blobs | {META_FILE: (meta + "\n").encode()})

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Open a saved table; processes that load the same folder share its pages.

        Arrays are mapped, never unpickled; a change to one stays in the process that makes it.

        Raises:
            FileNotFoundError: if the folder holds no table, or a file of it is missing.
            ValueError: if a file is no array, naming it.
        """
        folder = Path(directory)
        if not (folder / META_FILE).is_file():
            raise FileNotFoundError(f"{folder}: no bar table here ({META_FILE} is missing)")
        values = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
        values["splits"] = {name: (rows[0], rows[1]) for name, rows in values["splits"].items()}
        tensors = {name: _map_npy(folder / f"{name}.npy") for name in _TENSOR_NAMES}
        return cls(**tensors, meta=TableMeta(**values))

    @classmethod
    def from_arrays(
        cls,
        ohlcv: ArrayLike | Tensor,
        *,
        interval_s: float = 60.0,
        start: str = "2025-01-01",
        features: ArrayLike | Tensor | None = None,
        asset: str = "TEST",
        splits: Mapping[str, tuple[int, int]] | None = None,
    ) -> Self:
        """A table of one segment from bare numbers, for tests, examples and synthetic markets.

        Args:
            ohlcv: [N, 5], checked like a file's bars.
            interval_s: length of a bar in seconds.
            start: opening time of the first bar, UTC.
            features: [N, F], rows with a non-finite value are not tradable; None: one column, the
                close-to-close log return, 0 in row 0, with loc 0 and scale 1.
            asset: name for the trace.
            splits: half-open row ranges; None: every split covers all rows.

        Raises:
            ValueError: for a wrong shape or an impossible bar, naming its row.
        """
        bars = copied(ohlcv, torch.float64)
        if bars.ndim != 2 or bars.shape[1] != 5 or not len(bars):
            raise ValueError(f"ohlcv has shape {tuple(bars.shape)}: [N, 5] with N >= 1 is needed")
        times = regular_times(len(bars), start, interval_s)
        refuse_insane_prices(bars.numpy(), times, np.arange(1, len(bars) + 1), asset)
        ranges = dict(splits) if splits is not None else dict.fromkeys(SPLITS, (0, len(bars)))
        check_ranges(ranges, len(bars))
        columns, names, loc, scale = given_features(bars, features, ranges["train"])
        tradable = torch.isfinite(columns).all(dim=1)
        meta = TableMeta(asset, float(interval_s), names, "", "", ranges)
        segment = torch.zeros(len(bars), dtype=torch.int64)
        timestamp = torch.from_numpy(times)
        return cls(timestamp, bars, columns, segment, tradable, loc, scale, meta)

    def _rows(self, split: str) -> tuple[int, int]:
        if split not in self.meta.splits:
            raise ValueError(f"split={split!r} is not allowed: one of {list(self.meta.splits)}")
        return self.meta.splits[split]


def build_table(cfg: DataConfig, *, window: int, episode_bars: int) -> BarTable:
    """Read or draw, check, mend, segment and split bars, and compute their features.

    Args:
        cfg: the file, or the generated market, and how to cut it.
        window: rows that an observation looks at, the last closed bar included.
        episode_bars: steps of an episode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for data that cannot be used, naming the file, the row and what is wrong; for
            an embargo under ``window + episode_bars``; for a split without room for one episode.
    """
    bars, columns, names = _known_bars(cfg) if cfg.synthetic.market else _file_bars(cfg)
    return cut_table(bars, columns, names, cfg, window=window, episode_bars=episode_bars)


def cut_table(
    bars: Bars,
    columns: np.ndarray,
    names: list[str],
    cfg: DataConfig,
    *,
    window: int,
    episode_bars: int,
) -> BarTable:
    """Split bars that are loaded, and fit the normaliser of their features.

    Args:
        bars: N bars from `envs.bars.load_bars`.
        columns: float32 [N, F], their features, NaN in warm-up rows.
        names: of the F features.
        cfg: how to cut them.
        window: rows that an observation looks at, the last closed bar included.
        episode_bars: steps of an episode.

    Raises:
        ValueError: for an embargo under ``window + episode_bars``; for a split without room for
            one episode.
    """
    features = torch.from_numpy(columns)
    tradable = torch.isfinite(features).all(dim=1)
    splits = split_by_time(bars.time_ns, cfg, window=window, episode_bars=episode_bars)
    segment = torch.from_numpy(bars.segment)
    runs = {name: tradable_runs(tradable, segment, rows) for name, rows in splits.items()}
    require_room(runs, splits, window=window, episode_bars=episode_bars, source=bars.source_name)
    loc, scale = fit_normaliser(features, splits["train"])
    meta = TableMeta(
        asset=cfg.asset,
        interval_s=bars.interval_s,
        feature_names=names,
        source_name=bars.source_name,
        source_sha256=bars.source_sha256,
        splits=splits,
        window=window,
        episode_bars=episode_bars,
        report=_report(bars, tradable, splits),
    )
    timestamp, ohlcv = torch.from_numpy(bars.time_ns), torch.from_numpy(bars.ohlcv)
    return BarTable(timestamp, ohlcv, features, segment, tradable, loc, scale, meta)


def _file_bars(cfg: DataConfig) -> tuple[Bars, np.ndarray, list[str]]:
    bars = load_bars(cfg)
    return bars, market_features(bars.ohlcv, bars.segment), list(FEATURE_NAMES)


def _npy_bytes(tensor: Tensor) -> bytes:
    """A tensor as the bytes of a ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, tensor.cpu().numpy(), allow_pickle=False)
    return file.getvalue()


def _map_npy(path: Path) -> Tensor:
    """The tensor of a ``.npy`` file, mapped copy-on-write: processes share its pages."""
    try:
        return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not an array file of this program: {error}") from error


def _known_bars(cfg: DataConfig) -> tuple[Bars, np.ndarray, list[str]]:
    frame, features, names = draw_market(cfg.synthetic)
    digest = hashlib.sha256(frame[list(OHLCV)].to_numpy().tobytes()).hexdigest()
    source = f"synthetic/{cfg.synthetic.market}, seed {cfg.synthetic.seed}"
    return check_bars(frame, cfg, source, digest), features, names


def _report(bars: Bars, tradable: Tensor, splits: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """The loader's counts, and what they left to trade in each split."""
    report = dataclasses.asdict(bars.report)
    report["tradable_bars"] = int(tradable.sum())
    for name, (first, end) in splits.items():
        report[f"{name}_bars"] = end - first
        report[f"{name}_tradable_bars"] = int(tradable[first:end].sum())
    return report
