"""No look into the future, from the file of bars to the trace.

The market after a bar ``t`` is replaced by another; what a deterministic policy saw, did and was
paid up to ``t`` must not change by a bit, and neither may what training is made of when val and
test do. Single features, the simulator and the network are under the same test in
``test_features.py``, ``test_rules_observation.py`` and ``test_policy.py``.
"""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torchrl.envs import TransformedEnv
from torchrl.envs.utils import set_exploration_type

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.data_config import DataConfig
from envs.factory import make_env, training_transforms
from envs.ledger import FILLS
from envs.market import MarketEnv
from envs.observation import NUM_ACCOUNT
from envs.table import build_table
from envs.trace import TraceWriter
from modules.config import ModelConfig
from modules.policy import make_actor_value, make_collection_policy

ROWS, STEPS = 3_000, 40
PRICES, OHLCV = ["open", "high", "low", "close"], ["open", "high", "low", "close", "volume"]
AT_THE_OPEN = (
    "open_exit_reason", "open_exit_units", "open_exit_price",
    "requested_units", "entry_units", "entry_fill_price",
)  # fmt: skip
CFG = EnvConfig(
    paths=3,
    accounts=2,
    workers=0,
    window=16,
    episode_bars=32,
    stop_step_bps=15.0,
    trailing=True,
    max_participation=0.5,
    funding_bps_per_day=5.0,
)
TINY = ModelConfig(
    d_model=16,
    num_layers=2,
    num_heads=2,
    ff_dim=24,
    num_context_blocks=1,
    context_ff_dim=20,
    account_dim=12,
    features_dim=14,
)


def walk(rows, *, seed, move, first=30_000.0):
    """OHLCV of a random walk that opens at `first`, `move` of its price a bar."""
    rng = np.random.default_rng(seed)
    close = first * np.exp(np.cumsum(rng.normal(0.0, move, rows)))
    open_ = np.append(first, close[:-1])
    high = np.maximum(open_, close) * (1 + rng.exponential(move / 3, rows))
    low = np.minimum(open_, close) / (1 + rng.exponential(move / 3, rows))
    volume = rng.lognormal(0.0, 1.0, rows) * (rng.random(rows) > 0.1)
    return np.stack([open_, high, low, close, volume], -1)


@pytest.fixture(scope="module")
def frame():
    """A file of one-minute bars."""
    bars = pd.DataFrame(walk(ROWS, seed=1, move=1e-3), columns=OHLCV)
    bars.insert(0, "timestamp", pd.date_range("2024-03-01", periods=ROWS, freq="min", tz="UTC"))
    return bars


def another_future(frame, t, kind):
    """The same file with another market after row `t`; as many bars as before, once mended."""
    changed, after = frame.copy(), slice(t + 1, None)
    count, close = ROWS - t - 1, frame["close"].iloc[t]
    later = pd.Timedelta(hours=1) if kind == "a hole" else pd.Timedelta(minutes=2)
    if kind.endswith("bps"):
        move = 1e-4 * int(kind.removesuffix(" bps"))
        changed.loc[t + 1 :, OHLCV] = walk(count, seed=2, move=move, first=close)
    elif kind == "a jump":
        changed.loc[t + 1 :, PRICES] *= 1.3
    elif kind == "seven bars later":
        changed.loc[t + 1 :, OHLCV] = np.roll(frame[OHLCV].to_numpy()[after], -7, axis=0)
    elif kind == "a hole":
        changed.loc[t + 1 :, "timestamp"] += later
    elif kind == "two bars missing":  # which the loader fills
        changed.loc[t + 1 :, "timestamp"] += later
        changed = changed[:-2]
    return changed


def build(frame, folder):
    """The table of a file."""
    path = folder / "bars.parquet"
    frame.to_parquet(path)
    data = DataConfig(path=str(path))
    return build_table(data, window=CFG.window, episode_bars=CFG.episode_bars)


