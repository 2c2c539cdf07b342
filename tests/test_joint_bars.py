"""Several markets in one table: the same dates, and every row as if its market were alone."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tensordict import TensorDict

from envs.assets import AssetFile, asset_folder, parse_assets
from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.data_config import DataConfig
from envs.joint_bars import common_splits, price_grid
from envs.ledger import LEDGER
from envs.market import MarketEnv
from envs.table import build_table
from envs.trace import TraceWriter
from envs.trace_reader import read_trace
from pipelines.check_data import check
from pipelines.config import CheckConfig
from random_walk import draw_cents

WINDOW, EPISODE = 16, 32
CFG = EnvConfig(
    paths=8, accounts=2, workers=0, window=WINDOW, episode_bars=EPISODE, stop_step_bps=15.0,
    trailing=True, max_participation=0.5, funding_bps_per_day=5.0, tick_size=0.01,
)  # fmt: skip
ROW_TENSORS = ("timestamp", "ohlcv", "features", "segment", "tradable")


def big():
    """A market with a hole in its train split."""
    return draw_cents(3_000, seed=1, first=30_000.0).drop(index=range(700, 720))


def small():
    """A market that begins later, ends later, and has a hole at the border of train and val."""
    frame = draw_cents(3_000, seed=2, first=1_500.0, start="2024-03-01T01:40", move=2e-3)
    return frame.drop(index=range(2_040, 2_050))


def write(folder, **frames):
    """Files by name, as words of `data.assets`."""
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet")
    return [f"{name.upper()}/USD={folder / name}.parquet" for name in frames]


def build(assets, **config):
    data = DataConfig(assets=assets, **config)
    return build_table(data, window=WINDOW, episode_bars=EPISODE)


def alone(path, **config):
    return build_table(DataConfig(path=str(path), **config), window=WINDOW, episode_bars=EPISODE)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("markets")
    return folder, write(folder, big=big(), small=small())


@pytest.fixture(scope="module")
def joint(files):
    return build(files[1])


def same(one, two):
    return one.shape == two.shape and torch.equal(one.nan_to_num(-9), two.nan_to_num(-9))


# Names.


def test_assets_are_named_or_named_by_their_files():
    found = parse_assets(["BTC/USD=a=b/x.csv", "bars/ETH_1m.csv.gz", "bars/binance_SOL-USDT_1m"])
    assert found == [
        AssetFile("BTC/USD", "a=b/x.csv"),
        AssetFile("ETH_1m", "bars/ETH_1m.csv.gz"),
        AssetFile("binance_SOL-USDT_1m", "bars/binance_SOL-USDT_1m"),
    ]
    assert asset_folder("BTC/USD") == "BTC-USD"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"assets": []}, r"data.assets=\[\].*NAME=PATH"),
        ({"assets": ["BTC="]}, "data.assets='BTC='"),
        ({"assets": ["=x.csv"]}, "data.assets=''"),
        ({"assets": ["a,b=x.csv"]}, "without commas"),
        ({"assets": ["A=x.csv", "A=y.csv"]}, "a name of its own, not that of x.csv"),
        ({"assets": ["A/B=x.csv", "A-B=y.csv"]}, "a name of its own"),
        ({"assets": ["A/B=x.csv", "a-b=y.csv"]}, "a name of its own"),  # one folder on some disks
        ({"assets": ["x.csv"], "path": "y.csv"}, "null with data.path"),
        ({"assets": ["x.csv"], "asset": "ETH/USD"}, "data.asset='ETH/USD' is not allowed: unset"),
    ],
)
def test_other_lists_of_assets_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**config)


# The table.


def test_one_asset_gives_the_very_table_that_its_path_gives(files, tmp_path):
    folder, assets = files
    one = build(assets[:1], timeframes=["5min"])
    path = alone(folder / "big.parquet", asset="BIG/USD", timeframes=["5min"])
    for table, name in ((one, "assets"), (path, "path")):
        table.save(tmp_path / name)
    of_path, of_assets = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in ("path", "assets")
    )
    assert of_assets == of_path


def test_a_market_in_a_joint_table_is_the_one_of_its_own_file_under_one_normaliser(files, joint):
    folder, _ = files
    assert joint.asset_names == ["BIG/USD", "SMALL/USD"]
    for name in joint.asset_names:
        own = alone(folder / f"{name[:-4].lower()}.parquet", asset=name)
        part = joint.one_asset(name)
        for tensor in ROW_TENSORS:
            assert same(getattr(part, tensor), getattr(own, tensor)), tensor
        assert (part.meta.source_sha256, part.meta.asset) == (own.meta.source_sha256, name)
        assert part.meta.feature_names == own.meta.feature_names
        assert part.loc is joint.loc
    assert joint.segment.unique().tolist() == [0, 1, 2, 3]
    assert (joint.segment.diff() >= 0).all()
    rows = []
    for part in joint.meta.assets:
        first, end = part.splits["train"]
        rows.append(joint.features[first:end][joint.tradable[first:end]].double())
    rows = torch.cat(rows)
    torch.testing.assert_close(joint.loc, rows.mean(0).float())
    torch.testing.assert_close(joint.scale, rows.std(0, correction=0).float())


def test_splits_share_their_dates_and_nobody_trains_on_the_held_out_time_of_another(joint):
    spans = {}
    for name in joint.asset_names:
        table = joint.one_asset(name)
        for split, (first, end) in table.meta.splits.items():
            times = table.timestamp[first:end]
            spans.setdefault(split, []).append((int(times.min()), int(times.max())))
    minute = 60_000_000_000
    least = (WINDOW + EPISODE) * minute
    for earlier, later in (("train", "val"), ("val", "test")):
        end = max(last for _, last in spans[earlier])
        begin = min(first for first, _ in spans[later])
        assert begin - end > least
    assert spans["val"][0][0] == spans["val"][1][0]
    assert spans["test"][0][0] == spans["test"][1][0]
    # The first market ends before the second, whose end is that of the fractions.
    assert spans["test"][0][1] < spans["test"][1][1]


def test_dates_of_the_configuration_cut_every_market(files):
    dates = {"val_start": "2024-03-02T10:00", "test_start": "2024-03-02T18:00"}
    table = build(files[1], **dates)
    for part in table.meta.assets:
        end = part.splits["train"][1]
        assert table.timestamp[end - 1] < pd.Timestamp(dates["val_start"], tz="UTC").value
        assert table.timestamp[end] >= pd.Timestamp(dates["val_start"], tz="UTC").value


@settings(max_examples=50)
@given(seed=st.integers(0, 9_999), markets=st.integers(1, 3), train=st.sampled_from([0.5, 0.7]))
def test_shared_cuts_are_a_partition_by_time_whatever_the_holes(seed, markets, train):
    rng, times = np.random.default_rng(seed), []
    for _ in range(markets):
        rows = np.flatnonzero(rng.random(500) < rng.uniform(0.3, 1.0))
        times.append(rows * 60_000_000_000)
    cfg = DataConfig(train_frac=train, val_frac=0.2)
    cuts = common_splits(times, cfg, window=4, episode_bars=8)
    own = {split: [t[slice(*cut[split])] for t, cut in zip(times, cuts, strict=True)]
           for split in ("train", "val", "test")}  # fmt: skip
    ends = {split: np.concatenate(parts) for split, parts in own.items()}
    assert ends["val"].min() - ends["train"].max() > 12 * 60_000_000_000
    assert ends["test"].min() - ends["val"].max() > 12 * 60_000_000_000
    for split, parts in own.items():  # no bar of a split's time is left out
        low, high = ends[split].min(), ends[split].max()
        for t, part in zip(times, parts, strict=True):
            assert len(part) == ((t >= low) & (t <= high)).sum()


def test_no_run_crosses_a_market_a_hole_or_a_split(joint):
    borders = [part.rows for part in joint.meta.assets]
    for split in ("train", "val", "test"):
        runs = joint.runs(split)
        total = 0
        for first, end in runs.tolist():
            assert any(a <= first < end <= b for a, b in borders)
            assert (joint.timestamp[first:end].diff() == 60_000_000_000).all()
            assert joint.tradable[first:end].all()
            total += end - first
        parts = [joint.one_asset(name) for name in joint.asset_names]
        assert total == sum(int((r[:, 1] - r[:, 0]).sum()) for r in (p.runs(split) for p in parts))
    with pytest.raises(ValueError, match=r"split='live' .*'train', 'val', 'test'"):
        joint.runs("live")


def test_a_joint_table_survives_the_disk(joint, tmp_path):
    joint.save(tmp_path / "bars")
    found = BarTable.load(tmp_path / "bars")
    assert found.meta == joint.meta
    for name in (*ROW_TENSORS, "loc", "scale"):
        assert same(getattr(found, name), getattr(joint, name))


def test_the_table_of_one_file_is_written_as_it_always_was(files, tmp_path):
    alone(files[0] / "big.parquet").save(tmp_path / "bars")
    written = json.loads((tmp_path / "bars" / "table.json").read_text())
    assert list(written) == [
        "asset", "interval_s", "feature_names", "source_name", "source_sha256", "splits",
        "window", "episode_bars", "report",
    ]  # fmt: skip


def test_one_market_of_several_must_be_named(joint):
    for name in (None, "BTC/USD"):
        with pytest.raises(ValueError, match=r"data.asset=.*one of BIG/USD, SMALL/USD"):
            joint.one_asset(name)
    one = joint.one_asset("BIG/USD")
    assert one.one_asset() is one is one.one_asset("BIG/USD")


def test_a_person_reads_of_every_market(joint):
    lines = joint.summary_lines()
    for name in joint.asset_names:
        for split in ("train", "val", "test"):
            assert sum(line.startswith(f"{name}: {split}: ") for line in lines) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: f.iloc[::5],
            "the bars of B/USD are 300 s long and those of A/USD 60 s",
        ),
        (
            lambda f: f.assign(timestamp=f["timestamp"] + pd.Timedelta("30s")),
            "the bars of B/USD do not open at the times of those of A/USD",
        ),
        (
            lambda f: f.assign(open=f["open"].round(0), high=f["high"].round(0) + 1,
                               low=f["low"].round(0) - 1, close=f["close"].round(0)),
            "the prices of B/USD are multiples of 1 and those of A/USD of 0.01",
        ),
        (
            lambda f: f.iloc[2_400:],
            "b.parquet: the train split has 0 bars",
        ),
        (
            lambda f: big(),
            "data.assets: A/USD and B/USD are the same bars: each market once",
        ),
    ],
)  # fmt: skip
def test_markets_that_do_not_fit_are_refused(tmp_path, change, message):
    frame = draw_cents(3_000, seed=3, first=2_000.0)
    assets = write(tmp_path, a=big(), b=change(frame))
    with pytest.raises(ValueError, match=message):
        build(assets)


def test_a_bad_row_is_told_with_its_market_since_files_may_bear_one_name(tmp_path):
    bad = draw_cents(3_000, seed=3, first=2_000.0)
    bad.loc[7, "low"] = -1.0
    assets = []
    for name, frame in (("A/USD", big()), ("B/USD", bad)):
        path = tmp_path / name[0] / "bars.parquet"
        path.parent.mkdir()
        frame.to_parquet(path)
        assets.append(f"{name}={path}")
    told = r"^B/USD: bars\.parquet, row 8 "
    with pytest.raises(ValueError, match=told):
        build(assets)
    with pytest.raises(ValueError, match=told):
        check(CheckConfig(data=DataConfig(assets=assets)))


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=9), st.sampled_from([0.5, 0.01, 1e-5]))
def test_the_grid_of_prices_divides_them_all(counts, tick):
    prices = np.array(counts) * tick
    expected = np.gcd.reduce(np.array(counts)) * tick
    assume(prices.max() < 1e7)
    assert price_grid(prices) == pytest.approx(expected, rel=1e-9)


# The market.


def act(cfg, steps, seed):
    """Random actions for every step: [steps] of TensorDicts."""
    generator = torch.Generator().manual_seed(seed)
    grid = (cfg.paths, cfg.accounts)
    return [
        TensorDict(
            {
                head: torch.randint(count, grid, generator=generator)
                for head, count in cfg.num_actions.items()
            },
            grid,
        )
        for _ in range(steps)
    ]


def play(table, starts, actions, *, seed=0):
    cfg = dataclasses.replace(CFG, paths=len(starts))
    env = MarketEnv(table, cfg, starts=starts, seed=seed)
    state, steps = env.reset(), []
    for action in actions:
        state["action"] = action
        played, state = env.step_and_maybe_reset(state)
        steps.append(played)
    return torch.stack(steps, -1)


@settings(max_examples=15)
@given(which=st.integers(0, 1), seed=st.integers(0, 9_999))
def test_every_step_of_a_market_in_a_joint_table_is_that_of_its_own_table(
    joint, files, which, seed
):
    """But for pointers, which count from the market's first row."""
    name, first = joint.asset_names[which], joint.meta.assets[which].rows[0]
    own = alone(files[0] / f"{name[:-4].lower()}.parquet", asset=name)
    rng = torch.Generator().manual_seed(seed)
    starts = torch.randint(WINDOW, len(own) - EPISODE, (4, 1), generator=rng) + torch.tensor(
        [[0, EPISODE]]
    )
    actions = act(dataclasses.replace(CFG, paths=4), EPISODE, seed)
    there, here = play(joint, starts + first, actions), play(own, starts, actions)
    for step in (there, there["next"]):
        step["bar"] -= first
        step["ledger"][..., LEDGER.index("last_bar")] -= first
    there, here = there.flatten_keys("."), here.flatten_keys(".")
    assert there.keys() == here.keys()
    for key, value in there.items():
        assert same(value, here[key]), key
    assert here["next.truncated"][..., -1, :].all()


