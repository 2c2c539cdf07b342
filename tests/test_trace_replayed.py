"""A trace says everything: its actions, played again on the bars, give its accounts again."""

import dataclasses
import json

import numpy as np
import torch

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS, HEADS, REASONS
from envs.market import MarketEnv
from envs.trace import TraceWriter
from envs.trace_reader import read_trace
from random_walk import draw_ticks


def test_the_trace_and_the_bars_alone_give_the_run_again(tmp_path, actions):
    bars = draw_ticks(400, seed=3)
    cfg = EnvConfig(
        paths=3, accounts=4, workers=0, window=8, episode_bars=40, trailing=True,
        risk_pct=100.0, max_leverage=40.0, funding_bps_per_day=5.0, max_participation=5.0,
    )  # fmt: skip
    env = MarketEnv(BarTable.from_arrays(bars, interval_s=900.0), cfg, seed=1)
    torch.manual_seed(2)
    path = tmp_path / "train_actions.csv"
    with TraceWriter(path, BarTable.from_arrays(bars, interval_s=900.0), cfg, run_id="r",
                     split="train") as trace:  # fmt: skip
        trace.write(env.rollout(100, break_when_any_done=False))

    rows = read_trace(path)
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    again = BarTable.from_arrays(bars, interval_s=about["interval_s"])
    place = {int(time): row for row, time in enumerate(again.timestamp)}
    alone = dataclasses.replace(EnvConfig(**about["simulator"]), paths=1, accounts=1)
    times = rows["timestamp"].astype("datetime64[ns, UTC]").astype("int64")
    episodes = rows.groupby(["lane", "episode"])
    assert rows["terminated"].any()
    assert rows["truncated"].any()
    assert len(episodes) > 24
    for _, episode in episodes:
        first = place[int(times[episode.index[0]])] - 1
        last = first + len(episode) + (0 if episode["truncated"].iloc[-1] else 1)
        env = MarketEnv(again, alone, starts=torch.tensor([[first, last]]))
        td = env.reset()
        for row in episode.to_dict("records"):
            td["action"] = actions([{head: int(row[head]) for head in HEADS}], (1, 1))
            td = env.step(td)["next"]
            for name, value in zip(FILLS, td["fills"].flatten().tolist(), strict=True):
                if name.endswith("reason"):
                    assert (row[name] or "") == REASONS[int(value)]
                else:
                    assert row[name] == value or (np.isnan(row[name]) and np.isnan(value)), name
            assert bool(row["terminated"]) == bool(td["terminated"].item())
            assert bool(row["truncated"]) == bool(td["truncated"].item())
