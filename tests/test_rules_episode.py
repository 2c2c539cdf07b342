"""Episodes: where they start, what ends them, and what of one can be seen in the next."""

import dataclasses

import numpy as np
import pytest
import torch

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS, HEADS, LEDGER, REASONS
from envs.market import MarketEnv
from pipelines.held_out.rollout import evaluation_config, split_tiles
from random_walk import draw_ticks

CASH, LAST = LEDGER.index("cash"), LEDGER.index("last_bar")


def quiet_table(count, **kwargs):
    """Bars at one price."""
    return BarTable.from_arrays(np.tile([10_000.0] * 4 + [100.0], (count, 1)), **kwargs)


def wild_table(bars=400):
    return BarTable.from_arrays(draw_ticks(bars, move=300, wick=200))


def flat_action(env):
    """Every lane stays flat."""
    action = env.full_action_spec.zero()["action"]
    action["direction"] += 1
    return action


def starts_of(env, resets):
    """First and last bars over several resets: [resets * paths, 2]."""
    bounds = []
    for _ in range(resets):
        td = env.reset()
        assert (td["bar"] == td["bar"][:, :1]).all(), "lanes of a path do not share its bar"
        bounds.append(torch.stack([td["bar"][:, 0, 0], td["ledger"][:, 0, LAST].long()], -1))
    return torch.cat(bounds)


# Starts ------------------------------------------------------------------------------------------


def test_starts_leave_room_for_window_and_episode_within_one_segment():
    segment = torch.tensor([0] * 40 + [1] * 25 + [2] * 60)
    table = dataclasses.replace(quiet_table(125), segment=segment)
    cfg = EnvConfig(paths=50, accounts=1, workers=0, window=16, episode_bars=20)
    bounds = starts_of(MarketEnv(table, cfg), resets=40)
    # p-15 .. p+20 in one segment: 40 bars hold 5 starts, 25 none, 60 hold 25
    allowed = [*range(15, 20), *range(65 + 15, 65 + 40)]
    assert sorted(set(bounds[:, 0].tolist())) == allowed
    assert (bounds[:, 1] == bounds[:, 0] + 20).all()


def test_starts_are_uniform():
    cfg = EnvConfig(paths=500, accounts=1, workers=0, window=4, episode_bars=6)
    first = starts_of(MarketEnv(quiet_table(29), cfg), resets=40)[:, 0]
    counts = torch.bincount(first - 3, minlength=20).double()
    assert len(counts) == 20
    expected = 20_000 / 20
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 43.8  # 19 degrees of freedom, one in a thousand


def test_starts_stay_in_their_split():
    table = quiet_table(90, splits={"train": (0, 40), "val": (45, 70), "test": (70, 90)})
    cfg = EnvConfig(paths=100, accounts=1, workers=0, window=4, episode_bars=6)
    for split, (first, end) in table.meta.splits.items():
        bounds = starts_of(MarketEnv(table, cfg, split=split), resets=5)
        assert (bounds[:, 0].min(), bounds[:, 1].max()) == (first + 3, end - 1)


def test_bars_in_warm_up_are_no_place_for_a_window():
    features = np.zeros((60, 2))
    features[:10, 1] = np.nan
    table = quiet_table(60, features=features)
    cfg = EnvConfig(paths=200, accounts=1, workers=0, window=4, episode_bars=6)
    assert starts_of(MarketEnv(table, cfg), resets=5)[:, 0].min() == 13


def test_a_split_without_room_for_an_episode_is_refused():
    cfg = EnvConfig(paths=1, accounts=1, workers=0, window=16, episode_bars=20)
    MarketEnv(quiet_table(36), cfg)
    with pytest.raises(ValueError, match="episode"):
        MarketEnv(quiet_table(35), cfg)


# Clock and end -----------------------------------------------------------------------------------


def test_the_pointer_moves_one_bar_a_step_and_the_last_bar_truncates():
    cfg = EnvConfig(paths=3, accounts=2, workers=0, window=4, episode_bars=6)
    env = MarketEnv(wild_table(60), cfg)
    td = env.reset()
    start = td["bar"].clone()
    for step in range(1, 7):
        td["action"] = flat_action(env)
        td = env.step(td)["next"]
        assert (td["bar"] == start + step).all()
        assert (td["truncated"] == (step == 6)).all()
        assert (td["done"] == (step == 6)).all()
        assert not td["terminated"].any()


