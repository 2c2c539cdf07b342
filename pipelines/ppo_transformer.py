"""Train a transformer trading policy with PPO on bars: ``python pipelines/ppo_transformer.py``.

Any key of the configuration can follow on the command line, ``--help`` lists them:
``env.paths=64 model.d_model=320 total_frames=1e6 seed=404 tag=NAME``.
"""

import sys
import time

import torch
from tensordict import TensorDictBase
from torchrl.collectors import Collector

from envs.factory import make_env
from envs.observation import NUM_ACCOUNT
from envs.table import BarTable, build_table
from envs.trace import TraceWriter
from modules.policy import make_actor_value, make_collection_policy
from pipelines.checkpoint import save_checkpoint
from pipelines.config import RunConfig, load_config
from pipelines.device import pick_device
from pipelines.learner import Learner, check_minibatch
from pipelines.replay import replay
from pipelines.run_folder import RunFolder
from pipelines.tracking import Tracker


def main(cfg: RunConfig) -> RunFolder:
    """Bars, environment, policy, collector, advantages, loss, logs; then the held-out replay."""
    device = pick_device(cfg.device)
    torch.manual_seed(cfg.seed)
    check_minibatch(cfg.train, accounts=cfg.env.accounts, lanes=cfg.env.lanes)
    run = RunFolder.create(cfg.run, cfg.tag)

    table = build_table(cfg.data, window=cfg.env.window, episode_bars=cfg.env.episode_bars)
    table.save(run.table)
    env = make_env(
        run.table,
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

    frames = cfg.env.lanes * cfg.train.steps
    iterations = -(-cfg.total_frames // frames)
    collector = Collector(
        env,
        make_collection_policy(model),
        frames_per_batch=frames,
        total_frames=iterations * frames,
        env_device=env.device,
        policy_device=device,
        storing_device=device,
        track_traj_ids=False,
        auto_register_policy_transforms=False,
    )
    learner = Learner(
        model.get_policy_operator(),
        model.get_value_head(),
        model.get_value_operator(),
        cfg.train,
        accounts=cfg.env.accounts,
        num_items=frames // cfg.env.accounts,
        iterations=iterations,
        device=device,
    )
    tracker = Tracker(run, cfg, total_frames=iterations * frames)
    trace = TraceWriter.for_run(run, table, cfg) if cfg.recorder.enabled else None

    clock = time.perf_counter()
    for iteration, batch in enumerate(collector, start=1):
        collected = time.perf_counter()
        if trace is not None:
            trace.write(batch)
        stats = learner.update(batch)
        trained = time.perf_counter()
