"""The state of a market in workers comes back, however long the workers take."""

import time
from functools import partial

import pytest
import torch
from torchrl.envs import Compose, ParallelEnv, TransformedEnv

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.env_state import get_env_state, set_env_state
from envs.market import MarketEnv

A_WORKERS = EnvConfig(workers=0, paths=1, accounts=2, window=8, episode_bars=20, tick_size=0.01)
STEP_S = 0.2


def slow_market(bars):
    """Makes a market whose steps are late, so that who does not wait for them is found out."""

    class SlowMarket(MarketEnv):
        def _step(self, tensordict):
            time.sleep(STEP_S)
            return super()._step(tensordict)

    # Defined in here: worker processes cannot import this file.
    return partial(lambda: SlowMarket(BarTable.load(bars), A_WORKERS))


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    bars = tmp_path_factory.mktemp("slow") / "bars"
    torch.manual_seed(0)
    close = 100.0 * (3e-3 * torch.randn(600, dtype=torch.float64)).cumsum(0).exp()
    rows = torch.stack([close, close * 1.001, close * 0.999, close, close], -1)
    BarTable.from_arrays(rows).save(bars)
    env = TransformedEnv(ParallelEnv(2, slow_market(bars)), Compose())
    env.set_seed(0)
    yield env
    env.close()


def test_the_step_after_a_restored_state_waits_for_its_workers(env):
    state = env.rand_action(env.reset())
    saved = get_env_state(env)
    expected, after = env.step_and_maybe_reset(state.clone())
    expected = expected.clone()
    env.step_and_maybe_reset(env.rand_action(after.clone()))
    set_env_state(env, saved)
    found, _ = env.step_and_maybe_reset(state.clone())
    for key, value in expected["next"].items():
        assert torch.equal(found["next", key].nan_to_num(), value.nan_to_num()), key


def test_the_state_of_another_number_of_workers_is_refused(env):
    saved = get_env_state(env)
    fewer = {name: value for name, value in saved.items() if name.startswith("worker0")}
    with pytest.raises(KeyError, match="the state of 1 workers does not fit 2"):
        set_env_state(env, fewer)
