"""MarketEnv as a TorchRL environment: specs, states, seeds, workers, devices."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch
from torchrl.envs import SerialEnv, TransformedEnv, check_env_specs
from torchrl.envs.utils import step_mdp

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.factory import make_env, training_transforms
from envs.market import MarketEnv
from random_walk import draw_ohlcv

UNCLOSED = """
from pathlib import Path
from envs.config import EnvConfig
from envs.factory import make_env

if __name__ == "__main__":
    cfg = EnvConfig(paths=2, accounts=1, window=8, episode_bars=6, tick_size=0.01)
    env = make_env(Path({folder!r}), cfg)
    print(env.rollout(3).shape, flush=True)
    raise KeyError("mine")
"""
SMALL = {"paths": 4, "accounts": 3, "workers": 0, "window": 8, "episode_bars": 6}


@pytest.fixture(scope="module")
def table() -> BarTable:
    return BarTable.from_arrays(draw_ohlcv())


def config(**changes) -> EnvConfig:
    return EnvConfig(**(SMALL | {"tick_size": 0.01} | changes))


@pytest.mark.parametrize("record_fills", [True, False])
def test_specs_plain_and_transformed(table, device, record_fills):
    env = MarketEnv(table, config(), device=device, record_fills=record_fills)
    check_env_specs(env)
    check_env_specs(TransformedEnv(env, training_transforms(config())))


def test_specs_in_serial_env(table):
    check_env_specs(SerialEnv(2, partial(MarketEnv, table, config())))


def test_specs_and_distinct_starts_in_parallel_env(table, tmp_path):
    table.save(tmp_path)
    env = make_env(tmp_path, config(workers=2), seed=5)
    try:
        assert env.batch_size == (2, 2, 3)
        check_env_specs(env)
        env.set_seed(5)
        starts = env.reset()["bar"][..., 0, 0]
        assert len(starts.unique()) == starts.numel()
        # The same table through a fresh, in-process environment: the same rules, the same keys.
        plain = make_env(tmp_path, config(), seed=5)
        rollout, single = env.rollout(8), plain.rollout(8)
        assert set(rollout.keys(True, True)) == set(single.keys(True, True))
        assert rollout.names[-1] == "time"
    finally:
        env.close()


def test_the_parent_keeps_its_threads(table, tmp_path):
    table.save(tmp_path)
    before = torch.get_num_threads()
    env = make_env(tmp_path, config(workers=2))
    try:
        env.reset()
        assert torch.get_num_threads() == before
    finally:
        env.close()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_workers_leave_ctrl_c_to_their_parent(table, tmp_path):
    table.save(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    env = make_env(tmp_path, config(workers=2))
    try:
        env.reset()
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGINT)
        assert env.rollout(3).batch_size == (2, 2, 3, 3)
    finally:
        env.close()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_program_ends_that_has_not_closed_its_workers(table, tmp_path):
    """They leave SIGTERM to their parent, which Python has wait for them at its end, for ever."""
    table.save(tmp_path / "bars")
    program = tmp_path / "mine.py"
    program.write_text(UNCLOSED.format(folder=str(tmp_path / "bars")))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=90)
    assert done.stdout == "torch.Size([2, 1, 1, 3])\n"
    assert done.stderr.endswith("KeyError: 'mine'\n")


def test_who_lets_go_of_an_environment_in_a_circle_waits_for_no_killed_worker(
    table, tmp_path, monkeypatch
):
    """What is to be done as it goes, Python does before torchrl asks the workers to end."""
    killed = []
    monkeypatch.setattr("envs.workers._kill", killed.extend)
    table.save(tmp_path)
    held = [make_env(tmp_path, config(workers=2))]
    workers = list(held[0].base_env._workers)
    held.append(held)
    del held
    gc.collect()
    told = list(killed)
    for worker in workers:
        worker.join(30)
        worker.kill()  # were it there: at the end nobody does
    assert not told


def test_same_seed_same_rollout_and_other_seeds_differ(table, device):
    def rollout(seed: int):
        env = MarketEnv(table, config(), seed=seed, device=device)
        torch.manual_seed(0)
        return env.rollout(20, break_when_any_done=False)

    one, again, other = rollout(1), rollout(1), rollout(2)
    assert {"bar", ("next", "fills"), ("next", "reward")} < set(one.keys(True, True))
    for key in one.keys(True, True):
        assert torch.equal(one[key].nan_to_num(-7), again[key].nan_to_num(-7)), key
    assert not torch.equal(one["bar"], other["bar"])


def test_state_dict_carries_generator_and_clocks(table):
    env, twin = MarketEnv(table, config(), seed=1), MarketEnv(table, config(), seed=2)
    state = env.rollout(4, break_when_any_done=False)[..., -1]
    twin.load_state_dict(env.state_dict())
    carried = step_mdp(state)
    for _ in range(12):
        torch.manual_seed(9)
        action = env.rand_action(carried.clone())["action"]
        one = env.step_and_maybe_reset(carried.clone().set("action", action.clone()))[1]
        two = twin.step_and_maybe_reset(carried.clone().set("action", action.clone()))[1]
        assert torch.equal(one["ledger"], two["ledger"])
        assert torch.equal(one["bar"], two["bar"])
        carried = one


def test_loading_a_state_writes_into_nothing_that_was_handed_out_or_in(table):
    starts = torch.tensor([[20, 60], [90, 130]])
    other = MarketEnv(table, config(), starts=starts + 100)
    other.reset()
    env = MarketEnv(table, config(), starts=starts.clone())
    reset = env.reset()
    env.load_state_dict(other.state_dict())
    assert torch.equal(env.starts.bounds, starts)
    stepped = env.step(env.rand_action(reset))["next"]
    kept = stepped["bar"].clone()
    env.load_state_dict(other.state_dict())
    assert torch.equal(stepped["bar"], kept)
    env.reset(stepped, set_state=True)
    env.load_state_dict(other.state_dict())
    assert torch.equal(stepped["bar"], kept)


def test_a_fresh_account_looks_like_one_that_has_nothing_yet(table):
    env = MarketEnv(table, config())
    fresh = env.reset()
    again = env.reset(fresh.clone().set("account", fresh["account"] + 1), set_state=True)
    assert torch.equal(again["account"], fresh["account"])


def test_accounts_of_an_ended_path_cannot_start_apart(table):
    env = MarketEnv(table, config())
    ended = env.rollout(config().episode_bars)[..., -1]["next"]
    assert ended["truncated"].all()
    mask = torch.zeros_like(ended["done"])
    mask[:, 1] = True
    with pytest.raises(ValueError, match="can only start together"):
        env.reset(ended.clone().set("_reset", mask), set_state=False)
    mask = torch.zeros_like(mask)
    mask[2] = True
    state = env.reset(ended.clone().set("_reset", mask), set_state=False)
    assert (state["bar"] == state["bar"][:, :1]).all()
    assert (state["bar"] == ended["bar"])[~mask].all()


@pytest.mark.parametrize(("key", "dtype"), [("bar", torch.int32), ("ledger", torch.float32)])
def test_a_state_that_lost_digits_on_its_way_is_refused(table, key, dtype):
    env = MarketEnv(table, config())
    td = env.rand_action(env.reset())
    td[key] = td[key].to(dtype)
    with pytest.raises(ValueError, match=f"{key} of {dtype}.*torch.int64 and torch.float64"):
        env.step(td)


def test_an_action_that_is_one_tensor_of_all_heads_is_refused(table):
    """As the Gymnasium environments take it, and as a head's name would index it."""
    env = MarketEnv(table, config())
    td = env.reset()
    td["action"] = torch.zeros(*td.shape, 4, dtype=torch.int64)
    told = r"action: torch.int64 \[.*, 4\] is not allowed: a TensorDict of direction, size, stop_l"
    with pytest.raises(IndexError, match=told):
        env.step(td)