def test_lanes_sample_the_markets_by_their_bars(joint):
    env = MarketEnv(joint, dataclasses.replace(CFG, paths=4_000, accounts=1), seed=5)
    bar = env.reset()["bar"].flatten()
    (first, end), _ = (part.rows for part in joint.meta.assets)
    share = ((bar >= first) & (bar < end)).double().mean()
    starts = []
    for name in joint.asset_names:
        runs = joint.one_asset(name).runs("train")
        lengths = runs[:, 1] - runs[:, 0] - WINDOW + 1 - EPISODE
        starts.append(int(lengths.clamp_min(0).sum()))
    assert share == pytest.approx(starts[0] / sum(starts), abs=0.03)
    assert 0.2 < starts[0] / sum(starts) < 0.8


def test_training_episodes_stay_in_their_market_and_the_trace_names_it(joint, tmp_path):
    env = MarketEnv(joint, CFG, seed=2)
    torch.manual_seed(1)
    batch = env.rollout(3 * EPISODE, break_when_any_done=False)
    trace = tmp_path / "train_actions.csv"
    with TraceWriter(trace, joint, CFG, run_id="r", split="train") as writer:
        writer.write(batch)
    rows = read_trace(trace)
    assert set(rows["asset"]) == set(joint.asset_names)
    assert (rows.groupby(["lane", "episode"])["asset"].nunique() == 1).all()
    for name in joint.asset_names:
        table = joint.one_asset(name)
        own = rows[rows["asset"] == name]
        at = np.searchsorted(table.timestamp.numpy(), own["timestamp"].astype("int64"))
        prices = own[["open", "high", "low", "close", "volume"]].to_numpy()
        np.testing.assert_array_equal(table.ohlcv.numpy()[at], prices)
    about = json.loads(trace.with_suffix(".json").read_text())
    assert list(about["assets"]) == joint.asset_names
    assert about["asset"] == "BIG/USD+SMALL/USD"