def test_nothing_but_the_last_bar_and_ruin_ends_an_episode():
    cfg = EnvConfig(paths=40, accounts=8, workers=0, window=4, episode_bars=60)
    env = MarketEnv(wild_table(), cfg)
    env.set_seed(3)
    data = env.rollout(200, break_when_any_done=False)["next"]
    equity = data["fills"][..., FILLS.index("equity")]
    assert (data["terminated"][..., 0] == (equity <= 0.1 * cfg.initial_cash)).all()
    last = data["bar"][..., 0] == data["ledger"][..., LAST].long()
    assert (data["truncated"][..., 0] == (last & ~data["terminated"][..., 0])).all()
    assert (data["done"] == data["terminated"] | data["truncated"]).all()
    assert not (data["terminated"] & data["truncated"]).any()


@pytest.fixture
def ruin_env():
    """Two paths of two lanes on a market that ruins a bold long in its second bar."""
    rows = np.tile([10_000.0] * 4 + [100.0], (30, 1))
    rows[4:, :4] = [5_000.0] * 4
    cfg = EnvConfig(paths=2, accounts=2, workers=0, risk_pct=100.0, max_leverage=25.0,
                    stop_step_bps=100.0)  # fmt: skip
    return MarketEnv(BarTable.from_arrays(rows), cfg, starts=torch.tensor([[2, 8], [15, 20]]))


def test_a_ruined_lane_starts_anew_on_its_paths_clock(ruin_env, actions):
    env = ruin_env
    bold = {"direction": 2, "size": 3, "stop_loss": 9, "take_profit": 0}
    flat = dict.fromkeys(HEADS, 0) | {"direction": 1}
    td = env.reset()
    seen = []
    for _ in range(8):
        td["action"] = actions([bold, flat, flat, flat], (2, 2))
        td, following = env.step_and_maybe_reset(td)
        seen.append(td["next"])
        bold = flat
        td = following
    ruined = seen[1]
    assert ruined["terminated"].flatten().tolist() == [True, False, False, False]
    # the true last observation is in the step; the next step starts from a fresh account
    assert ruined["ledger"][0, 0, CASH] <= 10_000
    assert ruined["account"][0, 0, 1] < 0
    assert seen[2]["ledger"][0, 0, CASH] == 100_000
    assert [n["bar"][0, :, 0].tolist() for n in seen[:4]] == [[3, 3], [4, 4], [5, 5], [6, 6]]
    assert [n["bar"][1, 0, 0].item() for n in seen] == [16, 17, 18, 19, 20, 16, 17, 18]
    # the path ends for both of its lanes at once, and starts again
    assert seen[5]["truncated"][0, :, 0].tolist() == [True, True]
    assert [n["bar"][0, :, 0].tolist() for n in seen[5:]] == [[8, 8], [3, 3], [4, 4]]
    assert (seen[5]["ledger"][0, :, LAST] == 8).all()


def test_the_state_of_the_environment_carries_clocks_and_starts(ruin_env):
    cfg = EnvConfig(paths=4, accounts=2, workers=0, window=4, episode_bars=6)
    table = wild_table(200)
    env, other = MarketEnv(table, cfg, seed=1), MarketEnv(table, cfg, seed=2)
    td = env.rollout(3)[..., -1]["next"]
    other.reset()
    other.load_state_dict(env.state_dict())
    mask = torch.zeros(4, 2, 1, dtype=torch.bool)
    mask[1, 0] = mask[3, 1] = True
    for e in (env, other):
        again = e.reset(td.clone().set("_reset", mask), set_state=False)
        assert (again["bar"] == td["bar"]).all()
        assert (again["ledger"][..., LAST] == td["ledger"][..., LAST]).all()
        assert (again["ledger"][..., CASH][mask[..., 0]] == cfg.initial_cash).all()
    assert (env.reset()["bar"] == other.reset()["bar"]).all()


# Isolation and seeds -----------------------------------------------------------------------------


def test_an_episode_knows_nothing_of_the_one_before(actions):
    cfg = EnvConfig(paths=1, accounts=1, workers=0)
    env = MarketEnv(wild_table(), cfg, starts=torch.tensor([[70, 90]]))
    ticket = {"direction": 0, "size": 2, "stop_loss": 3, "take_profit": 2}

    def first_steps():
        td, out = env.reset(), []
        out.append(td["account"])
        for _ in range(3):
            td["action"] = actions([ticket], (1, 1))
            td = env.step(td)["next"]
            out += [td["account"], td["fills"], td["reward"]]
        return out

    fresh = first_steps()
    env.rollout(15)
    for a, b in zip(fresh, first_steps(), strict=True):
        assert torch.equal(a.nan_to_num(-1), b.nan_to_num(-1))
    assert not fresh[0].any()


