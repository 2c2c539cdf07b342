"""Train a transformer trading policy with PPO on bars: ``python pipelines/ppo_transformer.py``.

Any key of the configuration can follow on the command line, ``--help`` lists them:
``env.paths=64 model.d_model=320 total_frames=1000000 seed=404 tag=NAME``.
"""

import logging
import sys
import time
from contextlib import ExitStack, closing

import torch
from torchrl.collectors import Collector

from envs.factory import make_env
from envs.observation import NUM_ACCOUNT
from envs.rules import check_tick
from envs.table import build_table
from envs.trace import TraceWriter
from modules.policy import make_actor_value, make_collection_policy
from pipelines.checkpoint import save_checkpoint
from pipelines.config import RunConfig, load_config
from pipelines.device import pick_device
from pipelines.learner import Learner
from pipelines.precision import MixedPrecision
from pipelines.refusal import plain_refusals
from pipelines.replay import replay
from pipelines.run_folder import RunFolder
from pipelines.source import ROOT, git_revision
from pipelines.tracking import Tracker, rollout_metrics


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
    model = make_actor_value(
        cfg.model,
        features=table.features,
        loc=table.loc,
        scale=table.scale,
        window=cfg.env.window,
        num_actions=cfg.env.num_actions,
        num_account=NUM_ACCOUNT,
    ).to(device)

    frames_per_batch = cfg.env.lanes * cfg.train.steps
    iterations = -(-cfg.total_frames // frames_per_batch)
    collector = Collector(
        env,
        MixedPrecision(make_collection_policy(model), cfg.train.precision, device),
        frames_per_batch=frames_per_batch,
        total_frames=-1,  # the loop below counts; at its end a collector would close its workers
        env_device=env.device,
        policy_device=device,
        storing_device=device,
        track_traj_ids=False,
        auto_register_policy_transforms=False,
    )
    learner = Learner(model, cfg.train, cfg.env.lanes, cfg.env.accounts, iterations, device)

    with ExitStack() as stack:
        stack.callback(collector.shutdown)
        tracker = stack.enter_context(Tracker(run, cfg, total_frames=iterations * frames_per_batch))
        trace = None
        if cfg.recorder.enabled:
            path = run.trace("train", cfg.recorder.format)
            lanes = cfg.recorder.kept_lanes(cfg.env.lanes)
            trace = TraceWriter(path, table, cfg.env, run_id=run.name, split="train", lanes=lanes)
            stack.enter_context(closing(trace))

        began = time.perf_counter()
        for iteration, rollout in zip(range(1, iterations + 1), collector, strict=False):
            collected = time.perf_counter()
            if trace is not None:
                trace.write(rollout)
            losses = learner.update(rollout)
            trained = time.perf_counter()
            speed = {
                "time/sps": frames_per_batch / (trained - began),
                "time/sps_collect": frames_per_batch / (collected - began),
                "time/sps_train": frames_per_batch / (trained - collected),
            }
            tracker.log(
                {**rollout_metrics(rollout), **losses, **speed}, iteration * frames_per_batch
            )
            began = trained

        optimizer = learner.optimizer
        save_checkpoint(run.checkpoint, model=model, optimizer=optimizer, cfg=cfg, table=table)
        if cfg.replay.enabled:
            replay(run.path, split=cfg.replay.split, episodes=cfg.replay.episodes, device=device)
    return run


if __name__ == "__main__":
    main(load_config("ppo_transformer", sys.argv[1:]))
