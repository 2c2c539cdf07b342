"""``suite=recorder``: what the trace costs, against the training that it records."""

import statistics
import time
from pathlib import Path
from typing import Any

from torchrl.collectors import Collector

from envs.config import EnvConfig
from envs.factory import make_env
from envs.table import BarTable
from envs.trace import TraceWriter
from modules.config import ModelConfig
from modules.policy import make_collection_policy
from pipelines.benchmarks.benchmark_env import EPISODE_BARS
from pipelines.learner import Learner
from pipelines.loss import LossConfig
from pipelines.model import make_model
from pipelines.train_config import TrainConfig


def time_recorder(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """The default run's training at 256 lanes, with and without the trace, in turns."""
    env_cfg = EnvConfig(paths=8, accounts=32, workers=0, episode_bars=EPISODE_BARS)
    train = TrainConfig(steps=16, epochs=1, minibatch=1024)
    table = BarTable.load(folder)
    model = make_model(ModelConfig(), env_cfg, table)
    frames = env_cfg.lanes * train.steps
    collector = Collector(
        make_env(folder, env_cfg),
        make_collection_policy(model),
        frames_per_batch=frames,
        total_frames=-1,
        track_traj_ids=False,
        auto_register_policy_transforms=False,
    )
    learner = Learner(
        model,
        train,
        LossConfig(),
        lanes=env_cfg.lanes,
        accounts=env_cfg.accounts,
        iterations=repeats,
    )
    writer = TraceWriter(folder / "trace.csv", table, env_cfg, run_id="benchmark", split="train")
    training, recording = [], []
    rollouts = iter(collector)
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        rollout = next(rollouts)
        learner.update(rollout)
        trained = time.perf_counter()
        writer.write(rollout)
        writer.flush()
        training.append(trained - begin)
        recording.append(time.perf_counter() - trained)
    writer.close()
    collector.shutdown()
    seconds, extra = statistics.median(training[1:]), statistics.median(recording[1:])
    return [
        {
            "lanes": env_cfg.lanes,
            "epochs": train.epochs,
            "rows": frames,
            "training s": seconds,
            "recording s": extra,
            "recording / training": extra / seconds,
            "rows/s": frames / extra,
        }
    ]