# No look into the future, of the same market or of the other.


@pytest.mark.parametrize("which", ["big", "small", "both"])
@pytest.mark.parametrize("at_text", ["2024-03-02T10:00", "2024-03-02T23:30"])
def test_another_future_of_any_market_changes_no_bit_of_what_came_before(
    files, tmp_path, which, at_text
):
    cut = pd.Timestamp(at_text, tz="UTC")
    frames = {"big": big(), "small": small()}
    for seed, name in enumerate(frames):
        if which in (name, "both"):
            frame = frames[name]
            noise = draw_cents(len(frame), seed=90 + seed, first=9_000.0, move=0.02).iloc[:, 1:]
            after = (frame["timestamp"] > cut).to_numpy()
            frame.iloc[after, 1:] = noise.to_numpy()[after]
    config = {"timeframes": ["5min", "15min"]}
    dates = {"val_start": "2024-03-02T10:00", "test_start": "2024-03-02T23:30"}
    one = build(files[1], **config, **dates)
    two = build(write(tmp_path, **frames), **config, **dates)
    assert [part.splits for part in one.meta.assets] == [part.splits for part in two.meta.assets]
    assert torch.equal(one.loc, two.loc)
    assert torch.equal(one.scale, two.scale)
    before = one.timestamp <= cut.value
    for name in ROW_TENSORS:
        assert same(getattr(one, name)[before], getattr(two, name)[before]), name
    assert not same(one.features, two.features)
    batches = []
    for table in (one, two):
        torch.manual_seed(4)
        env = MarketEnv(table, CFG, seed=9)
        batches.append(env.rollout(2 * EPISODE, break_when_any_done=False))
    same_bits = batches[0].apply(torch.nan_to_num) == batches[1].apply(torch.nan_to_num)
    assert same_bits.all()
