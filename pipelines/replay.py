"""Replay a trained policy on held-out bars: ``python pipelines/replay.py run=runs/NAME``.

``data.path=FILE`` replays other bars than the run's own, ``split=`` and ``episodes=`` choose which.
Writes the trace of every action, the result beside its baselines, and a page to look at.
"""

import sys
from pathlib import Path

import torch

from envs.config import EnvConfig
from envs.table import BarTable
from envs.trace import TraceWriter, read_trace
from pipelines.baselines import RANDOM_ACCOUNTS, buy_and_hold, measure_baselines
from pipelines.metrics import in_order, measure
from pipelines.page import write_page
from pipelines.result import POLICY, Replayed, Result, as_text
from pipelines.rollout import Policy, play_tiles, split_tiles


def measure_policy(
    policy: Policy,
    table: BarTable,
    cfg: EnvConfig,
    *,
    run_id: str,
    split: str,
    folder: Path,
    episodes: int | None = None,
    notes: tuple[str, ...] = (),
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Result:
    """Play a policy and its baselines over the tiles of a split, and write what came of it.

    Args:
        policy: what `pipelines.rollout.play_tiles` takes.
        table: the market.
        cfg: the simulator's parameters.
        run_id: the run's name, for the trace and the page.
        split: ``train``, ``val`` or ``test``.
        folder: where the four files go.
        episodes: at most so many tiles; None: all.
        notes: sentences that the result must carry, before the caveats found here.
        device: where everything is computed.
        seed: of the random baseline.

    Returns:
        The result, as written to ``result.json``; beside it lie ``replay_actions.csv``,
        ``replay_actions.json`` and ``replay.html``.
    """
    bounds = split_tiles(table, cfg, split, episodes)
    rollout = play_tiles(table, cfg, bounds, policy, device=device)
    trace = folder / "replay_actions.csv"
    with TraceWriter(trace, table, cfg, run_id=run_id, split=split) as writer:
        writer.write(rollout.batch, rollout.alive)
    rows = in_order(read_trace(trace))
    hold = in_order(buy_and_hold(table, cfg, bounds))
    baselines, interval = measure_baselines(table, cfg, bounds, device=device, seed=seed)
    replayed = Replayed.describe(
        hold,
        run=run_id,
        asset=table.meta.asset,
        split=split,
        source_name=table.meta.source_name,
        source_sha256=table.meta.source_sha256,
        interval_s=table.meta.interval_s,
        tiles=len(bounds),
    )
    metrics = {POLICY: measure(rows, cfg), **baselines}
    result = Result(replayed, metrics, interval, RANDOM_ACCOUNTS, list(notes))
    result.save(folder / "result.json")
    write_page(folder / "replay.html", result, rows, hold, cfg)
    return result
