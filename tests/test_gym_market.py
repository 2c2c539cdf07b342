"""The market as Gymnasium environments, lane by lane the market itself."""

import dataclasses

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordEpisodeStatistics
from tensordict import TensorDict
from torchrl.envs import GymWrapper, TransformedEnv

import pipelines.benchmarks.gym_ids
from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.factory import account_norm
from envs.gym_market import MarketGymEnv, MarketVectorEnv
from envs.ledger import HEADS
from envs.market import MarketEnv
from modules.window import BarWindow

CFG = EnvConfig(
    paths=5, accounts=2, workers=0, window=8, episode_bars=20, tick_size=0.01, ruin_equity_frac=0.99
)


@pytest.fixture(scope="module")
def table():
    generator = torch.Generator().manual_seed(0)
    close = (
        100.0 * (3e-3 * torch.randn(500, generator=generator, dtype=torch.float64)).cumsum(0).exp()
    )
    open_ = torch.cat([close[:1], close[:-1]])
    high, low = torch.maximum(open_, close) * 1.001, torch.minimum(open_, close) * 0.999
    ohlcv = torch.stack([open_, high, low, close, close], -1)
    features = torch.randn(500, 3, generator=generator) * torch.tensor([1.0, 5.0, 100.0])
    features[50] = 1e6  # an outlier, to be cut
    return BarTable.from_arrays(ohlcv, features=features)


