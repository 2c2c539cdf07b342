"""How long the pages of a trace take when it is large: ``python tests/large_trace.py ROWS FOLDER``.

A market of random actions is played for a while, and its rows are written again and again, frames
and episodes counted on, until there are as many as asked for. Then the trace is indexed and asked
what its page asks, each thing three times. Times are wall-clock and of the CPU; memory is the most
that this process has held.
"""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import torch

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.market import MarketEnv
from envs.trace import TraceWriter
from envs.trace_schema import SCHEMA
from pipelines.run_insights.trace_answer import answer
from pipelines.run_insights.trace_index import index_trace
from pipelines.run_insights.trace_queries import TraceQueries
from pipelines.run_insights.trace_view import TraceView

CFG = EnvConfig(paths=4, accounts=16, workers=0, window=8, episode_bars=96)
STEPS = 320
BARS = 20_000


def play(path: Path) -> pa.Table:
    """The rows of some hundred steps of every lane, and the trace's JSON file beside `path`."""
    rng = np.random.default_rng(0)
    close = 20_000 * np.exp(np.cumsum(rng.normal(0, 0.001, BARS)))
    opens = np.r_[20_000.0, close[:-1]]
    high, low = np.maximum(opens, close) * 1.0005, np.minimum(opens, close) * 0.9995
    bars = np.stack([opens, high, low, close, rng.exponential(3.0, BARS)], 1)
    table = BarTable.from_arrays(bars, interval_s=60.0, start="2025-01-01", asset="BTC/USD")
    torch.manual_seed(0)
    env = MarketEnv(table, CFG, seed=0)
    with TraceWriter(path, table, CFG, run_id="large", split="train") as trace:
        trace.write(env.rollout(STEPS, break_when_any_done=False))
    options = pa.csv.ConvertOptions(
        column_types={field.name: field.type for field in SCHEMA},
        null_values=[""],
        strings_can_be_null=True,
    )
    return pa.csv.read_csv(path, convert_options=options)


def repeat(path: Path, rows: pa.Table, wanted: int) -> None:
    """Write the rows until there are as many as wanted."""
    plain = pa.csv.WriteOptions(include_header=False, quoting_style="none")
    episodes = pc.max(rows["episode"]).as_py() + 1
    with open(path, "wb") as file:
        file.write((",".join(SCHEMA.names) + "\n").encode())
        for turn in range(-(-wanted // len(rows))):
            part = rows.slice(0, wanted - turn * len(rows))
            for name, shift in (("env_frame", len(rows)), ("episode", episodes)):
                moved = pc.add(part[name], turn * shift)
                part = part.set_column(SCHEMA.get_field_index(name), name, moved)
            pa.csv.write_csv(part, file, plain)


def timed(what: str, action: Callable[[], Any]) -> Any:
    """Do something, and say what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = action()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:24} {wall:8.2f} s, CPU {cpu:6.2f} s, {held:5.0f} MiB", flush=True)
    return found


def main(rows: int, folder: Path) -> None:
    """Make the trace, unless it is there, and ask it."""
    path = folder / "train_actions.csv"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        repeat(path, play(path), rows)
    print(f"{path.stat().st_size / 1e9:.2f} GB")
    index = timed("first reading", lambda: index_trace(path, folder / "cache" / "one"))
    print(f"{index.rows:,} rows, {len(index.lanes)} lanes, {index.pieces} pieces")
    timed("read again", lambda: index_trace(path, folder / "cache" / "one"))
    queries = TraceQueries(folder / "cache")
    middle = index.last_frame // 2
    views = {
        "first page": TraceView(),
        "all lanes": TraceView(lane=-1),
        "one episode": TraceView(episode=3),
        "a hundredth of it": TraceView(first=middle, last=middle + index.last_frame // 100),
        "another lane": TraceView(lane=index.lanes[-1]),
    }
    for name, view in views.items():
        for turn in range(3):
            timed(f"{name}, {turn + 1}", lambda view=view: answer(queries, index, view, path))


if __name__ == "__main__":
    main(int(float(sys.argv[1])), Path(sys.argv[2]))
