"""``suite=learning``: who learns known markets, how far, and in how many frames."""

import dataclasses
import functools
import importlib.util
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from envs.known_answer import known_answer
from envs.known_config import MARKETS
from envs.table import build_table
from pipelines.benchmarks.benchmark_config import BenchmarkConfig
from pipelines.benchmarks.learning_learners import LEARNERS, NETWORK
from pipelines.benchmarks.learning_ours import train_ours
from pipelines.benchmarks.learning_score import LEVELS, Curve, Judge
from pipelines.benchmarks.worker_pool import worker_pool
from pipelines.config import compose_config
from pipelines.judging.interquartile import interquartile_mean, interval

FAIR = ("martingale", "heavy_tails")
QUICK_FRAMES = 32_768
QUICK_MARKETS = ("planted", "drift")


class Job(NamedTuple):
    """One training run."""

    market: str
    learner: str
    seed: int
    frames: int
    evaluations: int = 24


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    job: Job
    curve: Curve
    seconds: float


def plan(cfg: BenchmarkConfig) -> list[Job]:
    """The runs that a configuration asks for; a quick look takes one seed of few markets."""
    if cfg.quick:
        everything = set(cfg.markets) == set(MARKETS)
        return [
            Job(market, learner, 0, QUICK_FRAMES, cfg.evaluations)
            for market in (QUICK_MARKETS if everything else cfg.markets)
            for learner in cfg.learners
        ]
    return [
        Job(market, learner, seed, cfg.frames, cfg.evaluations)
        for market in cfg.markets
        for learner in cfg.learners
        for seed in range(cfg.seeds)
    ]


def require_packages(learners: Sequence[str]) -> None:
    """Refuse a learner whose package is missing, before the runs of the others.

    Raises:
        ValueError: saying how to install it.
    """
    if importlib.util.find_spec("stable_baselines3") is not None:
        return
    for name in learners:
        if LEARNERS[name].library == "sb3":
            ours = [name for name in learners if LEARNERS[name].library == "ours"] or ["plain"]
            raise ValueError(
                f"learners: {name!r} needs a package, pip install stable-baselines3; or leave it "
                f"out: learners=[{','.join(ours)}]"
            )


def run_jobs(jobs: list[Job], workers: int) -> Iterator[Outcome]:
    """Every job in a process of its own kind: one thread each, so that they do not disturb."""
    with worker_pool(workers, functools.partial(torch.set_num_threads, 1)) as pool:
        yield from tqdm(pool.imap(run_job, jobs), total=len(jobs), unit="run")


def run_job(job: Job) -> Outcome:
    """Draw the market, solve it, train on it."""
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    began = time.perf_counter()
    spec = LEARNERS[job.learner]
    words = [f"data=synthetic/{job.market}", f"data.synthetic.seed={1000 + job.seed}"]
    words += ["data.train_frac=0.6", "data.val_frac=0.05", "train.minibatch=64"]
    run = compose_config("ppo_transformer", words)
    cfg = dataclasses.replace(run.env, paths=spec.lanes // spec.accounts, accounts=spec.accounts)
    table = build_table(run.data, window=cfg.window, episode_bars=cfg.episode_bars)
    judge = Judge(table, cfg, known_answer(run.data.synthetic, cfg, table))
    every = job.frames // job.evaluations
    curve = _train(spec.library)(
        spec, table, cfg, judge, frames=job.frames, every=every, seed=job.seed
    )
    return Outcome(job, curve, time.perf_counter() - began)


def _train(library: str) -> Any:
    if library == "sb3":
        from pipelines.benchmarks.learning_sb3 import train_sb3

        return train_sb3
    return train_ours


def summarise(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """A row for each market and learner."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.job.market, outcome.job.learner), []).append(outcome)
    return [_row(*key, [o.curve for o in group]) for key, group in groups.items()]


def _row(market: str, learner: str, curves: list[Curve]) -> dict[str, Any]:
    row: dict[str, Any] = {"market": market, "learner": learner, "seeds": len(curves)}
    if market in FAIR:
        worst = max(curves, key=lambda curve: curve.z_score)
        return row | {
            "growth a tile, bps": 1e4 * interquartile_mean([c.final for c in curves]),
            "largest z": worst.z_score,
        }
    shares = [curve.final / curve.optimum for curve in curves]
    low, high = interval(shares)
    row |= {
        "final share": interquartile_mean(shares),
        "95 %": f"{low:.2f} to {high:.2f}",
        "worst": min(shares),
    }
    for level in LEVELS:
        reached = [curve.reached(level) for curve in curves]
        frames = [float("inf") if r is None else r[0] for r in reached]
        row[f"reached {level:.0%}"] = f"{sum(r is not None for r in reached)} of {len(reached)}"
        row[f"frames to {level:.0%}"] = interquartile_mean(frames)
    seconds = [float("inf") if (r := c.reached(0.9)) is None else r[1] for c in curves]
    return row | {"seconds to 90%": interquartile_mean(seconds)}


def as_values(outcomes: list[Outcome]) -> dict[str, Any]:
    """Everything that was measured, as plain values for JSON."""
    return {
        "network": dataclasses.asdict(NETWORK),
        "learners": {name: dataclasses.asdict(spec) for name, spec in LEARNERS.items()},
        "runs": [
            {**o.job._asdict(), **dataclasses.asdict(o.curve), "seconds_all": o.seconds}
            for o in outcomes
        ],
    }