def actions_for(cfg, lanes, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers([cfg.num_actions[head] for head in HEADS], size=(300, lanes, 4))


def test_a_single_environment_passes_gymnasiums_checks(table):
    check_env(MarketGymEnv(table, CFG), skip_render_check=True)


def test_every_lane_is_the_markets(table):
    """Rewards, ends, accounts and windows bit for bit, through ruins and resets."""
    ours = MarketVectorEnv(table, CFG)
    market = TransformedEnv(MarketEnv(table, CFG), account_norm(CFG))
    gather = BarWindow(table.features, table.loc, table.scale, window=CFG.window, clip=10.0)
    observation, _ = ours.reset(seed=7)
    market.set_seed(7)
    state, ended = market.reset(), 0
    for action in actions_for(CFG, CFG.lanes):
        window = gather(state["bar"]).flatten(0, 1)
        assert np.array_equal(observation["window"], window.numpy())
        assert np.array_equal(observation["account"], state["account"].flatten(0, 1).numpy())
        grid = torch.from_numpy(action).view(CFG.paths, CFG.accounts, 4)
        heads = {head: grid[..., i] for i, head in enumerate(HEADS)}
        state["action"] = TensorDict(heads, market.batch_size)
        played, state = market.step_and_maybe_reset(state)
        observation, reward, terminated, truncated, info = ours.step(action)
        for key, value in (
            ("reward", reward),
            ("terminated", terminated),
            ("truncated", truncated),
        ):
            assert np.array_equal(value, played["next", key].reshape(-1).numpy())
        done = terminated | truncated
        ended += terminated.sum()
        assert ("final_obs" in info) == done.any()
        for lane in np.flatnonzero(done):
            last = played["next", "account"].flatten(0, 1)[lane].numpy()
            assert np.array_equal(info["final_obs"][lane]["account"], last)
    assert ended > 0


def test_the_statistics_of_an_episode_are_its_sums(table):
    env = MarketVectorEnv(table, dataclasses.replace(CFG, accounts=1))
    env.reset(seed=1)
    total, length, seen = np.zeros(env.num_envs), np.zeros(env.num_envs, int), 0
    for action in actions_for(CFG, env.num_envs):
        _, reward, terminated, truncated, info = env.step(action)
        total, length = total + reward, length + 1
        for lane in np.flatnonzero(terminated | truncated):
            episode = {k: v[lane] for k, v in info["final_info"]["episode"].items()}
            assert episode["r"] == pytest.approx(total[lane], abs=1e-4)
            assert episode["l"] == length[lane]
            grown = np.log(episode["equity"] / CFG.initial_cash)
            assert episode["r"] == pytest.approx(CFG.reward_scale * grown, abs=1e-3)
            assert 0 <= episode["max_drawdown"] < 1
            assert (episode["fees"] > 0) == (episode["trades"] > 0)
            total[lane], length[lane], seen = 0.0, 0, seen + 1
    assert seen > 20


def test_ruin_terminates_and_the_last_bar_truncates(table):
    env = MarketVectorEnv(table, CFG)
    env.reset(seed=0)
    ends = [env.step(action)[2:4] for action in actions_for(CFG, CFG.lanes)]
    terminated, truncated = (np.array(values) for values in zip(*ends, strict=True))
    assert terminated.any()
    assert truncated.any()
    assert not (terminated & truncated).any()


def test_a_seed_is_a_trajectory_and_lanes_see_other_bars(table):
    one, two = (MarketVectorEnv(table, CFG) for _ in range(2))
    first, _ = one.reset(seed=5)
    again, _ = two.reset(seed=5)
    assert np.array_equal(first["window"], again["window"])
    other, _ = two.reset(seed=6)
    assert not np.array_equal(first["window"], other["window"])
    paths = first["window"].reshape(CFG.paths, CFG.accounts, -1)
    assert np.array_equal(paths[:, 0], paths[:, 1])
    assert len(np.unique(paths[:, 0], axis=0)) > 1


def test_a_bad_action_names_its_head(table):
    env = MarketVectorEnv(table, CFG)
    env.reset(seed=0)
    action = np.zeros((CFG.lanes, 4), int)
    action[3, 2] = 99
    with pytest.raises(IndexError, match=r"action\.stop_loss .* 99"):
        env.step(action)


def test_spaces_fit_what_comes_out(table):
    env = MarketVectorEnv(table, CFG, num_envs=6)
    assert env.num_envs == 6
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert env.action_space.contains(env.action_space.sample())
    assert env.step(env.action_space.sample())[1].dtype == np.float32
    assert env.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.SAME_STEP
    with pytest.raises(TypeError, match="render_mode='human' is not allowed: there is nothing to"):
        MarketVectorEnv(table, CFG, render_mode="human")
    with pytest.raises(ValueError, match=r"table='bars\.parquet' is not allowed: a BarTable"):
        MarketVectorEnv("bars.parquet", CFG)
    for kind in (MarketGymEnv, MarketVectorEnv):
        with pytest.raises(ValueError, match="cfg='dict' is not allowed: an EnvConfig"):
            kind(table, {"window": 8})
    env.close()


def test_spaces_fit_under_another_default_type(table):
    torch.set_default_dtype(torch.float64)
    try:
        env = MarketVectorEnv(table, CFG)
        env.reset(seed=0)
        assert env.observation_space.contains(env.step(env.action_space.sample())[0])
    finally:
        torch.set_default_dtype(torch.float32)


def test_registered_ids_make_one_lane_or_many(table):
    single = gymnasium.make("pricetaker/Market-v0", table=table, cfg=CFG)
    assert single.reset(seed=0)[0]["window"].shape == (8, 3)
    many = gymnasium.make_vec("pricetaker/Market-v0", num_envs=4, table=table, cfg=CFG)
    assert many.reset(seed=0)[0]["account"].shape == (4, 8)


def test_every_known_market_has_an_id():
    known = pipelines.benchmarks.gym_ids.KNOWN_IDS
    assert set(known.values()) <= set(gymnasium.registry)
    env = gymnasium.make("pipelines.benchmarks.gym_ids:pricetaker/AR1-v0", disable_env_checker=True)
    assert env.action_space.nvec.tolist() == [3, 1, 1, 1]
    lanes = gymnasium.make_vec("pricetaker/Bracket-v0", num_envs=3)
    assert lanes.single_action_space.nvec.tolist() == [3, 2, 6, 5]


def test_the_spec_of_a_known_market_comes_back_from_json():
    made = gymnasium.make("pricetaker/AR1-v0", seed=1)
    again = gymnasium.make(EnvSpec.from_json(made.spec.to_json()))
    first, same = (env.reset(seed=0)[0]["window"] for env in (made, again))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, gymnasium.make("pricetaker/AR1-v0").reset(seed=0)[0]["window"])


