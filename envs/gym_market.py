"""The market for learners that speak Gymnasium: one lane, or all lanes of a grid as a vector.

Importing this module registers ``pricetaker/Market-v0``; Gymnasium imports it itself for
``gymnasium.make("envs.gym_market:pricetaker/Market-v0")`` and for ``make_vec``.
"""

import dataclasses
import time
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from tensordict import TensorDict, TensorDictBase
from torchrl.envs import TransformedEnv

from envs.bar_table import BarTable
from envs.checks import require
from envs.config import EnvConfig
from envs.data_config import DataConfig
from envs.factory import account_norm
from envs.ledger import FILLS, HEADS
from envs.market import MarketEnv
from envs.observation import NUM_ACCOUNT
from envs.table import build_table

FEATURE_CLIP = 10.0  # standard deviations, as a network cuts its window
ACCOUNT_BOUND = 1e6  # columns are of order one; a ruinous gap may put a distance far out
_STATISTICS = ("r", "l", "trades", "fees", "max_drawdown")
Observation = dict[str, np.ndarray]


class MarketVectorEnv(VectorEnv):
    """Every lane of a `MarketEnv` as one environment of a Gymnasium vector.

    ### Observation Space
    ``Dict``: ``window`` float32 [window, features], the last closed bars, normalised by the train
    split and cut off at ±10 standard deviations; ``account`` float32 [8], see
    `envs.observation.account_observation`, scaled to order one.

    ### Action Space
    ``MultiDiscrete``: direction, size, stop_loss, take_profit, as `MarketEnv` reads them.

    ### Rewards, Episode End
    Those of `MarketEnv`: the scaled change of log equity; ruin terminates, the path's last bar
    truncates.

    A lane that ends starts anew within the same step (``AutoresetMode.SAME_STEP``), as the market
    itself does it: no step is lost on a reset, and lanes stay in lockstep. What the ended episode
    last saw is in ``info["final_obs"]``, and its statistics in ``info["final_info"]["episode"]``:
    return ``r``, length ``l``, seconds ``t`` since the environment was made, final ``equity``,
    ``trades``, ``fees``, ``max_drawdown``. A ruined account starts anew on its path's clock.

    Args:
        table: the bars; None: the embedded ones.
        cfg: the parameters; None: the defaults, one account a path. `workers` is not read.
        split: bars that episodes may visit.
        num_envs: lanes, a multiple of the accounts on a path, instead of those of `cfg`.
        render_mode: None; there is nothing to draw.

    Raises:
        ValueError: as `MarketEnv`; in `step`, for actions that are not whole numbers, or not of
            every lane and head; in `reset`, for some of the lanes alone.
        TypeError: for a `render_mode`.
        IndexError: in `step`, for an action outside its range, naming the head.
        ResetNeeded: in `step`, before the first `reset`.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - declared so by the base class
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }
    # Gymnasium's own vectors have it beside the metadata; TorchRL's `GymWrapper` reads it there.
    autoreset_mode = AutoresetMode.SAME_STEP

    def __init__(
        self,
        table: BarTable | None = None,
        cfg: EnvConfig | None = None,
        *,
        split: str = "train",
        num_envs: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None:
            # As of an argument that is none: stable-baselines3's `make_vec_env` asks for pictures
            # at first, and does without after this error alone.
            raise TypeError(f"render_mode={render_mode!r} is not allowed: there is nothing to draw")
        cfg = _changed(cfg, EnvConfig(accounts=1), workers=0)
        if num_envs is not None:
            fits = num_envs % cfg.accounts == 0
            require(fits, "num_envs", num_envs, f"a multiple of env.accounts={cfg.accounts}")
            cfg = dataclasses.replace(cfg, paths=num_envs // cfg.accounts)
        if table is None:
            table = build_table(DataConfig(), window=cfg.window, episode_bars=cfg.episode_bars)
        require(isinstance(table, BarTable), "table", table, "a BarTable, as build_table makes it")
        self.cfg = cfg
        self.env = TransformedEnv(MarketEnv(table, cfg, split=split), account_norm(cfg))
        self.windows = normalised_windows(table, cfg.window)
        self.num_envs = cfg.lanes
        shape = (cfg.window, table.features.shape[1])
        self.single_observation_space = spaces.Dict(
            {
                "window": spaces.Box(-FEATURE_CLIP, FEATURE_CLIP, shape, np.float32),
                "account": spaces.Box(-ACCOUNT_BOUND, ACCOUNT_BOUND, (NUM_ACCOUNT,), np.float32),
            }
        )
        self.single_action_space = spaces.MultiDiscrete([cfg.num_actions[head] for head in HEADS])
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.render_mode = None
        self._began = time.perf_counter()
        self._statistics = np.zeros((len(_STATISTICS), self.num_envs))
        self._state: TensorDictBase | None = None
        self._is_seeded = False

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start every lane anew.

        Args:
            seed: of the starts of all lanes; of a list the first counts. None: the starts go on,
                and begin anywhere if there never was a seed.
            options: not read, but a ``reset_mask`` is refused: lanes begin anew by themselves.
        """
        fits = "reset_mask" not in (options or {})
        require(fits, "options", options, "no reset_mask: a lane begins anew when it ends")
        if isinstance(seed, list):
            seed = seed[0]
        super().reset(seed=seed)
        if seed is None and not self._is_seeded:
            # Lanes that are made one by one would all see the bars of the market's own first seed.
            seed = int(self.np_random.integers(2**31))
        if seed is not None:
            self.env.set_seed(seed)
            self._is_seeded = True
        self._state = self.env.reset()
        self._statistics[:] = 0.0
        return self._observe(self._state), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One bar for every lane; actions are int [num_envs, 4]."""
        if self._state is None:
            raise ResetNeeded("reset() begins the episodes, and has to come before step()")
        grid = self.env.batch_size
        heads = torch.from_numpy(self._whole(actions)).view(*grid, len(HEADS))
        self._state["action"] = TensorDict(
            {head: heads[..., i].contiguous() for i, head in enumerate(HEADS)}, grid
        )
        played, self._state = self.env.step_and_maybe_reset(self._state)
        after = played["next"]
        reward, terminated, truncated = (
            after[key].reshape(-1).numpy() for key in ("reward", "terminated", "truncated")
        )
        fills = dict(zip(FILLS, after["fills"].flatten(0, 1).unbind(-1), strict=True))
        self._count(reward, fills)
        done = terminated | truncated
        info = self._final(after, fills, done) if done.any() else {}
        return self._observe(self._state), reward.copy(), terminated.copy(), truncated.copy(), info

    def close_extras(self, **kwargs: Any) -> None:
        """Close the market."""
        if not self.env.is_closed:
            self.env.close()

    def _observe(self, state: TensorDictBase) -> Observation:
        bar = state["bar"].reshape(-1)
        window = self.windows[bar - self.cfg.window + 1]
        account = state["account"].flatten(0, 1).numpy().copy()
        return {"window": window.contiguous().numpy(), "account": account}

    def _whole(self, actions: np.ndarray) -> np.ndarray:
        """Actions as int64; what is no index would be cut to one that nobody chose."""
        given, shape = np.asarray(actions), (self.num_envs, len(HEADS))
        fits = np.issubdtype(given.dtype, np.integer) and given.shape == shape
        told = f"{given.dtype} {list(given.shape)}"
        require(fits, "actions", told, f"whole numbers {list(shape)}: an index for every head")
        return given.astype(np.int64)

    def _count(self, reward: np.ndarray, fills: dict[str, torch.Tensor]) -> None:
        entered = torch.nan_to_num(fills["entry_units"]) != 0
        sums = (reward, np.ones_like(reward), entered.numpy(), fills["fee"].numpy())
        self._statistics[:4] += np.stack(sums)
        np.maximum(self._statistics[4], fills["drawdown"].numpy(), out=self._statistics[4])

    def _final(
        self, after: TensorDictBase, fills: dict[str, torch.Tensor], done: np.ndarray
    ) -> dict[str, Any]:
        """What Gymnasium's wrappers look for in the info of lanes that ended; clears their sums."""
        episode: dict[str, np.ndarray] = dict(zip(_STATISTICS, self._statistics, strict=True))
        episode["l"], episode["trades"] = (episode[key].astype(np.int64) for key in ("l", "trades"))
        episode["equity"] = fills["equity"].numpy().copy()
        episode["t"] = np.full(self.num_envs, time.perf_counter() - self._began)
        episode = {key: np.where(done, value, 0) for key, value in episode.items()}
        self._statistics[:, done] = 0.0
        seen = self._observe(after)
        final = np.full(self.num_envs, None, dtype=object)
        for lane in np.flatnonzero(done):
            final[lane] = {key: value[lane] for key, value in seen.items()}
        masked = {f"_{key}": done.copy() for key in episode}
        statistics = {"episode": {**episode, **masked}, "_episode": done.copy()}
        return {
            "final_obs": final,
            "_final_obs": done.copy(),
            "final_info": statistics,
            "_final_info": done.copy(),
        }