def make_policy(table):
    """A small policy whose decisions depend on what it sees: the heads start enlarged."""
    torch.manual_seed(3)
    model = make_actor_value(
        TINY,
        features=table.features,
        loc=table.loc,
        scale=table.scale,
        window=CFG.window,
        num_actions=CFG.num_actions,
        num_account=NUM_ACCOUNT,
    )
    with torch.no_grad():
        model.get_policy_head()[0].module.linear.weight.mul_(300.0)
        model.get_value_head().module.linear.weight.normal_()  # it starts at 0
    return make_collection_policy(model)


def trace_lines(table, batch, folder):
    """Lines of the trace of a rollout."""
    path = folder / "trace.csv"
    with TraceWriter(path, table, CFG, run_id="r", split="val") as trace:
        trace.write(batch)
    return path.read_bytes().splitlines()


def live(table, t, folder):
    """Everything up to `t`: three paths; the first makes its last decision on bar `t`."""
    first = t - STEPS - torch.tensor([0, 3, 11])
    starts = torch.stack([first, first + STEPS + 1], -1)
    env = TransformedEnv(MarketEnv(table, CFG, starts=starts), training_transforms(CFG))
    with torch.no_grad(), set_exploration_type("DETERMINISTIC"):
        batch = env.rollout(STEPS + 1, make_policy(table), break_when_any_done=False)
    seen = {"features": table.features[: t + 1], "tradable": table.tradable[: t + 1]}
    seen |= {"loc": table.loc, "scale": table.scale, "time": table.timestamp[: t + 1]}
    decided = batch.exclude("next").flatten_keys(".").to_dict()
    # The last step of the first path is carried out in bar t+1.
    paid = batch["next"][..., :-1].flatten_keys(".").to_dict()
    seen |= decided | {f"next.{key}": value for key, value in paid.items()}
    lines = trace_lines(table, batch, folder)
    return SimpleNamespace(
        seen=seen,
        lines=lines[: 1 + 6 * STEPS],
        after=lines[1 + 6 * STEPS],
        splits=table.meta.splits,
    )


def differences(one, two):
    """Names of what is not the same, bit for bit."""
    assert one.seen.keys() == two.seen.keys()
    found = [
        key
        for key, value in one.seen.items()
        if value.shape != two.seen[key].shape
        or not torch.equal(value.nan_to_num(-1), two.seen[key].nan_to_num(-1))
    ]
    found += ["trace"] if one.lines != two.lines else []
    return found + (["splits"] if one.splits != two.splits else [])


TRAIN_END = round(0.7 * ROWS)
FUTURES = ["1 bps", "10 bps", "100 bps", "a jump", "seven bars later", "a hole", "two bars missing"]
CUTS = [TRAIN_END - 1, TRAIN_END + 100, ROWS - 60]


@pytest.fixture(scope="module", params=CUTS)
def lived(request, frame, tmp_path_factory):
    """A cut and what was lived up to it in the market as it is."""
    folder = tmp_path_factory.mktemp("market")
    table = build(frame, folder)
    return request.param, table, live(table, request.param, folder)


def test_the_policy_of_these_tests_decides_by_what_it_sees(lived):
    _, table, now = lived
    for head in ("direction", "stop_loss"):
        assert len(now.seen[f"action.{head}"].unique()) > 1
    fills = now.seen["next.fills"]
    assert (fills[..., 0] > 0).any()
    assert now.seen["next.account"].isfinite().all()
    assert table.meta.splits["train"] == (0, TRAIN_END)


@pytest.mark.parametrize("kind", FUTURES)
def test_another_future_changes_no_bit_of_what_came_before(lived, frame, kind, tmp_path):
    t, _, now = lived
    table = build(another_future(frame, t, kind), tmp_path)
    assert len(table) == ROWS
    other = live(table, t, tmp_path)
    assert differences(now, other) == []
    assert now.after != other.after