def test_a_loop_in_the_manner_of_cleanrl_trains_a_policy(table):
    """Rollout, then one gradient step: nothing but Gymnasium's interface and arrays."""
    envs = MarketVectorEnv(table, CFG)
    observation, _ = envs.reset(seed=0)
    torch.manual_seed(0)
    widths = envs.single_action_space.nvec.tolist()
    policy = torch.nn.Linear(8, sum(widths))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    log_probs, rewards = [], []
    for _ in range(40):
        logits = policy(torch.from_numpy(observation["account"])).split(widths, -1)
        heads = [torch.distributions.Categorical(logits=part) for part in logits]
        action = torch.stack([head.sample() for head in heads], -1)
        log_probs.append(sum(h.log_prob(a) for h, a in zip(heads, action.unbind(-1), strict=True)))
        observation, reward, *_ = envs.step(action.numpy())
        rewards.append(torch.from_numpy(reward))
    loss = -(torch.stack(log_probs) * torch.stack(rewards)).mean()
    loss.backward()
    optimizer.step()
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: given + 0.9, r"actions='float64 \[10, 4\]' is not allowed"),
        (lambda given: given.astype(np.float32), "whole numbers"),
        (lambda given: given > 0, "actions='bool"),
        (lambda given: given.T, r"whole numbers \[10, 4\]"),
        (lambda given: given[:5], r"int64 \[5, 4\]"),
    ],
    ids=["fractions", "floats", "truths", "turned", "half"],
)
def test_actions_that_are_no_indices_of_all_lanes_are_refused(table, change, message):
    lanes = MarketVectorEnv(table, CFG)
    lanes.reset(seed=0)
    given = actions_for(CFG, CFG.lanes)[0]
    with pytest.raises(ValueError, match=message):
        lanes.step(change(given))
    lanes.step(given.astype(np.int32))
    lanes.step(torch.from_numpy(given))


def test_a_single_environment_refuses_fractions_too(table):
    env = MarketGymEnv(table, CFG)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="float64"):
        env.step(np.array([0.9, 0.0, 0.0, 0.0]))
    env.step([1, 0, 0, 0])


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_without_a_seed_lanes_and_environments_begin_anywhere(table, mode):
    """Four of one lane each, made one by one, saw the same bars."""
    windows = []
    for _ in range(2):
        many = gymnasium.make_vec(
            "pricetaker/Market-v0",
            num_envs=4,
            vectorization_mode=mode,
            table=table,
            cfg=dataclasses.replace(CFG, accounts=1),
        )
        windows.append(many.reset()[0]["window"].reshape(4, -1))
        windows.append(many.reset()[0]["window"].reshape(4, -1))
    assert len(np.unique(np.concatenate(windows), axis=0)) > 12


def test_a_step_before_the_first_reset_says_so(table):
    for env in (MarketVectorEnv(table, CFG), MarketGymEnv(table, CFG)):
        with pytest.raises(ResetNeeded, match=r"reset\(\) begins the episodes"):
            env.step(np.zeros(env.action_space.shape, int))


def test_some_of_the_lanes_alone_do_not_begin_anew(table):
    """All of them would, their episodes being lost; the refusal loses none."""
    env = MarketVectorEnv(table, CFG)
    env.reset(seed=0)
    for action in actions_for(CFG, CFG.lanes)[:5]:
        before = env.step(action)[0]
    mask = np.arange(CFG.lanes) == 3
    with pytest.raises(ValueError, match="no reset_mask: a lane begins anew when it ends"):
        env.reset(options={"reset_mask": mask})
    env.step(action)
    assert env._statistics[1].max() == 6
    assert not np.array_equal(env.reset(options={"mine": 1})[0]["window"], before["window"])


def test_torchrl_wraps_the_lanes(table):
    """What a lane sees next is what it saw next, but where it began anew."""
    env = GymWrapper(MarketVectorEnv(table, CFG))
    rollout = env.rollout(50, break_when_any_done=False)
    seen, after = rollout["window"][:, 1:], rollout["next", "window"][:, :-1]
    anew = rollout["next", "done"][:, :-1, 0]
    assert torch.equal((seen != after).flatten(2).any(-1), anew)
    assert anew.sum() > CFG.lanes


def test_gymnasiums_statistics_of_one_lane_are_its_own(table):
    env = RecordEpisodeStatistics(MarketGymEnv(table, CFG))
    env.reset(seed=0)
    for action in actions_for(CFG, 1)[:, 0]:
        *_, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            break
    ours, theirs = info["final_info"]["episode"], info["episode"]
    assert ours["r"] == pytest.approx(theirs["r"], abs=1e-4)
    assert ours["l"] == theirs["l"] > 0
    assert ours["equity"] > 0
