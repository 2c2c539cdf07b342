"""The table: what it is made of, what may change what, and that it survives the disk."""

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from envs.bar_table import BarTable
from envs.data_config import DataConfig
from envs.features import FEATURE_NAMES, WARMUP_ROWS
from envs.known_config import SyntheticConfig
from envs.table import build_table, cut_table, load_columns

ROWS, WINDOW, EPISODE = 3000, 16, 32
FIELDS = [field.name for field in dataclasses.fields(BarTable) if field.name != "meta"]


def market(rows=ROWS, seed=0, move=1e-3):
    """A frame of one-minute bars."""
    rng = np.random.default_rng(seed)
    close = 30_000.0 * np.exp(np.cumsum(rng.normal(0.0, move, rows)))
    open_ = np.append(close[0], close[:-1])
    return pd.DataFrame(
        {
            "timestamp": pd.date_range("2024-03-01", periods=rows, freq="min", tz="UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * 1.0003,
            "low": np.minimum(open_, close) * 0.9998,
            "close": close,
            "volume": rng.lognormal(0.0, 1.0, rows) * (rng.random(rows) > 0.2),
        }
    )


def build(frame, folder, **config):
    path = folder / "bars.parquet"
    frame.to_parquet(path)
    return build_table(DataConfig(path=str(path), **config), window=WINDOW, episode_bars=EPISODE)


@pytest.fixture(scope="module")
def frame():
    """A market with two holes, one of them within the train split and one in val."""
    return market().drop(index=[*range(700, 720), *range(2200, 2210)])


@pytest.fixture(scope="module")
def table(frame, tmp_path_factory):
    return build(frame, tmp_path_factory.mktemp("market"))


# Layout.


def test_a_table_has_the_shapes_and_types_that_its_docstring_states(table, frame):
    num_bars, num_features = len(frame), len(FEATURE_NAMES)
    shapes = {
        "timestamp": ((num_bars,), torch.int64),
        "ohlcv": ((num_bars, 5), torch.float64),
        "features": ((num_bars, num_features), torch.float32),
        "segment": ((num_bars,), torch.int64),
        "tradable": ((num_bars,), torch.bool),
        "loc": ((num_features,), torch.float32),
        "scale": ((num_features,), torch.float32),
    }
    assert {
        name: (tuple(getattr(table, name).shape), getattr(table, name).dtype) for name in FIELDS
    } == shapes
    assert len(table) == num_bars
    assert table.meta.feature_names == list(FEATURE_NAMES)
    assert (table.meta.window, table.meta.episode_bars) == (WINDOW, EPISODE)
    assert (table.meta.source_name, table.meta.interval_s) == ("bars.parquet", 60.0)
    np.testing.assert_array_equal(table.ohlcv.numpy(), frame.iloc[:, 1:].to_numpy())


def test_warm_up_rows_of_every_segment_are_not_tradable(table):
    age = torch.cat([torch.arange(int(n)) for n in table.segment.bincount()])
    assert table.segment.unique().tolist() == [0, 1, 2]
    assert torch.equal(table.tradable, age >= WARMUP_ROWS)
    assert torch.isfinite(table.features[table.tradable]).all()


def test_no_run_spans_a_hole_a_border_or_a_warm_up_row(table):
    step_ns = 60_000_000_000
    total = 0
    for split, (first, end) in table.meta.splits.items():
        for begin, stop in table.runs(split).tolist():
            assert first <= begin < stop <= end
            assert table.tradable[begin:stop].all()
            assert (table.timestamp[begin:stop].diff() == step_ns).all()
            total += stop - begin
    assert total == sum(int(table.tradable[a:b].sum()) for a, b in table.meta.splits.values())


def test_splits_are_disjoint_in_time_by_at_least_window_and_episode(table):
    times = {name: table.timestamp[a:b] for name, (a, b) in table.meta.splits.items()}
    least = (WINDOW + EPISODE) * 60_000_000_000
    assert times["val"].min() - times["train"].max() > least
    assert times["test"].min() - times["val"].max() > least


def test_an_unknown_split_is_refused_by_name(table):
    with pytest.raises(ValueError, match=r"split='live' .*'train', 'val', 'test'"):
        table.runs("live")


def test_the_report_counts_what_is_left_to_trade(table):
    report = table.meta.report
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["holes"] == 2
    assert report["tradable_bars"] == int(table.tradable.sum())
    for name, (first, end) in table.meta.splits.items():
        assert report[f"{name}_bars"] == end - first
        assert report[f"{name}_tradable_bars"] == int(table.tradable[first:end].sum())


def test_the_summary_says_what_each_split_has_to_trade(table):
    lines = table.summary_lines()
    assert lines[0].startswith(f"{len(table):,} bars of 60 s, 2024-03-01 00:00 to ")
    first, end = table.meta.splits["train"]
    tradable = table.meta.report["train_tradable_bars"]
    assert lines[-3].startswith(f"train: {tradable:,} tradable bars of {end - first:,}, 2024-03-01")
    assert lines[-3].endswith("unbroken runs: 2")
    assert [line.split(":")[0] for line in lines[-3:]] == ["train", "val", "test"]
    assert len(BarTable.from_arrays(BARS).summary_lines()) == 3


# Leakage.


@pytest.mark.parametrize("kind", ["noise", "constant"])
def test_val_and_test_bars_change_neither_the_normaliser_nor_the_train_features(
    table, frame, tmp_path, kind
):
    first = table.meta.splits["val"][0]
    changed = frame.reset_index(drop=True)
    prices = ["open", "high", "low", "close"]
    if kind == "noise":
        other = market(seed=8, move=0.2).iloc[: len(changed) - first]
        changed.loc[first:, [*prices, "volume"]] = other[[*prices, "volume"]].to_numpy()
    else:
        changed.loc[first:, prices] = 1.0
        changed.loc[first:, "volume"] = 0.0
    found = build(changed, tmp_path)
    assert found.meta.splits == table.meta.splits
    assert torch.equal(found.loc, table.loc)
    assert torch.equal(found.scale, table.scale)
    assert torch.equal(found.features[:first].nan_to_num(9), table.features[:first].nan_to_num(9))
    assert not torch.equal(
        found.features[first:].nan_to_num(9), table.features[first:].nan_to_num(9)
    )


def test_the_normaliser_is_that_of_the_tradable_train_rows(table):
    first, end = table.meta.splits["train"]
    rows = table.features[first:end][table.tradable[first:end]].double()
    torch.testing.assert_close(table.loc.double(), rows.mean(0), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(
        table.scale.double(), rows.std(0, correction=0), rtol=1e-5, atol=1e-9
    )


# Refusals.


def test_a_file_too_short_for_an_episode_in_a_split_is_refused_with_counts(tmp_path):
    with pytest.raises(ValueError, match=r"bars.parquet: the train split has 210 bars.* is 0 bars"):
        build(market(300), tmp_path)
    with pytest.raises(ValueError, match=r"the val split has 22 bars.*16 \+ 32 = 48 .*, 26 more"):
        build(market(700), tmp_path, train_frac=0.8, val_frac=0.1)


def test_a_smaller_embargo_than_window_and_episode_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"data.embargo_bars=47 .* at least .* 16 \+ 32 = 48"):
        build(market(), tmp_path, embargo_bars=47)


# The disk, other processes, other devices.


def test_a_saved_table_is_the_same_table(table, tmp_path):
    table.save(tmp_path / "table")
    loaded = BarTable.load(tmp_path / "table")
    assert loaded.meta == table.meta
    for name in FIELDS:
        found, expected = getattr(loaded, name), getattr(table, name)
        assert type(found) is torch.Tensor
        assert found.dtype == expected.dtype
        assert torch.equal(found.nan_to_num(), expected.nan_to_num())
        assert torch.equal(found.isnan(), expected.isnan())
    for split in ("train", "val", "test"):
        assert torch.equal(loaded.runs(split), table.runs(split))


def test_a_loaded_table_is_mapped_and_cannot_harm_the_file(table, tmp_path):
    table.save(tmp_path / "table")
    one, other = BarTable.load(tmp_path / "table"), BarTable.load(tmp_path / "table")
    mapped = Path("/proc/self/maps")
    if mapped.exists():
        assert mapped.read_text().count("ohlcv.npy") == 2
    one.ohlcv[0, 0] = 123.0
    assert other.ohlcv[0, 0] == table.ohlcv[0, 0]
    assert BarTable.load(tmp_path / "table").ohlcv[0, 0] == table.ohlcv[0, 0]


def test_a_saved_table_is_never_overwritten_and_never_half_there(table, tmp_path):
    table.save(tmp_path / "table")
    with pytest.raises(OSError, match="not empty"):
        table.save(tmp_path / "table")
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_an_array_file_with_a_pickle_in_it_is_refused(table, tmp_path):
    table.save(tmp_path / "table")
    np.save(tmp_path / "table" / "loc.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"loc\.npy: not an array file"):
        BarTable.load(tmp_path / "table")


def test_half_of_what_describes_a_table_is_refused_by_its_name(table, tmp_path):
    table.save(tmp_path / "bars")
    meta = tmp_path / "bars" / "table.json"
    meta.write_bytes(meta.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"^{meta}: "):
        BarTable.load(tmp_path / "bars")


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no bar table here \(table.json is missing\)"):
        BarTable.load(tmp_path)


def test_a_table_moves_as_a_whole_and_pickles(table):
    moved = table.to("meta")
    assert {getattr(moved, name).device.type for name in FIELDS} == {"meta"}
    assert moved.meta is table.meta
    assert torch.equal(pickle.loads(pickle.dumps(table)).ohlcv, table.ohlcv)  # noqa: S301


# Tables from bare numbers.

BARS = [[10.0, 12.0, 9.0, 11.0, 5.0], [11.0, 11.0, 8.0, 8.8, 0.0], [8.8, 9.0, 8.0, 8.8, 1.0]]


@pytest.mark.parametrize("form", [list, np.array, torch.DoubleTensor])
def test_a_table_from_arrays_is_one_tradable_segment(form):
    table = BarTable.from_arrays(form(BARS))
    assert table.ohlcv.tolist() == BARS
    assert table.segment.tolist() == [0, 0, 0]
    assert table.tradable.all()
    assert table.features[:, 0].tolist() == pytest.approx([0.0, np.log(0.8), 0.0])
    assert table.meta.feature_names == ["log_return_1"]
    assert (table.loc.tolist(), table.scale.tolist()) == ([0.0], [1.0])
    for split in ("train", "val", "test"):
        assert table.runs(split).tolist() == [[0, 3]]
    start = pd.Timestamp("2025-01-01", tz="UTC").as_unit("ns").value
    assert table.timestamp.tolist() == [start + i * 60_000_000_000 for i in range(3)]


def test_a_table_from_arrays_takes_interval_start_features_and_splits():
    features = [[1.0, 5.0], [3.0, 5.0], [float("nan"), 5.0]]
    splits = {"train": (0, 2), "val": (1, 3), "test": (2, 3)}
    table = BarTable.from_arrays(
        BARS, interval_s=900, start="2024-01-01T01:00+01:00", features=features, splits=splits
    )
    assert table.timestamp[0] == pd.Timestamp("2024-01-01", tz="UTC").as_unit("ns").value
    assert table.timestamp.diff().tolist() == [900_000_000_000] * 2
    assert table.tradable.tolist() == [True, True, False]
    assert (table.loc.tolist(), table.scale.tolist()) == ([2.0, 5.0], [1.0, 1.0])
    assert table.runs("val").tolist() == [[1, 2]]
    assert table.runs("test").tolist() == []


def test_a_table_shares_no_memory_with_what_it_was_made_of():
    bars = torch.tensor(BARS, dtype=torch.float64)
    table = BarTable.from_arrays(bars)
    bars[0, 0] = 99.0
    assert table.ohlcv[0, 0] == 10.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ohlcv": [[1.0, 1.0, 1.0, 1.0]]}, r"ohlcv has shape \(1, 4\): \[N, 5\]"),
        ({"ohlcv": np.zeros((0, 5))}, r"ohlcv has shape \(0, 5\)"),
        ({"ohlcv": [*BARS, [10.0, 9.0, 9.0, 9.0, 1.0]]}, r"TEST, row 4 .*00:03:00.*high is under"),
        ({"ohlcv": BARS, "interval_s": 0}, r"interval_s=0 is not allowed"),
        ({"ohlcv": BARS, "features": [[1.0]]}, r"features have shape \(1, 1\): \[3, F\]"),
        ({"ohlcv": BARS, "splits": {"train": (0, 2)}}, r"splits\['val'\]=missing"),
        (
            {"ohlcv": BARS, "splits": dict.fromkeys(("train", "val", "test"), (0, 4))},
            r"within 0..3",
        ),
    ],
)
def test_arrays_that_are_no_table_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BarTable.from_arrays(**arguments)


