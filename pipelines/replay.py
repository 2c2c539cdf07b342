"""Replay a trained policy on held-out bars: ``python pipelines/replay.py run=runs/NAME``.

``data.path=FILE`` replays other bars than the run's own; ``split=`` and ``episodes=`` choose which.
Writes the trace of every action, the result beside its baselines, and a page to look at.
"""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from envs.config import EnvConfig
from envs.table import BarTable, build_table
from envs.trace import TraceWriter, read_trace
from pipelines.baselines import RANDOM_ACCOUNTS, buy_and_hold, measure_baselines
from pipelines.checkpoint import Checkpoint
from pipelines.checkpoint_store import load_best, load_newest
from pipelines.config import ReplayConfig, RunConfig, load_config
from pipelines.device import pick_device
from pipelines.metrics import in_order, measure
from pipelines.model import make_model
from pipelines.page import write_page
from pipelines.refusal import plain_refusals
from pipelines.result import POLICY, Replayed, Result, as_text
from pipelines.rollout import Policy, evaluation_config, play_tiles, split_tiles
from pipelines.rollout_policy import RolloutPolicy
from pipelines.run_folder import RunFolder


@dataclass(frozen=True)
class Inputs:
    """What is replayed where.

    Attributes:
        run: folder of the run.
        policy: the deterministic policy, on `device`.
        table: the bars.
        cfg: the simulator's parameters that the policy was trained under.
        split: the split of the table.
        bounds: int64 [tiles, 2], first and last bar of every tile.
        notes: sentences that the result must carry.
        device: where everything is computed.
        trained: configuration of the run.
        checkpoint: folder of the checkpoint.
    """

    run: RunFolder
    policy: Policy
    table: BarTable
    cfg: EnvConfig
    split: str
    bounds: Tensor
    notes: list[str]
    device: torch.device
    trained: RunConfig
    checkpoint: Path


def main(cfg: ReplayConfig) -> Result:
    """Load what the command line names, replay it, print the result."""
    with plain_refusals():
        inputs = load_inputs(
            cfg.run, data_path=cfg.data.path, split=cfg.split, episodes=cfg.episodes,
            device=cfg.device, checkpoint=cfg.checkpoint,
        )  # fmt: skip
        folder = Path(cfg.out) if cfg.out else inputs.run.path
        folder.mkdir(parents=True, exist_ok=True)
    return play(inputs, folder, seed=cfg.seed, bulk=cfg.bulk)


def replay(
    run_dir: str | Path,
    *,
    data_path: str | None = None,
    split: str = "test",
    episodes: int | None = None,
    device: torch.device | str = "auto",
    checkpoint: str = "last",
) -> Result:
    """Replay a run's policy into the run's own folder.

    Args:
        run_dir: folder of the run.
        data_path: a file of bars; None: the bars that the run was trained on.
        split: ``train``, ``val`` or ``test``.
        episodes: at most so many tiles; None: all.
        device: where to compute.
        checkpoint: ``last``, or ``best`` on the validation split.

    Raises:
        FileNotFoundError: if the run lacks its checkpoint or its bars.
        ValueError: if the checkpoint is damaged, or the bars do not fit the policy.
    """
    inputs = load_inputs(
        run_dir, data_path=data_path, split=split, episodes=episodes, device=device,
        checkpoint=checkpoint,
    )  # fmt: skip
    return play(inputs, inputs.run.path)


def load_inputs(
    run_dir: str | Path,
    *,
    data_path: str | None,
    split: str,
    episodes: int | None,
    device: torch.device | str,
    checkpoint: str = "last",
) -> Inputs:
    """Read policy and bars, and refuse them if they do not belong together; see `replay`."""
    run = RunFolder(Path(run_dir))
    loaded = {"last": load_newest, "best": load_best}[checkpoint](run.checkpoints)
    cfg = loaded.config.env
    if data_path is None:
        table = BarTable.load(run.bars)
    else:
        data = dataclasses.replace(loaded.config.data, path=data_path)
        table = build_table(data, window=cfg.window, episode_bars=cfg.episode_bars)
    require_fit(loaded, table)
    bounds = split_tiles(table, cfg, split, episodes)
    device = pick_device(str(device))
    return Inputs(
        run=run,
        policy=load_policy(loaded, table, device),
        table=table,
        cfg=cfg,
        split=split,
        bounds=bounds,
        notes=in_sample_notes(run, table, bounds),
        device=device,
        trained=loaded.config,
        checkpoint=loaded.folder,
    )


