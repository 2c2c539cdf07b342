"""``suite=env``: what the environment does in a second, in this process and in workers."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torchrl.envs import TransformedEnv

from envs.config import EnvConfig
from envs.factory import make_env

EPISODE_BARS = 96
GRIDS = ((4, 4), (16, 16), (64, 64))
WORKERS = (0, 1, 2)


def time_environments(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Steps a second of random actions through every transform, for lanes and workers."""
    rows = []
    for paths, accounts in GRIDS:
        for workers in WORKERS:
            cfg = EnvConfig(
                paths=paths, accounts=accounts, workers=workers, episode_bars=EPISODE_BARS
            )
            with _closing(make_env(folder, cfg)) as env:
                seconds = _seconds_a_step(env, repeats)
            rows.append(
                {
                    "lanes": cfg.lanes,
                    "paths x accounts": f"{paths} x {accounts}",
                    "workers": workers,
                    "ms a step": 1e3 * seconds,
                    "steps/s": cfg.lanes / seconds,
                }
            )
    return rows


def _seconds_a_step(env: TransformedEnv, repeats: int, steps: int = 50) -> float:
    """Median over `repeats` of the time of a step with automatic resets."""
    state = env.reset()

    def play() -> None:
        nonlocal state
        for _ in range(steps):
            _, state = env.step_and_maybe_reset(env.rand_action(state))

    return _median_seconds(play, repeats) / steps


def _median_seconds(work: Callable[[], None], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


@contextmanager
def _closing(env: TransformedEnv) -> Iterator[TransformedEnv]:
    try:
        yield env
    finally:
        env.close()