class MarketGymEnv(gymnasium.Env):
    """One lane of the market; spaces, rewards and ends are those of `MarketVectorEnv`.

    The info of an episode's last step holds its statistics in ``info["final_info"]["episode"]``,
    as that of the vector does: Gymnasium's `RecordEpisodeStatistics` writes ``info["episode"]``.

    Args:
        table: the bars; None: the embedded ones.
        cfg: the parameters; `paths`, `accounts` and `workers` are not read.
        split: bars that episodes may visit.
        render_mode: None; there is nothing to draw.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - as the base class has it

    def __init__(
        self,
        table: BarTable | None = None,
        cfg: EnvConfig | None = None,
        *,
        split: str = "train",
        render_mode: str | None = None,
    ) -> None:
        cfg = _changed(cfg, EnvConfig(), paths=1, accounts=1, workers=0)
        self.lanes = MarketVectorEnv(table, cfg, split=split, render_mode=render_mode)
        self.observation_space = self.lanes.single_observation_space
        self.action_space = self.lanes.single_action_space
        self.render_mode = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start at another bar."""
        super().reset(seed=seed)
        observation, info = self.lanes.reset(seed=seed, options=options)
        return {key: value[0] for key, value in observation.items()}, info

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One bar; the action is int [4]."""
        observation, reward, terminated, truncated, info = self.lanes.step(np.asarray(action)[None])
        done = bool(terminated[0] or truncated[0])
        seen = info["final_obs"][0] if done else {k: v[0] for k, v in observation.items()}
        told = {}
        if done:
            episode = info["final_info"]["episode"]
            own = {k: v[0].item() for k, v in episode.items() if k[0] != "_"}
            told = {"final_info": {"episode": own}}
        return seen, float(reward[0]), bool(terminated[0]), bool(truncated[0]), told

    def close(self) -> None:
        """Close the market."""
        self.lanes.close()


def _changed(cfg: EnvConfig | None, default: EnvConfig, **changes: Any) -> EnvConfig:
    fits = cfg is None or isinstance(cfg, EnvConfig)
    require(fits, "cfg", type(cfg).__name__, "an EnvConfig; a run's configuration has it as env")
    return dataclasses.replace(cfg or default, **changes)


def normalised_windows(table: BarTable, window: int) -> torch.Tensor:
    """Every window of a table, as an environment shows it: a view, the features are stored once.

    Returns:
        float32 [bars - window + 1, window, features]; row i ends with bar i + window - 1.
    """
    normalised = ((table.features - table.loc) / table.scale).clamp(-FEATURE_CLIP, FEATURE_CLIP)
    return normalised.unfold(0, window, 1).transpose(1, 2)


gymnasium.register(
    "pricetaker/Market-v0",
    entry_point="envs.gym_market:MarketGymEnv",
    vector_entry_point="envs.gym_market:MarketVectorEnv",
)
