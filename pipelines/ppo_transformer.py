"""Train a transformer trading policy with PPO on bars: ``python pipelines/ppo_transformer.py``.

Any key of the configuration can follow on the command line, ``--help`` lists them:
``env.paths=64 model.d_model=320 total_frames=1000000 seed=404 tag=NAME``.
"""

import logging
import sys
from contextlib import ExitStack, closing

import torch

from envs.factory import make_env
from envs.rules import check_tick
from envs.table import build_table
from envs.trace import TraceWriter
from pipelines.checkpoint import save_checkpoint
from pipelines.config import RunConfig, load_config
from pipelines.device import pick_device
from pipelines.model import make_model
from pipelines.refusal import plain_refusals
from pipelines.replay import replay
from pipelines.run_folder import RunFolder
from pipelines.source import ROOT, git_revision
from pipelines.tracking import Tracker, rollout_metrics
from pipelines.training import Training


def main(cfg: RunConfig) -> RunFolder:
    """Bars, environment, policy, collector, learner, logs; then the replay on held-out bars."""
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    torch.manual_seed(cfg.seed)
    with plain_refusals():
        device = pick_device(cfg.device)
        table = build_table(cfg.data, window=cfg.env.window, episode_bars=cfg.env.episode_bars)
        check_tick(table, cfg.env)
        run = RunFolder.create(cfg.run.root, cfg.run.dir, cfg.tag)
    print(f"code: {ROOT}, commit {git_revision()}", f"run folder: {run.path}", sep="\n")
    print(*table.summary_lines(), sep="\n")
    table.save(run.bars)

    env = make_env(
        run.bars,
        cfg.env,
        record_fills=cfg.recorder.enabled,
        device="cpu" if cfg.env.workers else device,
        seed=cfg.seed,
    )
    model = make_model(cfg.model, cfg.env, table).to(device)
    training = Training(cfg, table, env, model)

    with ExitStack() as stack:
        stack.callback(training.close)
        tracker = stack.enter_context(Tracker(run, cfg, total_frames=training.total_frames))
        trace = None
        if cfg.recorder.enabled:
            path = run.trace("train", cfg.recorder.format)
            lanes = cfg.recorder.kept_lanes(cfg.env.lanes)
            trace = TraceWriter(path, table, cfg.env, run_id=run.name, split="train", lanes=lanes)
            stack.enter_context(closing(trace))

        for iteration in training:
            if trace is not None:
                trace.write(iteration.rollout)
            tracker.log({**rollout_metrics(iteration.rollout), **iteration.stats}, iteration.frames)

        optimizer = training.learner.optimizer
        save_checkpoint(run.checkpoint, model=model, optimizer=optimizer, cfg=cfg, table=table)
        if cfg.replay.enabled:
            replay(run.path, split=cfg.replay.split, episodes=cfg.replay.episodes, device=device)
    return run


if __name__ == "__main__":
    main(load_config("ppo_transformer", sys.argv[1:]))
