"""``suite=env``: what the environment does in a second, in this process and in workers.

Beside every market in this process stands the floor: an environment that computes nothing, with
the same specs under the same transforms and episodes as long. What it takes is torchrl's own.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.envs import EnvBase, TransformedEnv
from tqdm import tqdm

from envs.config import EnvConfig
from envs.factory import make_env, training_transforms

EPISODE_BARS = 96
GRIDS = ((4, 4), (16, 16), (64, 64))
# Workers, and whether the market is compiled.
KINDS = ((0, False), (0, True), (1, False), (2, False))
_SPECS = ("state_spec", "observation_spec", "full_action_spec", "full_reward_spec")


class EmptyEnv(EnvBase):
    """An environment with the specs of another one, in which nothing happens but that it ends.

    Args:
        like: the other one.
        episode_bars: steps of an episode.
    """

    def __init__(self, like: EnvBase, episode_bars: int) -> None:
        super().__init__(device=like.device, batch_size=like.batch_size)
        for name in (*_SPECS, "full_done_spec"):
            setattr(self, name, getattr(like, name).clone())
        self._seen = dict(self.observation_spec.zero().items())
        self._seen_later = self._seen | dict(self.full_reward_spec.zero().items())
        self._goes_on = dict(self.full_done_spec.zero().items())
        over = {key: torch.ones_like(self._goes_on[key]) for key in ("done", "truncated")}
        self._is_over = self._goes_on | over
        self._left = self._episode_bars = episode_bars

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDictBase:
        self._left = self._episode_bars
        return TensorDict(dict(self._seen), self.batch_size, device=self.device)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self._left -= 1
        ends = self._goes_on if self._left else self._is_over
        return TensorDict(self._seen_later | ends, self.batch_size, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        """Nothing is drawn."""


def time_environments(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Steps a second of random actions through every transform, for lanes and workers.

    The actions are drawn beforehand: their drawing is not counted.
    """
    cells = [(paths, accounts, kind) for paths, accounts in GRIDS for kind in KINDS]
    shown = tqdm(cells, unit="cell", disable=None)
    return [_time_market(folder, *cell, repeats) for cell in shown]


def _time_market(
    folder: Path, paths: int, accounts: int, kind: tuple[int, bool], repeats: int
) -> dict[str, Any]:
    """One row: the market, and in turn with it the floor if both are in this process."""
    workers, compiled = kind
    cfg = EnvConfig(
        paths=paths,
        accounts=accounts,
        workers=workers,
        episode_bars=EPISODE_BARS,
        compile=compiled,
    )
    with _closing(make_env(folder, cfg)) as env:
        timed = [env]
        if not workers:
            empty = EmptyEnv(env.base_env, cfg.episode_bars)
            timed.append(TransformedEnv(empty, training_transforms(cfg)))
        seconds, *floor = _seconds_a_step(timed, repeats)
    return {
        "lanes": cfg.lanes,
        "paths x accounts": f"{paths} x {accounts}",
        "workers": workers,
        "compiled": compiled,
        "ms a step": 1e3 * seconds,
        "steps/s": cfg.lanes / seconds,
        "times the floor": seconds / floor[0] if floor else "",
    }


def _seconds_a_step(envs: list[TransformedEnv], repeats: int) -> list[float]:
    """Median over `repeats`, by environment, of the time of a step with automatic resets.

    A repetition has as many steps as an episode, so that in each of them all episodes end once.

    The environments take turns, so that whatever else the machine does slows all of them.
    """
    actions = [envs[0].rand_action()["action"] for _ in range(EPISODE_BARS)]
    states = [env.reset() for env in envs]
    times: list[list[float]] = [[] for _ in envs]
    for _ in range(repeats + 2):  # the first two warm up
        for number, env in enumerate(envs):
            state = states[number]
            begin = time.perf_counter()
            for action in actions:
                _, state = env.step_and_maybe_reset(state.set("action", action))
            times[number].append((time.perf_counter() - begin) / EPISODE_BARS)
            states[number] = state
    return [statistics.median(measured[2:]) for measured in times]


@contextmanager
def _closing(env: TransformedEnv) -> Iterator[TransformedEnv]:
    try:
        yield env
    finally:
        env.close()
