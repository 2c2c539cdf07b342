"""A column, a network and a baseline of your own, from bars to a verdict.

The market is one on which the next move is given away, so that there is something to find; for a
file of yours say DataConfig(path="bars.parquet", asset="BTC/USDT"). Nothing here needs Hydra or a
run folder.

    python examples/judge_your_own_policy.py
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torch.distributions import Categorical

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.data_config import DataConfig
from envs.factory import make_env
from envs.known_config import SyntheticConfig
from envs.table import cut_table, load_columns
from modules.window import BarWindow
from pipelines.held_out.baselines import buy_and_hold, flat_policy, plain_order
from pipelines.held_out.rollout import Policy, play_tiles, split_tiles, tile_times
from pipelines.judging.findings import Evidence, find
from pipelines.judging.metrics import in_order, measure
from pipelines.judging.opening import Opening
from pipelines.judging.period_returns import aggregate, growth_curve
from pipelines.judging.registry import Registry
from pipelines.judging.verdict import Verdict, judge

CFG = EnvConfig(paths=64, accounts=1, workers=0, window=8, episode_bars=128, stop_step_bps=100.0)
DATA = DataConfig(
    synthetic=SyntheticConfig(market="planted", bars=65_536), train_frac=0.4, val_frac=0.1
)


def make_table() -> BarTable:
    """The bars with a column of your own: how far the last eight closes are from their mean."""
    bars, columns, names = load_columns(DATA)
    close = pd.Series(np.log(bars.ohlcv[:, 3]))
    mine = (close - close.groupby(bars.segment).transform(lambda x: x.rolling(8).mean())) / 0.005
    columns = np.column_stack([columns, mine]).astype(np.float32)  # NaN: a row not to be traded
    return cut_table(
        bars, columns, [*names, "distance_8"], DATA,
        window=CFG.window, episode_bars=CFG.episode_bars,
    )  # fmt: skip


def orders(direction: Tensor) -> TensorDict:
    """Short, flat or long (0, 1, 2) at a risk multiple of 1, with the widest stop and no target."""
    rest = {head: torch.full_like(direction, i) for head, i in plain_order(CFG).items()}
    return TensorDict({"direction": direction, **rest}, direction.shape)


class MyPolicy(TensorDictModuleBase):
    """``bar`` and ``account`` to ``action``: a window flattened, one hidden layer, a direction."""

    in_keys = ("bar", "account")
    out_keys = ("action",)

    def __init__(self, table: BarTable) -> None:
        super().__init__()
        self.window = BarWindow(
            table.features, table.loc, table.scale, window=CFG.window, clip=10.0
        )
        seen = CFG.window * table.features.shape[1] + 1
        self.network = nn.Sequential(nn.Linear(seen, 64), nn.Tanh(), nn.Linear(64, 3))

    def choices(self, state: TensorDictBase) -> Categorical:
        """Over the three directions, for every account [paths, accounts] or more."""
        window = self.window(state["bar"]).flatten(-2)  # [..., window * features]
        side = state["account"][..., :1]
        return Categorical(logits=self.network(torch.cat([window, side], -1)))

    def forward(self, state: TensorDictBase) -> TensorDictBase:
        """Draw in training, take the most likely direction after `eval`."""
        found = self.choices(state)
        direction = found.sample() if self.training else found.probs.argmax(-1)
        return state.set("action", orders(direction))


def my_rule(table: BarTable) -> Policy:
    """A baseline of your own: against the market where the price is far from its mean."""
    column = table.meta.feature_names.index("distance_8")
    distance, far = table.features[:, column], 1.5 * table.scale[column]  # scale: of train bars

    def act(state: TensorDictBase) -> TensorDictBase:
        known = distance[state["bar"].squeeze(-1)]
        return state.set("action", orders(1 + (known < -far).long() - (known > far).long()))

    return act


def train(policy: MyPolicy, table: BarTable, iterations: int) -> None:
    """The plainest policy gradient there is: what a loop of yours would be in place of."""
    env = make_env(table, CFG, seed=1)
    optimiser = torch.optim.Adam(policy.parameters(), 3e-3)
    for number in range(iterations):
        with torch.no_grad():
            rollout = env.rollout(64, policy, break_when_any_done=False)
        reward = rollout["next", "reward"].squeeze(-1)  # [paths, accounts, time]
        to_go = torch.zeros_like(reward)
        for t in reversed(range(reward.shape[-1])):
            later = 0.9 * to_go[..., t + 1] if t + 1 < reward.shape[-1] else 0.0
            to_go[..., t] = reward[..., t] + later
        advantage = (to_go - to_go.mean()) / to_go.std()
        chosen = policy.choices(rollout)
        taken = chosen.log_prob(rollout["action", "direction"])
        loss = -(taken * advantage).mean() - 0.05 * chosen.entropy().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if number % 20 == 0:
            print(f"iteration {number}: reward a step {float(reward.mean()):+.4f}")


def judge_policy(policy: Policy, table: BarTable, registry: Path) -> Verdict:
    """Write the look down, play the test bars, and hold the policy against three accounts."""
    bounds = split_tiles(table, CFG, "test")
    times = tile_times(table, bounds)
    opening = Opening(
        asset=table.meta.asset, source_sha256=table.meta.source_sha256, first_bar=str(times[0]),
        last_bar=str(times[-1]), split="test", run="mine", config_sha256="mine",
        checkpoint_sha256="first", purpose="evaluate",
    )  # fmt: skip
    book = Registry(registry)
    looks = book.looks(book.open(opening))
    players = {"mine": policy, "flat": flat_policy(CFG), "my_rule": my_rule(table)}
    rows = {
        name: in_order(play_tiles(table, CFG, bounds, player).rows(table, CFG))
        for name, player in players.items()
    }
    rows["buy_and_hold"] = in_order(buy_and_hold(table, CFG, bounds))
    curves = {n: growth_curve(each, CFG.initial_cash, times) for n, each in rows.items()}
    figures = {name: measure(each, CFG) for name, each in rows.items()}
    for name, found in figures.items():
        print(f"{name:12s} {found.total_return:+12.2%}  {found.trades:5d} trades")
    evidence = Evidence(
        aggregate(curves, table.meta.interval_s), seeds=["mine"],
        baselines=["flat", "my_rule", "buy_and_hold"], trades=float(figures["mine"].trades),
        trials=looks.trials, earlier_openings=looks.earlier,
    )  # fmt: skip
    return judge(find(evidence))


def main(iterations: int = 60) -> Verdict:
    """Train and judge; the verdict is printed with its reasons."""
    torch.manual_seed(0)
    table = make_table()
    policy = MyPolicy(table)
    train(policy, table, iterations)
    with tempfile.TemporaryDirectory() as folder:  # keep yours where all your looks are counted
        verdict = judge_policy(policy.eval(), table, Path(folder) / "openings.jsonl")
    print(verdict.word, *verdict.reasons, sep="\n  ")
    return verdict


if __name__ == "__main__":
    main()