def rollout(seed, steps=80, **params):
    cfg = EnvConfig(paths=6, accounts=3, workers=0, window=4, episode_bars=30, **params)
    env = MarketEnv(wild_table(), cfg, seed=seed)
    torch.manual_seed(0)  # the random policy's
    return env.rollout(steps, break_when_any_done=False)


def test_one_seed_gives_one_rollout():
    a, b = rollout(5), rollout(5)
    assert torch.equal(a["next", "bar"], b["next", "bar"])
    assert torch.equal(a["next", "fills"].nan_to_num(-1), b["next", "fills"].nan_to_num(-1))


def test_other_seeds_and_other_paths_start_elsewhere():
    first = [rollout(seed)["bar"][:, 0, 0, 0].tolist() for seed in range(4)]
    assert len({tuple(f) for f in first}) == 4
    assert all(len(set(f)) > 3 for f in first)


def test_the_global_generator_is_neither_read_nor_moved():
    cfg = EnvConfig(paths=6, accounts=3, workers=0, window=4, episode_bars=30)
    env = MarketEnv(wild_table(), cfg, seed=9)
    torch.manual_seed(1)
    a = env.reset()["bar"]
    env.set_seed(9)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    b = env.reset()["bar"]
    assert torch.equal(a, b)
    assert torch.equal(before, torch.get_rng_state())


def test_lanes_do_not_touch_each_other():
    cfg = EnvConfig(paths=1, accounts=4, workers=0)
    env = MarketEnv(wild_table(), cfg, starts=torch.tensor([[70, 120]]))
    torch.manual_seed(4)
    together = env.rollout(50)
    alone = MarketEnv(
        wild_table(), EnvConfig(paths=1, accounts=1, workers=0), starts=torch.tensor([[70, 120]])
    )
    for lane in range(4):
        td = alone.reset()
        for t in range(together.shape[-1]):
            td["action"] = together["action"][:, lane : lane + 1, t]
            td = alone.step(td)["next"]
            want = together["next", "fills"][:, lane : lane + 1, t]
            assert torch.equal(td["fills"].nan_to_num(-1), want.nan_to_num(-1))


# Evaluation --------------------------------------------------------------------------------------


def tiles(table, cfg, split):
    """The environment that evaluation and replay play a split in, all tiles at a time."""
    bounds = split_tiles(table, cfg, split)
    return MarketEnv(table, evaluation_config(cfg, len(bounds)), starts=bounds)


def test_tiles_step_into_every_bar_after_the_first_window_once_and_in_order():
    segment = torch.tensor([0] * 45 + [1] * 55)
    tradable = torch.ones(100, dtype=torch.bool)
    tradable[45:50] = False  # the features warm up after a hole
    table = dataclasses.replace(quiet_table(100), segment=segment, tradable=tradable)
    cfg = EnvConfig(paths=7, accounts=9, workers=0, window=16, episode_bars=12)
    td = tiles(table, cfg, "test").reset()
    first, last = td["bar"][:, 0, 0].tolist(), td["ledger"][:, 0, LAST].long().tolist()
    stepped = [bar for a, b in zip(first, last, strict=True) for bar in range(a + 1, b + 1)]
    assert stepped == [*range(16, 45), *range(66, 100)]
    assert all(b - a <= 12 for a, b in zip(first, last, strict=True))
    assert (td["ledger"][..., CASH] == cfg.initial_cash).all()


def test_tiles_close_what_is_held_at_their_end(actions):
    cfg = EnvConfig(paths=1, accounts=1, workers=0, window=4, episode_bars=10)
    env = tiles(quiet_table(34), cfg, "val")
    ticket = {"direction": 2, "size": 0, "stop_loss": 9, "take_profit": 0}
    td = env.reset()
    for step in range(1, 11):
        td["action"] = actions([ticket] * 3, (3, 1))
        td = env.step(td)["next"]
        assert (td["truncated"] == (step == 10)).all()
        held = td["fills"][..., FILLS.index("position")] != 0
        assert (held == (step < 10)).all()
    assert (td["fills"][..., FILLS.index("exit_reason")] == REASONS.index("end")).all()
