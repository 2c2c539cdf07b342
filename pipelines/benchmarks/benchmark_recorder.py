"""``suite=recorder``: what the trace costs, against the training that it records."""

import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.factory import make_env
from envs.trace import TraceWriter
from pipelines.benchmarks.benchmark_env import EPISODE_BARS
from pipelines.config import RunConfig, compose_config
from pipelines.model import make_model
from pipelines.train_config import TrainConfig
from pipelines.training import Training

NETWORKS = ("mission", "streaming", "mlp")


def time_recorder(folder: Path, repeats: int, epochs: int) -> list[dict[str, Any]]:
    """A training at 256 lanes as the program does it, then its trace, in turns, by network."""
    return [_time_network(folder, name, repeats, epochs) for name in NETWORKS]


def _time_network(folder: Path, name: str, repeats: int, epochs: int) -> dict[str, Any]:
    table = BarTable.load(folder)
    env = EnvConfig(paths=8, accounts=32, workers=0, episode_bars=EPISODE_BARS)
    train = TrainConfig(steps=16, epochs=epochs, minibatch=1024)
    frames = env.lanes * train.steps
    model = compose_config("ppo_transformer", [f"model={name}"]).model
    cfg = RunConfig(total_frames=(repeats + 1) * frames, env=env, model=model, train=train)
    market = make_env(table, env)
    run = Training(cfg, table, market, make_model(model, env, table))
    path = folder / f"trace_{name}.csv"
    training, recording = [], []
    with closing(TraceWriter(path, table, env, run_id="benchmark", split="train")) as writer:
        began = time.perf_counter()
        for iteration in run:
            trained = time.perf_counter()
            writer.write(iteration.rollout)
            writer.flush()
            training.append(trained - began)
            began = time.perf_counter()
            recording.append(began - trained)
    run.close()
    seconds, extra = statistics.median(training[1:]), statistics.median(recording[1:])
    return {
        "network": name,
        "lanes": env.lanes,
        "epochs": train.epochs,
        "rows": frames,
        "training s": seconds,
        "recording s": extra,
        "recording / training": extra / seconds,
        "rows/s": frames / extra,
    }