@pytest.mark.parametrize(
    "heads", [("size",), ("direction", "size", "stop_loss", "take_profit")], ids=["one", "all"]
)
@pytest.mark.parametrize(
    "change", [lambda index: index[..., None], lambda index: index.int()], ids=["kept", "short"]
)
def test_an_action_that_is_not_an_index_for_every_lane_names_its_head(table, heads, change):
    """A dimension too many is what an ``argmax`` with ``keepdim`` leaves."""
    env = MarketEnv(table, config())
    td = env.rand_action(env.reset())
    for head in heads:
        td["action", head] = change(td["action", head])
    told = rf"action\.{heads[0]}: torch\.int.* is not allowed: torch\.int64 \[\d+, \d+\]$"
    with pytest.raises(IndexError, match=told):
        env.step(td)


def test_an_environment_says_that_it_cannot_move_to_another_device(table):
    env = TransformedEnv(MarketEnv(table, config()), training_transforms(config()))
    assert env.to("cpu") is env
    with pytest.raises(ValueError, match="cannot move to meta"):
        env.to("meta")


def test_set_state_continues_from_the_given_accounts(table):
    env = MarketEnv(table, config())
    rollout = env.rollout(4)
    state = step_mdp(rollout[..., -1]).select("bar", "ledger")
    restored = env.reset(state, set_state=True)
    assert torch.equal(restored["ledger"], state["ledger"])
    assert torch.equal(restored["account"], rollout[..., -1]["next", "account"])


def test_a_step_changes_nothing_it_was_given(table):
    env = MarketEnv(table, config())
    before = env.rand_action(env.reset())
    copy = before.clone()
    env.step(before)
    assert (
        before.select("bar", "ledger", "account") == copy.select("bar", "ledger", "account")
    ).all()


def test_a_lane_is_the_same_alone_as_in_a_batch(table, device):
    cfg = config(ruin_equity_frac=0.97)
    starts = torch.tensor([[20, 60], [90, 130], [200, 240]])
    batch = MarketEnv(table, cfg, starts=starts, device=device)
    torch.manual_seed(1)
    actions = [batch.rand_action(batch.reset())["action"] for _ in range(40)]

    def play(env: MarketEnv, chosen) -> torch.Tensor:
        state, ledgers = env.reset(), []
        for action in chosen:
            state = env.step(state.set("action", action))["next"]
            ledgers.append(torch.cat([state["ledger"], state["fills"]], -1))
        return torch.stack(ledgers)

    together = play(batch, actions)
    one = EnvConfig(**{**SMALL, "tick_size": 0.01, "ruin_equity_frac": 0.97, "accounts": 1})
    for path in range(3):
        for account in range(3):
            env = MarketEnv(table, one, starts=starts[path : path + 1], device=device)
            alone = play(env, [a[path : path + 1, account : account + 1] for a in actions])
            expected = together[:, path : path + 1, account : account + 1]
            assert torch.equal(alone.nan_to_num(-7.0), expected.nan_to_num(-7.0))
