"""``suite=speed``, second half: time and memory against lanes, bars, window, accounts, frames."""

import functools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.data_config import DataConfig
from envs.factory import make_env
from envs.table import build_table
from pipelines.benchmarks.benchmark_env import EPISODE_BARS
from pipelines.benchmarks.benchmark_speed import Cell, alone, peak_memory, time_cell
from pipelines.config import compose_config
from pipelines.device import pick_device
from pipelines.model import make_model
from pipelines.operations import median_seconds
from pipelines.training import Training

WINDOWS = (16, 32, 64, 128, 256)
ACCOUNTS = (1, 4, 16, 64, 256)
LANES = (16, 256, 4_096, 65_536)
BARS = (10_000, 100_000, 1_000_000)
_ITERATIONS = 40
_STEPS = 20


def time_growth(folder: Path, repeats: int) -> Iterator[dict[str, Any]]:
    """A row for each point of each curve, as soon as it is measured; tables of the same columns.

    Args:
        folder: a saved table of bars, for all but the growth with the number of bars.
        repeats: timings, of which the median counts.
    """
    jobs = [
        *(functools.partial(_with_lanes, lanes, folder, repeats) for lanes in LANES),
        *(functools.partial(_with_bars, bars, repeats) for bars in BARS),
        *(
            functools.partial(_with_cell, "window", Cell(network, 1, 8, window), folder, repeats)
            for network in ("aligned", "streaming")
            for window in WINDOWS
        ),
        *(
            functools.partial(_with_cell, "accounts", Cell(network, k, 8 * k), folder, repeats)
            for network in ("aligned", "streaming")
            for k in ACCOUNTS
        ),
        functools.partial(_with_frames, folder),
    ]
    for rows in alone(jobs, "point"):
        yield from rows


def _with_lanes(lanes: int, folder: Path, repeats: int) -> list[dict[str, Any]]:
    """A step of the environment against the accounts in it."""
    cfg = EnvConfig(paths=lanes, accounts=1, workers=0, episode_bars=EPISODE_BARS)
    step_s, memory = _time_steps(BarTable.load(folder), cfg, repeats)
    return [{"lanes": lanes, "ms a step": 1e3 * step_s, "ns a lane": 1e9 * step_s / lanes} | memory]


def _with_bars(bars: int, repeats: int) -> list[dict[str, Any]]:
    """Reading a file, and a step of 4,096 lanes on its bars, against its length."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.parquet"
        random_walk(bars).to_parquet(path)
        begin = time.perf_counter()
        table = build_table(DataConfig(path=str(path)), window=64, episode_bars=EPISODE_BARS)
        read_s = time.perf_counter() - begin
    cfg = EnvConfig(paths=4_096, accounts=1, workers=0, episode_bars=EPISODE_BARS)
    step_s, memory = _time_steps(table, cfg, repeats)
    return [{"bars": bars, "read and check, s": read_s, "ms a step": 1e3 * step_s} | memory]


def _with_cell(growing: str, cell: Cell, folder: Path, repeats: int) -> list[dict[str, Any]]:
    """An update against the window, or the accounts on a path."""
    row = time_cell(cell, folder, repeats, epochs=1)
    value = {"window": cell.window, "accounts": cell.accounts}[growing]
    frames = cell.lanes * cell.steps(pick_device("auto"))
    spent = 1e3 * frames / row["training, 1 epochs, frames/s"]
    return [
        {
            f"{growing} of {cell.network}": value,
            "ms an iteration of one epoch": spent,
            "ms a frame": spent / frames,
            "peak memory, MiB": row["peak memory, MiB"],
        }
    ]


def _with_frames(folder: Path) -> list[dict[str, Any]]:
    """Memory against the length of a training."""
    words = ["model=tiny", "env.workers=0", "env.paths=16", "env.accounts=16"]
    words += [f"total_frames={_ITERATIONS * 256 * 32}", "train.minibatch=2048"]
    cfg = compose_config("ppo_transformer", words)
    table, device = BarTable.load(folder), pick_device("auto")
    model = make_model(cfg.model, cfg.env, table).to(device)
    training = Training(cfg, table, make_env(table, cfg.env, device=device), model)
    rows = []
    for iteration in training:
        if iteration.number % (_ITERATIONS // 4) == 0:
            memory = {"peak memory, MiB": peak_memory(device) / 2**20}
            rows.append({"frames trained on": iteration.frames} | memory)
    training.close()
    return rows


def _time_steps(table: BarTable, cfg: EnvConfig, repeats: int) -> tuple[float, dict[str, float]]:
    """Seconds of a step with random actions, and the peak of memory."""
    device = pick_device("auto")
    env = make_env(table, cfg, device=device)
    state = env.reset()

    def play() -> None:
        nonlocal state
        for _ in range(_STEPS):
            _, state = env.step_and_maybe_reset(env.rand_action(state))

    step_s = median_seconds(play, repeats, device) / _STEPS
    return step_s, {"peak memory, MiB": peak_memory(device) / 2**20}


def random_walk(bars: int) -> pd.DataFrame:
    """One-minute bars of a price without drift, at the tick of 0.1."""
    rng = np.random.default_rng(0)
    close = np.round(30_000.0 * np.exp(np.cumsum(rng.normal(0.0, 5e-4, bars))), 1)
    opening = np.r_[close[0], close[:-1]]
    reach = np.round(rng.exponential(10.0, (2, bars)), 1)
    frame = {
        "timestamp": pd.date_range("2024-01-01", periods=bars, freq="1min", tz="UTC"),
        "open": opening,
        "high": np.maximum(opening, close) + reach[0],
        "low": np.minimum(opening, close) - reach[1],
        "close": close,
        "volume": rng.exponential(1.0, bars),
    }
    return pd.DataFrame(frame)
