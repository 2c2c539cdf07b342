"""A trace of random accounts, and what the tests ask of it."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.market import MarketEnv
from envs.trace import TraceWriter
from envs.trace_reader import read_trace
from pipelines.run_insights import trace_index
from pipelines.run_insights.trace_index import index_trace
from pipelines.run_insights.trace_queries import Part, TraceQueries

CFG = EnvConfig(paths=2, accounts=3, workers=0, window=8, episode_bars=40, funding_bps_per_day=90.0)
MANY = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def count_points(figure):
    """Points of all its lines, candles and marks."""
    return sum(len(trace["x"]) for trace in figure["data"])


def make_table():
    """600 bars of a random walk about 20,000, 15 minutes long."""
    rng = np.random.default_rng(5)
    close = 20_000 * np.exp(np.cumsum(rng.normal(0, 0.004, 600)))
    opens = np.r_[20_000.0, close[:-1]]
    bars = np.stack([opens, np.maximum(opens, close) * 1.002, np.minimum(opens, close) * 0.998,
                     close, rng.exponential(3.0, 600)], 1)  # fmt: skip
    return BarTable.from_arrays(bars, interval_s=900.0, start="2025-01-01", asset="BTC/USD")


def play(folder):
    """Make a run's folder with a trace of 6 lanes that act at random, 150 steps each: its rows."""
    table = make_table()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    torch.manual_seed(2)
    env = MarketEnv(table, CFG, seed=1)
    path = folder / "train_actions.csv"
    with TraceWriter(path, table, CFG, run_id="one", split="train") as trace:
        for _ in range(3):
            trace.write(env.rollout(50, break_when_any_done=False))
    return read_trace(path)


def index_in_pieces(path, cache):
    """Questions to a trace, indexed in pieces of some lines, and its index."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_index, "PIECE_BYTES", 70_000)
        index = index_trace(path, cache / "one")
    assert index.pieces > 3
    return TraceQueries(cache), index


def rows_of(rows, part):
    """The rows of a part, as pandas finds them."""
    kept = rows["env_frame"].between(part.first, part.last)
    if part.lane is not None:
        kept &= rows["lane"] == part.lane
    if part.episode is not None:
        kept &= rows["episode"] == part.episode
    return rows[kept].sort_values("env_frame", ignore_index=True)


@st.composite
def parts(draw, lane=True):
    """Parts of a trace of 900 frames, some of them empty."""
    first, last = sorted(draw(st.lists(st.integers(0, 899), min_size=2, max_size=2)))
    lane = draw(st.integers(0, 5) if lane else st.none() | st.integers(0, 5))
    return Part(first, last, lane, draw(st.none() | st.integers(0, 4)))


def segments(trace):
    """The frames of each unbroken piece of a line."""
    pieces = [[]]
    for x, y in zip(trace["x"], trace["y"], strict=True):
        if y is None:
            pieces.append([])
        else:
            pieces[-1].append(x)
    return [piece for piece in pieces if piece]
