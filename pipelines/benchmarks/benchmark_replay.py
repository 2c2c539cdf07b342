"""``suite=replay``: a year of minutes replayed in bulk, and what step by step would have done.

An untrained policy costs what a trained one does. Its logits are made larger, so that it prefers
something and trades.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torchrl.modules import ActorValueOperator

from envs.ledger import FILLS
from envs.table import build_table
from envs.trace import TraceWriter
from pipelines.benchmarks.benchmark_growth import random_walk
from pipelines.config import RunConfig, compose_config
from pipelines.device import pick_device
from pipelines.held_out.rollout import evaluation_config, play_tiles, split_tiles
from pipelines.held_out.ties import partings
from pipelines.model import make_model
from pipelines.operations import count_operations, peak_flops
from pipelines.rollout_policy import RolloutPolicy

_GAIN = 100.0
_BEFORE = 10_000  # bars of the training split, and of the validation split


def time_replays(networks: list[str], bars: int, compared: int) -> list[dict[str, Any]]:
    """A row for each network.

    Args:
        networks: presets of ``configs/model``.
        bars: one-minute bars of a random walk to replay, in tiles of four hours.
        compared: bars that are replayed step by step too.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.parquet"
        # Some more: the embargo and the first window are taken from what is tested.
        total = bars + 2 * _BEFORE + 1_000
        random_walk(total).to_parquet(path)
        rows = []
        for network in networks:
            words = [f"model={network}", "env=btcusd_1m_risk_based", "env.paths=1"]
            words += ["env.accounts=1", "env.workers=0", f"data.path={path}"]
            words += [f"data.{split}_frac={_BEFORE / total}" for split in ("train", "val")]
            words += ["train.minibatch=32"]
            cfg = compose_config("ppo_transformer", words)
            rows.append({"network": network, **_time_replay(cfg, bars, compared, Path(folder))})
    return rows


def _time_replay(cfg: RunConfig, bars: int, compared: int, folder: Path) -> dict[str, Any]:
    table = build_table(cfg.data, window=cfg.env.window, episode_bars=cfg.env.episode_bars)
    device = pick_device("auto")
    model = _opinionated(make_model(cfg.model, cfg.env, table)).to(device)
    policy, logits = RolloutPolicy(model), RolloutPolicy(model, with_logits=True)
    bounds = split_tiles(table, cfg.env, "test", bars // cfg.env.episode_bars)
    begin = time.perf_counter()
    rollout = play_tiles(table, cfg.env, bounds, policy, device=device)
    played = time.perf_counter()
    trace = TraceWriter(
        folder / f"{cfg.model.encoder}.csv", table, evaluation_config(cfg.env, len(bounds)),
        run_id="benchmark", split="test",
    )  # fmt: skip
    with trace as writer:
        writer.write(rollout.batch, rollout.alive)
    written = time.perf_counter()
    alive = int(rollout.alive.sum())
    tile = (bounds[0, 0] + torch.arange(cfg.env.episode_bars))[None].to(device)
    flops = alive * count_operations(model, tile, 1, backward=False) / cfg.env.episode_bars
    peak = peak_flops(device, "float32", 5)
    part = bounds[: max(1, compared // cfg.env.episode_bars)]
    bulk, steps = (
        play_tiles(table, cfg.env, part, logits, device=device, bulk=bulk) for bulk in (True, False)
    )
    found = partings(bulk, steps)
    return {
        "bars": alive,
        "tiles": len(bounds),
        "play, s": played - begin,
        "write the trace, s": written - played,
        "bars/s": alive / (written - begin),
        "MFLOP a bar": flops / alive / 1e6,
        "share of the GEMM peak": flops / (played - begin) / peak,
        "GEMM peak, GFLOP/s": peak / 1e9,
        "entries": int(
            (rollout.batch["next", "fills"][..., FILLS.index("entry_units")].abs() > 0).sum()
        ),
        "bars compared": int(bulk.alive.sum()),
        "other actions": len(found),
        "largest margin of one": max((parting.margin for parting in found), default=0.0),
    }


def _opinionated(model: ActorValueOperator) -> ActorValueOperator:
    with torch.no_grad():
        model.get_policy_head()[0].module.linear.weight.mul_(_GAIN)
    return model