def require_fit(checkpoint: Checkpoint, table: BarTable) -> None:
    """Refuse bars whose features or length are not those that the policy was trained on.

    Raises:
        ValueError: naming what the policy knows and what the bars have.
    """
    checkpoint.require_features(table.meta.feature_names)
    known = checkpoint.manifest["data"]["interval_s"]
    if table.meta.interval_s != known:
        raise ValueError(
            f"{table.meta.source_name}: bars of {table.meta.interval_s:g} s; the policy was "
            f"trained on bars of {known:g} s"
        )


def load_policy(checkpoint: Checkpoint, table: BarTable, device: torch.device) -> Policy:
    """The checkpoint's policy, looking at `table` through the normaliser it was trained with."""
    cfg = checkpoint.config
    model = make_model(cfg.model, cfg.env, table)
    checkpoint.load_model_state(model)  # replaces the table's normaliser by the checkpoint's
    return RolloutPolicy(model.to(device).eval())


def in_sample_notes(run: RunFolder, table: BarTable, bounds: Tensor) -> list[str]:
    """Say so if replayed bars lie in the time that the policy was trained on, whatever the file."""
    try:
        trained = BarTable.load(run.bars)
    except FileNotFoundError:
        return ["Perhaps in-sample: the run's own bars are gone, so nobody can tell."]
    first, end = trained.meta.splits["train"]
    span = trained.timestamp[first], trained.timestamp[end - 1]
    bars = torch.cat([torch.arange(a + 1, b + 1) for a, b in bounds.tolist()])
    times = table.timestamp[bars]
    inside = int(((times >= span[0]) & (times <= span[1])).sum())
    if inside == 0:
        return []
    return [
        f"In-sample: the policy was trained on the time of {inside:,} of these {len(bars):,} bars."
    ]


def play(inputs: Inputs, folder: Path, *, seed: int = 0, bulk: bool = True) -> Result:
    """Play the policy and its baselines over the tiles; write and print what came of it.

    Writes ``replay_actions.csv`` and ``.json``, ``result.json`` and ``replay.html``.

    Args:
        inputs: what is replayed.
        folder: where the files go; it must exist.
        seed: of the random baseline.
        bulk: encode the windows of all steps before the first one.
    """
    table, cfg, bounds = inputs.table, inputs.cfg, inputs.bounds
    rollout = play_tiles(table, cfg, bounds, inputs.policy, bulk=bulk, device=inputs.device)
    trace = RunFolder(folder).trace("replay")
    played = evaluation_config(cfg, len(bounds))
    with TraceWriter(trace, table, played, run_id=inputs.run.name, split=inputs.split) as writer:
        writer.write(rollout.batch, rollout.alive)
    rows = in_order(read_trace(trace))
    hold = in_order(buy_and_hold(table, cfg, bounds))
    baselines, interval = measure_baselines(table, cfg, bounds, device=inputs.device, seed=seed)
    result = Result(
        replayed=Replayed.describe(
            hold, table.meta, run=inputs.run.name, split=inputs.split, tiles=len(bounds)
        ),
        metrics={POLICY: measure(rows, cfg), **baselines},
        random_interval=interval,
        random_accounts=RANDOM_ACCOUNTS,
        notes=inputs.notes,
    )
    result.save(folder / "result.json")
    write_page(folder / "replay.html", result, rows, hold, cfg)
    print(f"{as_text(result)}\n{folder / 'replay.html'}")
    return result


if __name__ == "__main__":
    main(load_config("replay", sys.argv[1:]))
