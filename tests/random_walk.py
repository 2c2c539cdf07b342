"""Bars of a random walk: as a frame, as a file, or as a table that a market is played on."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from envs.bar_table import BarTable


def draw_walk(
    bars: int, *, seed: int = 0, step: str = "15min", start: str = "2025-01-01"
) -> pd.DataFrame:
    """Bars about 20,000 that move 30 bps each; prices and volumes are decimals, as in a file."""
    rng = np.random.default_rng(seed)
    close = np.round(20_000 * np.exp(np.cumsum(rng.normal(0, 0.003, bars))), 1)
    opens = np.r_[20_000.0, close[:-1]]
    return pd.DataFrame(
        {
            "timestamp": pd.date_range(start, periods=bars, freq=step, tz="UTC"),
            "open": opens,
            "high": np.maximum(opens, close) + 5.0,
            "low": np.minimum(opens, close) - 5.0,
            "close": close,
            "volume": rng.exponential(3.0, bars).round(3),
        }
    )


def write_bars(path: Path, bars: int = 3_000, **options: object) -> Path:
    """Write such bars to a .csv or a .parquet file, with its folder; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = draw_walk(bars, **options)
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return path


def draw_cents(
    rows: int, *, seed: int, first: float, start: str = "2024-03-01", move: float = 1e-3
) -> pd.DataFrame:
    """One-minute bars that begin at any price, in cents; some have no volume."""
    rng = np.random.default_rng(seed)
    close = np.round(first * np.exp(np.cumsum(rng.normal(0.0, move, rows))), 2)
    open_ = np.append(close[:1], close[:-1])
    wicks = np.round(first * rng.exponential(move / 3, (2, rows)), 2)
    return pd.DataFrame(
        {
            "timestamp": pd.date_range(start, periods=rows, freq="min", tz="UTC"),
            "open": open_,
            "high": np.maximum(open_, close) + wicks[0],
            "low": np.minimum(open_, close) - wicks[1],
            "close": close,
            "volume": np.round(rng.lognormal(0.0, 1.0, rows) * (rng.random(rows) > 0.1), 3),
        }
    )


def tick_table(
    bars: int, *, seed: int = 0, move: float = 0.001, drift: float = 0.0, wick: float = 2.0
) -> BarTable:
    """A table about 10,000 with prices on the tick of 0.1; `move` and `drift` a bar, in logs."""
    rng = np.random.default_rng(seed)
    close = np.round(10_000 * np.exp(np.cumsum(rng.normal(drift, move, bars))), 1)
    opens = np.r_[10_000.0, close[:-1]]
    high, low = np.maximum(opens, close) + wick, np.minimum(opens, close) - wick
    return BarTable.from_arrays(np.stack([opens, high, low, close, np.full(bars, 9.0)], 1))


def draw_ticks(bars: int, *, seed: int = 0, move: int = 900, wick: int = 300) -> np.ndarray:
    """float64 [bars, 5] about 10,000 in whole ticks of 0.1, at most so many a bar and beyond it.

    As given they are wild enough to ruin an account of high leverage.
    """
    rng = np.random.default_rng(seed)
    close = 10_000 + np.cumsum(rng.integers(-move, move + 1, bars)) * 0.1
    opens = np.concatenate([close[:1], close[:-1]])
    high = np.maximum(opens, close) + rng.integers(0, wick, bars) * 0.1
    low = np.minimum(opens, close) - rng.integers(0, wick, bars) * 0.1
    prices = np.round(np.stack([opens, high, low, close], -1), 1)
    return np.c_[prices, rng.uniform(1, 99, bars)]


def wild_bars(count: int, rng: np.random.Generator) -> np.ndarray:
    """float64 [count, 5] on the tick of 0.1: gaps of percents, long wicks.

    Some bars do not move, and some have no volume.
    """
    small, large = rng.normal(0, 0.002, count), rng.normal(0, 0.04, count)
    moves = np.where(rng.random(count) < 0.85, small, large) * (rng.random(count) < 0.95)
    close = 10_000 * np.exp(np.cumsum(moves) - np.linspace(0, moves.sum(), count))
    gaps = np.where(rng.random(count) < 0.1, rng.normal(0, 0.03, count), 0)
    opens = np.concatenate([close[:1], close[:-1]]) * np.exp(gaps)
    wick = np.where(rng.random((2, count)) < 0.9, 0.001, 0.05) * rng.exponential(1, (2, count))
    high = np.maximum(opens, close) * (1 + wick[0])
    low = np.minimum(opens, close) * np.maximum(1 - wick[1], 0.5)
    prices = np.round(np.stack([opens, high, low, close], -1) / 0.1) / 10
    volume = rng.exponential(100, count) * (rng.random(count) < 0.8)
    return np.concatenate([prices, volume[:, None]], -1)


def draw_ohlcv(bars: int = 400, *, volatility: float = 3e-3) -> torch.Tensor:
    """float64 [bars, 5] about 100, off every tick; the volume is as large as the price."""
    generator = torch.Generator().manual_seed(0)
    steps = volatility * torch.randn(bars, generator=generator, dtype=torch.float64)
    close = 100.0 * steps.cumsum(0).exp()
    open_ = torch.cat([close[:1], close[:-1]])
    high, low = torch.maximum(open_, close) * 1.001, torch.minimum(open_, close) * 0.999
    return torch.stack([open_, high, low, close, close], -1)


def fine_table(bars: int = 400, *, volatility: float = 3e-3) -> BarTable:
    """A table of such bars."""
    return BarTable.from_arrays(draw_ohlcv(bars, volatility=volatility))
