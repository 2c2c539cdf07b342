"""Traces in which everything happens, with the files of their prices, for the audit's tests."""

import csv
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from tensordict import TensorDict

from candle_tables import NO_COSTS
from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import HEADS
from envs.market import MarketEnv
from envs.trace import TraceWriter
from envs.trace_reader import pack_trace
from envs.trace_schema import COLUMNS
from pipelines.auditing.audit_rows import DoesNotAddUp
from pipelines.auditing.trace_audit import audit_trace
from pipelines.held_out.rollout import play_tiles, split_tiles

STEPS = 100

BASE = EnvConfig(paths=2, accounts=6, workers=0, window=4, episode_bars=30)

WILD = {"risk_pct": 100.0, "max_leverage": 30.0, "stop_step_bps": 140.0}

CONFIGS = {
    "defaults": {},
    "trailing": {"trailing": True, "stop_step_bps": 60.0},
    "funding": {"funding_bps_per_day": 100.0, "max_participation": 0.05},
    "ruin": WILD,
    "ruin, trailing": WILD | {"trailing": True, "funding_bps_per_day": 40.0},
    "free": NO_COSTS,
    "free and wild": NO_COSTS | WILD | {"ruin_equity_frac": 0.5},
    "coarse": {"lot_size": 0.25, "max_units": 3.0, "min_units": 1.0, "initial_cash": 25_000.0},
    "penalties": {"drawdown_penalty": 0.5, "turnover_penalty": 0.01, "reward_scale": 10.0},
    "touch": {"tp_through_ticks": 0.0, "taker_fee_bps": 1.0, "stop_slippage_bps": 8.0},
    "through": {"tp_through_ticks": 4.0, "maintenance_margin_rate": 0.02, "max_leverage": 20.0},
    "tick": {"tick_size": 0.25, "slippage_bps": 0.7, "take_profit_r": [0.0, 0.5, 80.0]},
    "poor": {"initial_cash": 20.0, "trailing": True},  # positions of some thousandths
    "rich": {"initial_cash": 3e9, "max_leverage": 20.0, "risk_pct": 30.0},
    "flatten": {"flatten_at_end": True, "trailing": True},
    "all": WILD | {"funding_bps_per_day": 100.0, "max_participation": 4.0, "trailing": True,
                   "drawdown_penalty": 0.3, "turnover_penalty": 0.1},
}  # fmt: skip


def draw_bars(count, seed):
    """Bars on the tick of 0.1 with gaps, wicks, closes that repeat and bars without volume."""
    rng = np.random.default_rng(seed)
    steps = np.where(
        rng.random(count) < 0.8, rng.normal(0, 0.002, count), rng.normal(0, 0.03, count)
    )
    close = 10_000 * np.exp(np.cumsum(steps * (rng.random(count) < 0.9)))
    gap = np.exp(np.where(rng.random(count) < 0.15, rng.normal(0, 0.04, count), 0))
    opens = np.concatenate([close[:1], close[:-1]]) * gap
    wicks = rng.exponential(np.where(rng.random((2, count)) < 0.85, 0.001, 0.03))
    high, low = np.maximum(opens, close) * (1 + wicks[0]), np.minimum(opens, close) / (1 + wicks[1])
    prices = np.round(np.stack([opens, high, low, close], -1) * 10) / 10
    volume = rng.exponential(100, count) * (rng.random(count) < 0.8)
    return np.concatenate([prices, volume[:, None]], -1)


def read_rows(path):
    """The rows of a trace, text in every cell."""
    with path.open() as file:
        return list(csv.DictReader(file))


def make_policy(cfg, seed):
    """Random actions that often keep their direction, and never look at anything."""
    rng, kept = np.random.default_rng(seed), {}

    def policy(td):
        shape = tuple(td.batch_size)
        heads = {h: torch.from_numpy(rng.integers(0, n, shape)) for h, n in cfg.num_actions.items()}
        if "direction" in kept:
            keep = torch.from_numpy(rng.random(shape) < 0.7)
            heads["direction"] = torch.where(keep, kept["direction"], heads["direction"])
        kept["direction"] = heads["direction"]
        td["action"] = TensorDict({h: heads[h] for h in HEADS}, shape)
        return td

    return policy


def write_prices(table, path):
    """The bars of a table as a file, CSV or parquet by its name."""
    frame = pd.DataFrame(table.ohlcv.numpy(), columns=["open", "high", "low", "close", "volume"])
    frame.insert(0, "timestamp", pd.to_datetime(table.timestamp.numpy(), utc=True))
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


def make_trace(folder, *, suffix=".csv", lanes=None, parts=1, seed=0, **params):
    """A training trace and its price file: (trace, prices)."""
    cfg = dataclasses.replace(BASE, **params)
    table = BarTable.from_arrays(draw_bars(160, seed), interval_s=3_600.0)
    prices = write_prices(table, folder / f"bars{suffix}")
    env = MarketEnv(table, cfg, seed=seed)
    played = env.rollout(STEPS, make_policy(cfg, seed), break_when_any_done=False)
    trace = folder / "train_actions.csv"
    with TraceWriter(trace, table, cfg, run_id="r", split="train", lanes=lanes) as writer:
        for part in played.split(STEPS // parts, dim=-1):
            writer.write(part)
    return (pack_trace(trace) if suffix == ".parquet" else trace), prices


def make_replay(folder, *, until=160, **params):
    """A replay of several tiles with a ruin among them, up to a bar, and its price file."""
    cfg = dataclasses.replace(BASE, episode_bars=20, flatten_at_end=True, **params)
    table = BarTable.from_arrays(draw_bars(160, 4), interval_s=3_600.0)
    prices = write_prices(table, folder / "bars.csv")
    bounds = split_tiles(table, cfg, "test").clamp_max(until - 1)
    bounds = bounds[bounds[:, 0] < bounds[:, 1]]
    played = play_tiles(table, cfg, bounds, make_policy(cfg, 4))
    trace = folder / "replay_actions.csv"
    with TraceWriter(trace, table, cfg, run_id="r", split="test") as writer:
        writer.write(played.batch, played.alive)
    return trace, prices


def make_clean(folder):
    """A trace in which everything happens: its rows, its path and its price file."""
    trace, prices = make_trace(folder, seed=5, **CONFIGS["all"])
    return read_rows(trace), trace, prices


def audit_changed(rows, clean, folder, **simulator):
    """What the audit finds in changed rows; `simulator` changes parameters beside them."""
    about = json.loads(clean[1].with_suffix(".json").read_text())
    about["simulator"] |= simulator
    trace = folder / "changed.csv"
    trace.with_suffix(".json").write_text(json.dumps(about))
    with trace.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(DoesNotAddUp) as caught:
        audit_trace(trace, clean[2])
    return caught.value.finding
