"""The market for stable-baselines3: all lanes in one process, without a copy of the simulator."""

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from envs.gym_market import MarketVectorEnv, Observation


class MarketVecEnv(VecEnv):
    """A `MarketVectorEnv` under stable-baselines3's interface, which differs from Gymnasium's.

    The info of a lane that ended has ``terminal_observation``, ``TimeLimit.truncated`` and
    ``episode``, as the Monitor wrapper writes it.

    Args:
        env: the market.
    """

    def __init__(self, env: MarketVectorEnv) -> None:
        self.env = env
        self.actions = np.zeros(0)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Observation:
        """Start every lane anew, with the seed that `seed` set last."""
        observation, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self.actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """One bar for every lane."""
        observation, reward, terminated, truncated, info = self.env.step(self.actions)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for lane in np.flatnonzero(done):
            episode = info["final_info"]["episode"]
            infos[lane] = {
                "terminal_observation": info["final_obs"][lane],
                "TimeLimit.truncated": bool(truncated[lane]),
                "episode": {k: v[lane].item() for k, v in episode.items() if k[0] != "_"},
            }
        return observation, reward, done, infos

    def close(self) -> None:
        """Close the market."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the market, for each lane asked for."""
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refused: lanes have no attributes of their own.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(f"{attr_name}: the lanes of a market have no attributes of their own")

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Refused: lanes have no methods of their own.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(f"{method_name}: the lanes of a market have no methods of their own")

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """Nothing is wrapped."""
        return [False] * len(list(self._get_indices(indices)))