def test_these_tests_see_a_feature_that_knows_the_next_bar(lived, frame, tmp_path):
    t, table, _ = lived

    def peeking(table):
        ahead = table.features[torch.arange(len(table)).add(1).clamp_max(len(table) - 1)]
        return live(dataclasses.replace(table, features=ahead), t, tmp_path)

    other = build(another_future(frame, t, "10 bps"), tmp_path)
    found = differences(peeking(table), peeking(other))
    assert {"features", "state_value"} <= set(found)


def test_these_tests_see_a_normaliser_that_knows_later_bars(lived, frame, tmp_path):
    t, table, _ = lived

    def peeking(table):
        mean = table.features[table.tradable].double().mean(0).float()
        return live(dataclasses.replace(table, loc=mean), t, tmp_path)

    other = build(another_future(frame, t, "10 bps"), tmp_path)
    found = differences(peeking(table), peeking(other))
    assert {"loc", "state_value"} <= set(found)
    assert "features" not in found


def test_what_is_filled_at_an_open_knows_nothing_of_its_bar_but_the_open():
    bars, last = walk(STEPS + 1, seed=7, move=1e-3), []
    bars[:, 4] += 0.5
    other = walk(1, seed=6, move=2e-2, first=bars[-1, 0])
    cfg = dataclasses.replace(CFG, paths=1, accounts=256)
    for final in (bars[-1:], other):
        table = BarTable.from_arrays(np.concatenate([bars[:-1], final]))
        env = MarketEnv(table, cfg, starts=torch.tensor([[0, STEPS]]))
        torch.manual_seed(3)
        last.append(env.rollout(STEPS, break_when_any_done=False)["next", "fills"][0, :, -1])
    one, two = last
    at_open = [FILLS.index(name) for name in AT_THE_OPEN]
    assert torch.equal(one[:, at_open].nan_to_num(-1), two[:, at_open].nan_to_num(-1))
    assert (one[:, at_open].isfinite().sum(0) > 50).all()
    assert not torch.equal(one[:, FILLS.index("equity")], two[:, FILLS.index("equity")])


def train(table, folder):
    """A training rollout over several episodes, with sampled actions and drawn starts."""
    table.save(folder / "table")
    env = make_env(folder / "table", CFG, split="train", seed=7)
    policy = make_policy(table)
    torch.manual_seed(8)
    with torch.no_grad(), set_exploration_type("RANDOM"):
        batch = env.rollout(3 * CFG.episode_bars, policy, break_when_any_done=False)
    return batch, trace_lines(table, batch, folder)


def test_training_knows_nothing_of_val_and_test(frame, tmp_path):
    noise = frame.copy()
    noise.loc[TRAIN_END:, OHLCV] = walk(ROWS - TRAIN_END, seed=9, move=0.02)
    runs = {}
    for name, file in (("as it is", frame), ("noise", noise)):
        folder = tmp_path / name
        folder.mkdir()
        table = build(file, folder)
        runs[name] = table, *train(table, folder)
    (one, batch, lines), (two, other, other_lines) = runs.values()

    rows = slice(*one.meta.splits["train"])
    assert one.meta.splits == two.meta.splits
    assert one.meta.report["train_tradable_bars"] == two.meta.report["train_tradable_bars"]
    assert torch.equal(one.runs("train"), two.runs("train"))
    assert torch.equal(one.loc, two.loc)
    assert torch.equal(one.scale, two.scale)
    assert torch.equal(one.features[rows].nan_to_num(-9), two.features[rows].nan_to_num(-9))
    assert not torch.equal(one.features[TRAIN_END:], two.features[TRAIN_END:])

    assert batch["next", "truncated"].sum() >= 2 * CFG.lanes
    assert batch["next", "bar"].max() < TRAIN_END
    same = batch.apply(torch.nan_to_num) == other.apply(torch.nan_to_num)
    assert same.all()
    assert lines == other_lines
