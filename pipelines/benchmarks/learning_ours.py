"""A training run of ours on a known market, judged as it goes."""

import torch

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.factory import make_env
from pipelines.benchmarks.learning_learners import LearnerSpec
from pipelines.benchmarks.learning_score import Curve, Judge
from pipelines.config import RunConfig
from pipelines.model import make_model
from pipelines.rollout_policy import RolloutPolicy
from pipelines.training import Training


def train_ours(
    spec: LearnerSpec, table: BarTable, cfg: EnvConfig, judge: Judge, *, frames: int, every: int,
    seed: int,
) -> Curve:  # fmt: skip
    """Train for `frames` and evaluate the deterministic policy about every `every` frames."""
    run = RunConfig(
        seed=seed,
        total_frames=frames,
        env=cfg,
        model=spec.network,
        train=spec.train,
        loss=spec.loss,
    )
    torch.manual_seed(seed)
    market = make_env(table, cfg, record_fills=False, seed=seed)
    model = make_model(run.model, cfg, table)
    training = Training(run, table, market, model)
    policy, curve = RolloutPolicy(model), Curve(judge.optimum, judge.promised)
    seconds, due = 0.0, every
    for iteration in training:
        speeds = (float(iteration.stats[f"time/sps_{part}"]) for part in ("collect", "train"))
        seconds += sum(training.frames_per_batch / speed for speed in speeds)
        if iteration.frames >= due:
            curve.add(iteration.frames, seconds, judge.growth(policy))
            due += every
    training.close()
    return curve
