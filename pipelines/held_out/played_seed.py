"""The runs of one seed on their held-out bars: traces, and what is measured on them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from envs.trace import TraceWriter
from envs.trace_reader import read_trace
from pipelines.held_out.candidate import SPLIT, Candidate
from pipelines.held_out.cost_curve import growth_at_costs
from pipelines.held_out.placed_trades import Trades
from pipelines.held_out.recorded import Recording
from pipelines.held_out.replay_inputs import Inputs
from pipelines.held_out.rollout import evaluation_config, play_tiles, tile_times
from pipelines.judging.break_even import COST_MULTIPLES
from pipelines.judging.metrics import in_order, join_parts
from pipelines.judging.participation import UNITS
from pipelines.judging.performance import Performance, performance
from pipelines.judging.period_returns import growth_curve


@dataclass(frozen=True)
class PlayedSeed:
    """What the policies of one seed did.

    Attributes:
        curve: growth at the close of every bar.
        performance: its figures.
        trades: what it traded, for random accounts.
        fills: rows with a fill, the columns that `pipelines.judging.participation` reads.
        part_returns: total return over the bars of each run.
        traces: files of the traces, one a run.
    """

    curve: pd.Series
    performance: Performance
    trades: Trades
    fills: pd.DataFrame
    part_returns: list[float]
    traces: list[Path]


def name_traces(candidate: Candidate) -> dict[str, list[str]]:
    """A file name for the trace of every run, by seed: that of the run, if it is the only one."""
    names = Counter(part.run.name for parts in candidate.seeds.values() for part in parts)
    return {
        seed: [
            f"{part.run.name}_actions.csv"
            if names[part.run.name] == 1
            else f"{seed.replace(' ', '')}_{part.run.name}_{number}_actions.csv"
            for number, part in enumerate(parts, 1)
        ]
        for seed, parts in candidate.seeds.items()
    }


def play_seed(parts: Sequence[Inputs], traces: Sequence[Path]) -> PlayedSeed:
    """Play the runs of a seed over their bars, and write the trace of each."""
    frames = []
    for part, path in zip(parts, traces, strict=True):
        _write_trace(part, path)
        frames.append(read_trace(path))
    cash, interval_s = parts[0].cfg.initial_cash, parts[0].table.meta.interval_s
    alone = [growth_curve(in_order(rows), cash).iloc[-1] - 1.0 for rows in frames]
    rows = in_order(join_parts(frames))
    times = tile_times(parts[0].table, torch.cat([part.bounds for part in parts]))
    filled = rows[[*UNITS, "volume"]]
    return PlayedSeed(
        curve=growth_curve(rows, cash, times),
        performance=performance(rows, parts[0].cfg, interval_s, times),
        trades=Trades.of(rows, parts[0].cfg),
        fills=filled[filled[list(UNITS)].notna().any(axis=1)],
        part_returns=[float(total) for total in alone],
        traces=list(traces),
    )


def _write_trace(part: Inputs, path: Path) -> None:
    rollout = play_tiles(part.table, part.cfg, part.bounds, part.policy, device=part.device)
    played = evaluation_config(part.cfg, len(part.bounds))
    with TraceWriter(path, part.table, played, run_id=part.run.name, split=SPLIT) as writer:
        writer.write(rollout.batch, rollout.alive)


def curves_at_costs(parts: Sequence[Inputs], played: PlayedSeed) -> Mapping[float, pd.Series]:
    """Growth of the seed's recorded actions under every multiple of the costs."""
    tables = [part.table for part in parts]
    recordings = [
        Recording.read(path, table) for path, table in zip(played.traces, tables, strict=True)
    ]
    return {multiple: growth_at_costs(recordings, tables, multiple) for multiple in COST_MULTIPLES}
