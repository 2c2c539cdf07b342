"""A trace's actions, played again: its own numbers, bit for bit, or the first row that differs."""

import dataclasses

import numpy as np
import pytest
import torch
from torchrl.envs.utils import ExplorationType, set_exploration_type

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS
from envs.market import MarketEnv
from envs.trace import TraceWriter
from pipelines.held_out.recorded import Recording, first_difference, play_recording
from random_walk import draw_ticks

CFG = EnvConfig(
    paths=5, accounts=3, workers=0, window=8, episode_bars=30, trailing=True,
    risk_pct=100.0, max_leverage=40.0, funding_bps_per_day=5.0, max_participation=5.0,
)  # fmt: skip


def make_table(count=500, seed=3):
    table = BarTable.from_arrays(draw_ticks(count, seed=seed), interval_s=900.0)
    return dataclasses.replace(
        table, meta=dataclasses.replace(table.meta, source_sha256=f"walk {seed}")
    )


@pytest.fixture(scope="module")
def table():
    return make_table()


@pytest.fixture(scope="module")
def path(tmp_path_factory, table):
    """A trace of 100 random steps: truncated, ruined and unfinished episodes."""
    path = tmp_path_factory.mktemp("run") / "train_actions.csv"
    env = MarketEnv(table, CFG, seed=1)
    torch.manual_seed(2)
    with (
        set_exploration_type(ExplorationType.RANDOM),
        TraceWriter(path, table, CFG, run_id="r", split="train") as trace,
    ):
        trace.write(env.rollout(100, break_when_any_done=False))
    return path


def test_the_recorded_actions_give_every_number_again(path, table):
    recording = Recording.read(path, table)
    last = recording.rows.iloc[np.cumsum(recording.length) - 1]
    assert len(set(zip(last["terminated"], last["truncated"], strict=True))) == 3
    fills = play_recording(recording, table, recording.cfg)
    assert fills.shape == (100 * CFG.lanes, len(FILLS))
    assert first_difference(recording, fills) is None


def test_episodes_in_parts_are_the_same(path, table, monkeypatch):
    recording = Recording.read(path, table)
    whole = play_recording(recording, table, recording.cfg)
    monkeypatch.setattr("pipelines.held_out.recorded._LANES", 7)
    assert np.array_equal(play_recording(recording, table, recording.cfg), whole, equal_nan=True)


@pytest.mark.parametrize(
    ("key", "value"), [("taker_fee_bps", 5.0001), ("trailing", False), ("tick_size", 0.2)]
)
def test_other_rules_give_other_numbers_and_the_first_is_named(path, table, key, value):
    recording = Recording.read(path, table)
    other = dataclasses.replace(recording.cfg, **{key: value})
    found = first_difference(recording, play_recording(recording, table, other))
    assert found is not None
    assert found.startswith("lane ")
    assert "the simulator" in found


def test_an_edited_cell_is_found(path, table):
    recording = Recording.read(path, table)
    recording.rows.loc[71, "equity"] += 1e-9
    found = first_difference(recording, play_recording(recording, table, recording.cfg))
    row = recording.rows.loc[71]
    assert found.startswith(f"lane {row['lane']}, episode {row['episode']}, step {row['step']}: ")
    assert "equity" in found


def test_other_bars_and_what_is_no_whole_episode_are_refused(path, table, tmp_path):
    with pytest.raises(ValueError, match="sha256 walk 3"):
        Recording.read(path, make_table(seed=4))
    lines = path.read_text().splitlines(keepends=True)
    copy = tmp_path / "cut.csv"
    copy.with_suffix(".json").write_text(path.with_suffix(".json").read_text())
    copy.write_text("".join([lines[0], *lines[16:]]))
    with pytest.raises(ValueError, match=r"lane 0, episode 0 is step 1"):
        Recording.read(copy, table)
    copy.write_text(lines[0])
    with pytest.raises(ValueError, match="no rows"):
        Recording.read(copy, table)
    short = dataclasses.replace(table, timestamp=table.timestamp[:100])
    with pytest.raises(ValueError, match=r"which .* does not have"):
        Recording.read(path, short)


def test_a_trace_that_is_not_there_is_named_itself(tmp_path, table):
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        Recording.read(tmp_path / "none.csv", table)


def test_a_half_of_a_trace_or_of_what_lies_beside_it_is_refused_by_its_name(path, table, tmp_path):
    trace, beside = tmp_path / "half.csv", tmp_path / "half.json"
    whole = path.read_bytes(), path.with_suffix(".json").read_bytes()
    for rows, about, named in (
        (whole[0][: len(whole[0]) // 2 - 7], whole[1], trace),
        (whole[0], whole[1][: len(whole[1]) // 2], beside),
    ):
        trace.write_bytes(rows)
        beside.write_bytes(about)
        with pytest.raises(ValueError, match=f"^{named}: "):
            Recording.read(trace, table)
