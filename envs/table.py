"""From a configuration to the bar table: read or draw, check, mend, segment, compute, cut, fit."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.assets import of_market, parse_assets
from envs.bar_files import OHLCV
from envs.bar_table import BarTable
from envs.bars import Bars, check_bars, load_bars
from envs.checks import require
from envs.coarse_bars import coarse_features, coarse_names
from envs.data_config import DataConfig
from envs.features import FEATURE_NAMES, market_features
from envs.joint_bars import common_splits, require_joinable
from envs.known_bars import draw_market
from envs.splits import fit_normaliser, require_room, split_by_time, tradable_runs
from envs.table_meta import TableMeta


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
    if cfg.assets is not None:
        return _build_joint(cfg, window=window, episode_bars=episode_bars)
    bars, columns, names = load_columns(cfg)
    return cut_table(bars, columns, names, cfg, window=window, episode_bars=episode_bars)


def load_columns(cfg: DataConfig) -> tuple[Bars, np.ndarray, list[str]]:
    """Bars of one market and their features, for who adds columns before `cut_table`.

    Args:
        cfg: the file, or the generated market.

    Returns:
        N bars, float32 [N, F] features, NaN in warm-up rows, and F names.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for data that cannot be used, naming the file, the row and what is wrong.
    """
    return _known_bars(cfg) if cfg.synthetic.market else _file_bars(cfg)


def _build_joint(cfg: DataConfig, *, window: int, episode_bars: int) -> BarTable:
    """The table of `data.assets`; that of one market is the one of its `data.path`."""
    alone = each_market(cfg)
    markets = []
    for one in alone:
        with of_market(one.asset):
            markets.append(_file_bars(one))
    tables = cut_markets(alone, markets, window=window, episode_bars=episode_bars)
    return tables[0] if len(tables) == 1 else BarTable.join(tables)


def each_market(cfg: DataConfig) -> list[DataConfig]:
    """A configuration for each market of `data.assets`, or the one of a single file."""
    if cfg.assets is None:
        return [cfg]
    return [
        dataclasses.replace(cfg, assets=None, path=path, asset=name)
        for name, path in parse_assets(cfg.assets)
    ]


def cut_markets(
    alone: Sequence[DataConfig],
    markets: Sequence[tuple[Bars, np.ndarray, list[str]]],
    *,
    window: int,
    episode_bars: int,
) -> list[BarTable]:
    """Split markets that are loaded at the same dates: a table each, before they are joined.

    Args:
        alone: from `each_market`; all cut alike.
        markets: bars of each, their features and the names of these, as `cut_table` has them.
        window: rows that an observation looks at, the last closed bar included.
        episode_bars: steps of an episode.

    Raises:
        ValueError: for markets that do not go together, an embargo under
            ``window + episode_bars``, and a split without room for one episode.
    """
    require_joinable({one.asset: bars for one, (bars, _, _) in zip(alone, markets, strict=True)})
    times = [bars.time_ns for bars, _, _ in markets]
    cuts = common_splits(times, alone[0], window=window, episode_bars=episode_bars)
    tables = []
    for market, one, splits in zip(markets, alone, cuts, strict=True):
        with of_market(one.asset if len(alone) > 1 else ""):
            tables.append(
                cut_table(*market, one, window=window, episode_bars=episode_bars, splits=splits)
            )
    return tables


def cut_table(
    bars: Bars,
    columns: np.ndarray,
    names: list[str],
    cfg: DataConfig,
    *,
    window: int,
    episode_bars: int,
    splits: Mapping[str, tuple[int, int]] | None = None,
) -> BarTable:
    """Split bars that are loaded, and fit the normaliser of their features.

    Args:
        bars: N bars from `envs.bars.load_bars`.
        columns: float32 [N, F], their features, NaN in warm-up rows; copied.
        names: of the F features.
        cfg: how to cut them.
        window: rows that an observation looks at, the last closed bar included.
        episode_bars: steps of an episode.
        splits: half-open row ranges that were found before; None: those of `cfg`.

    Raises:
        ValueError: for columns of another shape or type, or a name that comes twice; for an embargo
            under ``window + episode_bars``; for a split without room for one episode.
    """
    _require_columns(columns, (len(bars.time_ns), len(set(names))))
    # A copy: who fills the same columns anew, for a second table, must not change the first.
    features = torch.from_numpy(columns.copy())
    tradable = torch.isfinite(features).all(dim=1)
    if splits is None:
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
        splits=dict(splits),
        window=window,
        episode_bars=episode_bars,
        report=_report(bars, tradable, splits),
    )
    timestamp, ohlcv = torch.from_numpy(bars.time_ns), torch.from_numpy(bars.ohlcv)
    return BarTable(timestamp, ohlcv, features, segment, tradable, loc, scale, meta)


def _require_columns(columns: np.ndarray, shape: tuple[int, int]) -> None:
    is_array = isinstance(columns, np.ndarray)
    fits = is_array and columns.dtype == np.float32 and columns.shape == shape
    found = f"{columns.dtype} {list(columns.shape)}" if is_array else type(columns).__name__
    allowed = f"float32 {list(shape)}, an array: a row a bar, a column for each different name"
    require(fits, "columns", found, allowed)


def _file_bars(cfg: DataConfig) -> tuple[Bars, np.ndarray, list[str]]:
    bars = load_bars(cfg)
    return bars, *file_features(bars, cfg)


def file_features(bars: Bars, cfg: DataConfig) -> tuple[np.ndarray, list[str]]:
    """The columns of a file's bars, those of coarser bars after those of its own, and their names.

    Args:
        bars: N bars from `envs.bars.load_bars`.
        cfg: names the coarser bars.

    Returns:
        float32 [N, F], NaN in warm-up rows, and F names.

    Raises:
        ValueError: for a timeframe that is no whole multiple of the bars'.
    """
    return _with_coarse(bars, market_features(bars.ohlcv, bars.segment), list(FEATURE_NAMES), cfg)


def _with_coarse(
    bars: Bars, columns: np.ndarray, names: list[str], cfg: DataConfig
) -> tuple[np.ndarray, list[str]]:
    if cfg.timeframes is None:
        return columns, names
    coarse = coarse_features(bars, cfg.timeframes)
    return np.concatenate([columns, coarse], axis=1), [*names, *coarse_names(cfg.timeframes)]


def _known_bars(cfg: DataConfig) -> tuple[Bars, np.ndarray, list[str]]:
    frame, features, names = draw_market(cfg.synthetic)
    digest = hashlib.sha256(frame[list(OHLCV)].to_numpy().tobytes()).hexdigest()
    source = f"synthetic/{cfg.synthetic.market}, seed {cfg.synthetic.seed}"
    bars = check_bars(frame, cfg, source, digest)
    return bars, *_with_coarse(bars, features, names, cfg)


def _report(bars: Bars, tradable: Tensor, splits: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """The loader's counts, and what they left to trade in each split."""
    report = dataclasses.asdict(bars.report)
    report["tradable_bars"] = int(tradable.sum())
    for name, (first, end) in splits.items():
        report[f"{name}_bars"] = end - first
        report[f"{name}_tradable_bars"] = int(tradable[first:end].sum())
    return report
