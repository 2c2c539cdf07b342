"""The market under stable-baselines3."""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env

from envs.gym_market import MarketGymEnv, MarketVectorEnv
from pipelines.benchmarks.gym_ids import known_market
from pipelines.benchmarks.sb3_env import MarketVecEnv

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def market():
    return known_market("drift")


def test_a_single_environment_passes_its_checks(market):
    check_env(MarketGymEnv(*market), warn=False)


def test_its_own_vectors_are_made_of_an_id():
    """It asks every environment for pictures, and goes on without them if there are none."""
    lanes = make_vec_env("pricetaker/Drift-v0", n_envs=2, seed=0)
    PPO("MultiInputPolicy", lanes, n_steps=8, batch_size=8, n_epochs=1).learn(16)


def test_ends_are_told_as_it_expects_them(market):
    env = MarketVecEnv(MarketVectorEnv(*market, num_envs=3))
    env.seed(4)
    first = env.reset()
    env.seed(4)
    assert np.array_equal(env.reset()["window"], first["window"])
    for _ in range(256):
        observation, _, done, infos = env.step(np.array([[2, 0, 0, 0]] * 3))
    assert done.all()
    assert all(info["TimeLimit.truncated"] for info in infos)
    assert all(info["episode"]["l"] == 256 for info in infos)
    assert not np.array_equal(infos[0]["terminal_observation"]["window"], observation["window"][0])


def test_ppo_trains_on_it(market):
    env = MarketVecEnv(MarketVectorEnv(*market, num_envs=4))
    model = PPO("MultiInputPolicy", env, n_steps=32, batch_size=64, n_epochs=1, seed=0)
    model.learn(256)
    assert model.num_timesteps == 256