# The default file.


def test_the_default_file_holds_episodes_of_a_day_in_every_split():
    table = build_table(DataConfig(), window=64, episode_bars=96)
    assert table.meta.interval_s == 900.0
    for split in ("train", "val", "test"):
        runs = table.runs(split)
        assert (runs[:, 1] - runs[:, 0]).max() > 1000
    assert table.meta.report["train_tradable_bars"] == 5154
    assert torch.isfinite(table.features[table.tradable]).all()
    assert (table.scale > 0).all()


def test_columns_of_ones_own_that_do_not_fit_the_bars_or_their_names_are_refused():
    cfg = DataConfig(synthetic=SyntheticConfig(market="drift", bars=4_096))
    bars, columns, names = load_columns(cfg)
    more = np.column_stack([columns, columns[:, 0]])
    for given, named, found in (
        (more.astype(np.float64), [*names, "mine"], "float64"),
        (more, names, f"{len(names) + 1}]"),
        (more, [*names, names[0]], f"{len(names) + 1}]"),
        (more[:-1], [*names, "mine"], f"{len(columns) - 1}, "),
        (pd.DataFrame(more), [*names, "mine"], "DataFrame"),
    ):
        with pytest.raises(ValueError, match=r"^columns=") as refused:
            cut_table(bars, given, named, cfg, window=8, episode_bars=16)
        assert found in str(refused.value).split("is not allowed")[0]
    table = cut_table(bars, more, [*names, "mine"], cfg, window=8, episode_bars=16)
    assert table.meta.feature_names[-1] == "mine"


def test_columns_that_are_filled_anew_change_no_table_that_was_made_of_them():
    cfg = DataConfig(synthetic=SyntheticConfig(market="drift", bars=4_096))
    bars, columns, names = load_columns(cfg)
    first = cut_table(bars, columns, names, cfg, window=8, episode_bars=16)
    before = first.features.clone()
    columns[:] = columns[::-1] + 1.0
    second = cut_table(bars, columns, names, cfg, window=8, episode_bars=16)
    assert torch.equal(first.features, before)
    assert not torch.equal(second.features, before)
