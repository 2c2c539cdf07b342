"""Each of 1,024 accounts lives, to the last bit, as if it were the only one."""

import numpy as np
import torch
from tensordict import TensorDict

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS, REASONS
from envs.market import MarketEnv

PATHS, ACCOUNTS, STEPS = 64, 16, 8
SEEN = ("fills", "bar", "ledger", "account", "reward", "head_used", "terminated", "truncated")
LEGS = [FILLS.index("open_exit_reason"), FILLS.index("exit_reason")]  # of the fills, hence first


def wild_table(rng, count=400):
    """Bars of large moves and gaps."""
    close = 10_000 * np.exp(0.03 * np.sin(np.arange(count)) + rng.normal(0, 0.02, count))
    opens = np.append(close[:1], close[:-1]) * np.exp(rng.normal(0, 0.01, count))
    high = np.maximum(opens, close) * (1 + rng.exponential(0.01, count))
    low = np.minimum(opens, close) / (1 + rng.exponential(0.01, count))
    return BarTable.from_arrays(
        np.stack([opens, high, low, close, rng.exponential(500, count)], -1)
    )


def play(env, actions):
    """What every step shows: [STEPS, paths, accounts, columns]."""
    td, steps = env.reset(), []
    for action in actions:
        td = env.step(td.set("action", action))["next"]
        steps.append(torch.cat([td[key].double() for key in SEEN], -1))
    return torch.stack(steps).nan_to_num(-7.0)


def test_1024_lanes_equal_1024_single_runs_bit_for_bit():
    rng = np.random.default_rng(0)
    table = wild_table(rng)
    shared = {
        "workers": 0,
        "risk_pct": 100.0,
        "stop_step_bps": 100.0,
        "max_leverage": 25.0,
        "max_participation": 1.0,
        "trailing": True,
        "funding_bps_per_day": 50.0,
        "drawdown_penalty": 0.1,
        "turnover_penalty": 0.01,
        "ruin_equity_frac": 0.5,
        "flatten_at_end": True,
    }
    first = torch.from_numpy(rng.integers(0, 380, PATHS))
    starts = torch.stack([first, first + STEPS], -1)
    batch = MarketEnv(table, EnvConfig(accounts=ACCOUNTS, **shared), starts=starts)
    grid = (STEPS, PATHS, ACCOUNTS)
    drawn = {
        head: torch.from_numpy(rng.integers(0, count, grid))
        for head, count in batch.cfg.num_actions.items()
    }
    actions = TensorDict(drawn, grid)
    together = play(batch, actions)
    reasons = together[..., LEGS].flatten().unique().tolist()
    assert {REASONS[int(code)] for code in reasons} == set(REASONS), "something never happened"
    cfg = EnvConfig(paths=1, accounts=1, **shared)
    for path in range(PATHS):
        single = MarketEnv(table, cfg, starts=starts[path : path + 1])
        for account in range(ACCOUNTS):
            at = (slice(None), slice(path, path + 1), slice(account, account + 1))
            assert torch.equal(play(single, actions[at]), together[at]), (path, account)
