"""The bar table: one market in memory, which every environment and every network points into."""

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from envs.assets import AssetRows
from envs.bar_files import plain_time, time_text
from envs.bare_numbers import check_ranges, copied, given_features, regular_times
from envs.bars import report_lines
from envs.checks import read_json, require
from envs.data_config import SPLITS
from envs.durable import replace_folder, write_folder
from envs.joint_bars import joint_sha256
from envs.mending import refuse_insane_prices
from envs.splits import fit_normaliser, tradable_runs
from envs.table_meta import META_FILE, TableMeta

_ROW_TENSORS = ("timestamp", "ohlcv", "features", "segment", "tradable")
_TENSOR_NAMES = (*_ROW_TENSORS, "loc", "scale")


@dataclass(frozen=True)
class BarTable:
    """Bars, features and normaliser of one market, N bars and F features.

    Rows are sorted by time; a segment is a run of rows exactly one interval apart. An environment's
    state is a row number of this table. Several markets lie end to end, each with segments of its
    own, under one normaliser: what holds for a market's rows holds as if they were alone.

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
        parts = self.meta.assets or (self.meta,)
        runs = [tradable_runs(self.tradable, self.segment, _rows(p.splits, split)) for p in parts]
        return torch.cat(runs)

    @property
    def asset_names(self) -> list[str]:
        """The market, or the markets in the order of their rows."""
        return [part.asset for part in self.meta.assets or (self.meta,)]

    def one_asset(self, name: str | None = None) -> Self:
        """One market of the table, under the normaliser of all of them.

        Args:
            name: the market; None: the only one.

        Raises:
            ValueError: if there is no such market, or there are several and none is named.
        """
        known = self.asset_names
        fits = name in known or (name is None and len(known) == 1)
        require(fits, "data.asset", name, f"one of {', '.join(known)}")
        if self.meta.assets is None:
            return self
        part = self.meta.assets[known.index(str(name))]
        first, end = part.rows
        meta = dataclasses.replace(
            self.meta,
            asset=part.asset,
            source_name=part.source_name,
            source_sha256=part.source_sha256,
            splits={split: (a - first, b - first) for split, (a, b) in part.splits.items()},
            report=part.report,
            assets=None,
        )
        own = {name: getattr(self, name)[first:end] for name in _ROW_TENSORS}
        own["segment"] = own["segment"] - own["segment"][0]
        return dataclasses.replace(self, **own, meta=meta)

    @classmethod
    def join(cls, tables: Sequence[Self]) -> Self:
        """Several markets end to end; the normaliser is fitted on the train rows of all of them.

        Args:
            tables: of one market each, from `cut_table`, whose splits share their dates.
        """
        ends = np.cumsum([len(table) for table in tables]).tolist()
        segments = np.cumsum([int(table.segment[-1]) + 1 for table in tables]).tolist()
        parts = {name: [getattr(t, name) for t in tables] for name in _ROW_TENSORS}
        shifts = [0, *segments[:-1]]
        parts["segment"] = [a + b for a, b in zip(parts["segment"], shifts, strict=True)]
        train = [table.features[slice(*table.meta.splits["train"])] for table in tables]
        loc, scale = fit_normaliser(torch.cat(train), (0, sum(map(len, train))))
        firsts = [0, *ends[:-1]]
        assets = [_asset_rows(t.meta, a, b) for t, a, b in zip(tables, firsts, ends, strict=True)]
        meta = dataclasses.replace(
            tables[0].meta,
            asset="+".join(part.asset for part in assets),
            source_name="+".join(part.source_name for part in assets),
            source_sha256=joint_sha256({part.asset: part.source_sha256 for part in assets}),
            splits={},
            report={},
            assets=assets,
        )
        joined = {name: torch.cat(tensors) for name, tensors in parts.items()}
        return cls(**joined, loc=loc, scale=scale, meta=meta)

    def summary_lines(self) -> list[str]:
        """For a person: what the file holds, what was mended, and what each split has to trade."""
        if self.meta.assets is not None:
            names = self.asset_names
            return [f"{name}: {x}" for name in names for x in self.one_asset(name).summary_lines()]
        lines = report_lines(self.meta.report) if self.meta.report else []
        return lines + self.split_lines()

    def split_lines(self) -> list[str]:
        """For a person: what each split of the one market has to trade."""
        lines = []
        for name, (first, end) in self.meta.splits.items():
            tradable = int(self.tradable[first:end].sum())
            times = (time_text(int(self.timestamp[row])) for row in (first, end - 1))
            begin, last = map(plain_time, times)
            lines.append(
                f"{name}: {tradable:,} tradable bars of {end - first:,}, {begin} to {last}, "
                f"unbroken runs: {len(self.runs(name))}"
            )
        return lines

    def save(self, directory: str | Path, *, replace: bool = False) -> None:
        """Write the table to a new folder: an array file for each tensor, and a JSON file.

        The folder appears whole or not at all.

        Args:
            directory: the folder.
            replace: whatever is in it; it stays until the table is on the disk, and for good if it
                is this table.

        Raises:
            OSError: if there is a folder with something in it already, unless it is to be
                replaced, or the disk refuses.
        """
        known = {k: v for k, v in dataclasses.asdict(self.meta).items() if v is not None}
        meta = json.dumps(known, indent=2, allow_nan=False)
        blobs = {f"{name}.npy": _npy_bytes(getattr(self, name)) for name in _TENSOR_NAMES}
        write = replace_folder if replace else write_folder
        write(Path(directory), blobs | {META_FILE: (meta + "\n").encode()})

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Open a saved table; processes that load the same folder share its pages.

        Arrays are mapped, never unpickled; a change to one stays in the process that makes it.

        Raises:
            FileNotFoundError: if the folder holds no table, or a file of it is missing.
            ValueError: if a file is damaged, naming it.
        """
        folder = Path(directory)
        if not (folder / META_FILE).is_file():
            raise FileNotFoundError(f"{folder}: no bar table here ({META_FILE} is missing)")
        values = read_json(folder / META_FILE)
        values["splits"] = {name: (rows[0], rows[1]) for name, rows in values["splits"].items()}
        if "assets" in values:
            values["assets"] = [AssetRows.of(part) for part in values["assets"]]
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


def _rows(splits: Mapping[str, tuple[int, int]], split: str) -> tuple[int, int]:
    if split not in splits:
        raise ValueError(f"split={split!r} is not allowed: one of {list(splits)}")
    return splits[split]


def _asset_rows(meta: TableMeta, first: int, end: int) -> AssetRows:
    """What a table of several markets knows of one, whose rows begin at `first`."""
    splits = {name: (a + first, b + first) for name, (a, b) in meta.splits.items()}
    return AssetRows(
        meta.asset, (first, end), meta.source_name, meta.source_sha256, splits, meta.report
    )


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
