"""The trace as a file: every row, its order, its numbers, and what happens when things go wrong."""

import csv
import dataclasses
import json
import resource
import struct

import numpy as np
import pandas as pd
import pytest
import torch
from tensordict import TensorDict

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS, HEADS, REASONS
from envs.trace import TraceWriter
from envs.trace_reader import pack_trace, read_trace
from envs.trace_schema import COLUMNS

# The columns of docs/simulator.md, letter for letter.
DOCUMENTED = """
run_id, split, asset, env_frame, lane, episode, step, timestamp, open, high, low, close, volume,
direction, size, stop_loss, take_profit, direction_value, risk_multiple, stop_distance_bps,
take_profit_r, log_prob, state_value, open_exit_reason, open_exit_units, open_exit_price,
requested_units, entry_units, entry_fill_price, exit_reason, exit_units, exit_price,
fee, slippage_cost, funding, cash, position, entry_price, stop_price, take_profit_price, equity,
drawdown, reward, terminated, truncated
"""
AWKWARD = [-0.0, 0.0, 1e-300, 5e-324, 0.1 + 0.2, 1 / 3, 1.7976931348623157e308, 123456789.1, -1e-7]


@pytest.fixture(scope="module")
def table():
    close = 100 + np.arange(400) / 10
    return BarTable.from_arrays(
        np.stack([close, close + 0.2, close - 0.2, close, np.arange(400.0)], 1),
        interval_s=900.0,
        start="2025-01-01",
        asset="BTC/USD",
    )


def rollout(*shape, seed=0, first_bar=0, done=0.1):
    """A random rollout [..., T]; the fills are numbers, not a market's."""
    rng = torch.Generator().manual_seed(seed)
    fills = torch.randn(*shape, len(FILLS), generator=rng, dtype=torch.float64) * 1e5
    for name in ("open_exit_reason", "exit_reason"):
        codes = torch.randint(len(REASONS), shape, generator=rng)
        fills[..., FILLS.index(name)] = codes.double()
    fills[..., FILLS.index("entry_units")][torch.rand(shape, generator=rng) < 0.5] = torch.nan
    sizes = EnvConfig().num_actions
    action = {head: torch.randint(n, shape, generator=rng) for head, n in sizes.items()}
    action |= {f"{head}_log_prob": torch.randn(shape, generator=rng) for head in sizes}
    bar = first_bar + 1 + torch.arange(shape[-1]).expand(shape)
    terminated, truncated = torch.rand(2, *shape, 1, generator=rng) < done / 2
    following = {
        "bar": bar.unsqueeze(-1),
        "fills": fills,
        "terminated": terminated,
        "truncated": truncated,
    }
    return TensorDict(
        {
            "action": TensorDict(action, shape),
            "state_value": torch.randn(*shape, 1, generator=rng),
            "next": TensorDict(following, shape),
        },
        shape,
    )


def write(path, table, *batches, cfg=None, alive=None, **kwargs):
    kwargs = {"run_id": "run-1", "split": "train"} | kwargs
    with TraceWriter(path, table, cfg or EnvConfig(), **kwargs) as trace:
        for batch in batches:
            trace.write(batch, alive)
    return read_trace(path)


def write_all(trace, batches):
    for batch in batches:
        trace.write(batch)


def cells(path):
    """The file as text, without any reader's interpretation."""
    with open(path, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def bits(value):
    return struct.pack("<d", value)


def test_columns_are_the_documented_ones_in_order(tmp_path, table):
    assert list(COLUMNS) == [name.strip() for name in DOCUMENTED.split(",")]
    write(tmp_path / "a.csv", table, rollout(2, 3))
    assert (tmp_path / "a.csv").read_text().split("\n")[0].split(",") == list(COLUMNS)


def test_rows_are_sorted_by_time_then_lane_over_all_batch_dimensions(tmp_path, table):
    batch = rollout(2, 3, 4, 5, first_bar=10)  # [workers, paths, accounts, T]
    rows = write(tmp_path / "a.csv", table, batch)
    lanes = 2 * 3 * 4
    assert rows["env_frame"].tolist() == list(range(lanes * 5))
    assert rows["lane"].tolist() == list(range(lanes)) * 5
    cash = batch["next", "fills"][..., FILLS.index("cash")]
    frame, (w, p, k, t) = 2 * lanes + 17, (1, 1, 1, 2)
    assert np.ravel_multi_index((w, p, k), (2, 3, 4)) == 17
    assert rows.set_index("env_frame").loc[frame, "cash"] == cash[w, p, k, t].item()


def test_market_columns_are_those_of_the_bar_in_which_the_action_executed(tmp_path, table):
    write(tmp_path / "a.csv", table, rollout(1, 3, first_bar=7))
    first = cells(tmp_path / "a.csv")[0]
    assert first["timestamp"] == "2025-01-01T02:00:00Z"  # bar 8 of 15 minutes each
    assert [float(first[c]) for c in ("open", "high", "low", "close", "volume")] == (
        table.ohlcv[8].tolist()
    )
    assert (first["run_id"], first["split"], first["asset"]) == ("run-1", "train", "BTC/USD")


def test_actions_are_written_as_indices_and_as_their_meaning(tmp_path, table):
    batch = rollout(1, 1)
    batch["action"] = TensorDict(
        {
            "direction": torch.tensor([[0]]),
            "size": torch.tensor([[2]]),
            "stop_loss": torch.tensor([[3]]),
            "take_profit": torch.tensor([[1]]),
        },
        [1, 1],
    )
    cfg = EnvConfig(stop_step_bps=20.0, risk_multiples=[0.5, 1.0, 1.7], take_profit_r=[0.0, 2.5])
    row = write(tmp_path / "a.csv", table, batch, cfg=cfg).iloc[0]
    assert row[list(HEADS)].tolist() == [0, 2, 3, 1]
    meaning = ["direction_value", "risk_multiple", "stop_distance_bps", "take_profit_r"]
    assert row[meaning].tolist() == [-1, 1.7, 80.0, 2.5]


def test_log_prob_is_the_sum_of_the_heads_and_both_are_empty_when_absent(tmp_path, table):
    batch = rollout(1, 4)
    rows = write(tmp_path / "a.csv", table, batch)
    total = sum(batch["action", f"{head}_log_prob"].double() for head in HEADS)
    assert rows["log_prob"].to_numpy() == pytest.approx(total[0].numpy(), rel=1e-12)
    assert rows["state_value"].tolist() == batch["state_value"].double().flatten().tolist()
    del batch["action", "size_log_prob"], batch["state_value"]
    write(tmp_path / "b.csv", table, batch)
    row = cells(tmp_path / "b.csv")[0]
    assert row["log_prob"] == row["state_value"] == ""


def test_nothing_is_an_empty_cell_and_reasons_are_words(tmp_path, table):
    batch = rollout(1, len(REASONS))
    fills = batch["next", "fills"]
    fills[...] = torch.nan
    fills[..., FILLS.index("exit_reason")] = torch.arange(len(REASONS)).double()
    rows = write(tmp_path / "a.csv", table, batch)
    text = cells(tmp_path / "a.csv")
    assert [row["exit_reason"] for row in text] == list(REASONS)
    assert {row["open_exit_reason"] + row["entry_units"] + row["equity"] for row in text} == {""}
    assert rows["exit_reason"].tolist() == list(REASONS)
    assert rows["entry_units"].isna().all()


def test_floats_read_back_bit_for_bit(tmp_path, table):
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 2**64, 4000, dtype=np.uint64).view(np.float64)
    values = np.concatenate([AWKWARD, raw[np.isfinite(raw)], rng.normal(0, 1e5, 2000).round(1)])
    batch = rollout(1, len(values))
    batch["next", "bar"][:] = 1
    batch["next", "fills"][0, :, FILLS.index("cash")] = torch.from_numpy(values)
    rows = write(tmp_path / "a.csv", table, batch)
    assert rows["cash"].to_numpy().tobytes() == values.tobytes()
    plain = [bits(float(row["cash"])) for row in cells(tmp_path / "a.csv")]
    assert plain == [bits(value) for value in values]


def test_episodes_and_steps_are_counted_across_batches_as_a_loop_would(tmp_path, table):
    batches = [rollout(3, 4, steps, seed=steps, done=0.4) for steps in (1, 7, 1, 16)]
    rows = write(tmp_path / "a.csv", table, *batches)
    episode, step, expected = [0] * 12, [0] * 12, []
    for batch in batches:
        done = (batch["next", "terminated"] | batch["next", "truncated"]).reshape(12, -1)
        for t in range(done.shape[1]):
            for lane in range(12):
                expected.append((episode[lane], step[lane]))
                step[lane] += 1
                if done[lane, t]:
                    episode[lane], step[lane] = episode[lane] + 1, 0
    assert list(zip(rows["episode"], rows["step"], strict=True)) == expected
    assert rows["env_frame"].tolist() == list(range(12 * 25))


def test_rows_that_are_not_alive_are_left_out_and_not_counted(tmp_path, table):
    batch = rollout(2, 5, done=0)
    batch["next", "terminated"][0, 1] = True
    alive = torch.ones(2, 5, dtype=torch.bool)
    alive[0, 2:] = False
    rows = write(tmp_path / "a.csv", table, batch, alive=alive)
    assert rows[rows["lane"] == 0]["step"].tolist() == [0, 1]
    assert rows[rows["lane"] == 0]["terminated"].tolist() == [False, True]
    assert rows[rows["lane"] == 1]["env_frame"].tolist() == [1, 3, 5, 7, 9]
    assert set(rows["episode"]) == {0}


def test_thinning_keeps_whole_lanes_as_they_are_in_the_full_trace(tmp_path, table):
    batches = [rollout(4, 2, 6, seed=seed) for seed in range(3)]
    full = write(tmp_path / "full.csv", table, *batches)
    thin = write(tmp_path / "thin.csv", table, *batches, lanes=[5, 0])
    assert len(thin) == 2 * 18
    expected = full[full["lane"].isin([0, 5])].reset_index(drop=True)
    pd.testing.assert_frame_equal(thin, expected, check_exact=True)
    with pytest.raises(ValueError, match=r"lanes=8 is not allowed: from 0 to 7"):
        write(tmp_path / "b.csv", table, *batches, lanes=[8])


def test_parquet_holds_the_same_rows(tmp_path, table):
    batches = [rollout(4, 6, seed=seed) for seed in range(2)]
    as_csv = write(tmp_path / "a.csv", table, *batches)
    as_parquet = read_trace(pack_trace(tmp_path / "a.csv"))
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".json", ".parquet"]
    pd.testing.assert_frame_equal(as_parquet, as_csv, check_exact=True)


def test_a_trace_goes_on_from_a_mark_as_if_it_had_never_stopped(tmp_path, table):
    batches = [rollout(4, 6, seed=seed) for seed in range(5)]
    write(tmp_path / "whole.csv", table, *batches)
    path = tmp_path / "stopped.csv"
    with TraceWriter(path, table, EnvConfig(), run_id="run-1", split="train") as trace:
        write_all(trace, batches[:2])
        mark = trace.mark(2)
        assert path.stat().st_size >= mark.size
        write_all(trace, batches[2:4])  # what the checkpoint does not know is cut off
        assert trace.mark(2) == mark
        assert trace.mark(4).size > mark.size
    with TraceWriter(path, table, EnvConfig(), run_id="run-1", split="train", resume=mark) as trace:
        assert trace.mark(0).size == mark.size
        write_all(trace, batches[2:])
    assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_trace_that_does_not_hold_what_the_mark_counts_on_is_refused(tmp_path, table):
    path = tmp_path / "a.csv"
    with TraceWriter(path, table, EnvConfig(), run_id="run-1", split="train") as trace:
        trace.write(rollout(4, 6))
        mark = trace.mark(1)
    go_on = {"run_id": "run-1", "split": "train", "resume": mark}
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"a\.csv: \d+ bytes long, and the checkpoint counts on"):
        TraceWriter(path, table, EnvConfig(), **go_on)
    path.write_text("timestamp,open\n" * 10_000)
    with pytest.raises(ValueError, match=r"a\.csv: not a trace"):
        TraceWriter(path, table, EnvConfig(), **go_on)
    path.rename(tmp_path / "b.csv")
    path.symlink_to(tmp_path / "b.csv")
    with pytest.raises(ValueError, match="symbolic link"):
        TraceWriter(path, table, EnvConfig(), **go_on)
    with pytest.raises(ValueError, match=r"a name in \.csv"):
        TraceWriter(tmp_path / "a.parquet", table, EnvConfig(), run_id="r", split="train")


def test_a_rollout_may_be_overwritten_once_write_returns(tmp_path, table):
    batch = rollout(4, 6)
    cash = batch["next", "fills"][..., FILLS.index("cash")].T.flatten().tolist()
    with TraceWriter(tmp_path / "a.csv", table, EnvConfig(), run_id="r", split="val") as trace:
        trace.write(batch)
        batch["next", "fills"].zero_()
        batch["action", "size"].zero_()
    assert read_trace(tmp_path / "a.csv")["cash"].tolist() == cash


def test_the_sidecar_says_from_where_on_the_parameters_are_others(tmp_path, table):
    path, about = tmp_path / "a.csv", tmp_path / "a.json"

    def go_on(mark, **changes):
        kept = {"run_id": "run-1", "split": "train", "resume": mark}
        with TraceWriter(path, table, EnvConfig(**changes), **kept) as trace:
            trace.write(rollout(4, 6))
            return trace.mark(1), json.loads(about.read_text()).get("changed")

    mark, changed = go_on(None)
    assert changed is None
    mark, changed = go_on(mark, workers=4, compile=True)  # other ways to the same numbers
    assert changed is None
    older, changed = go_on(mark, taker_fee_bps=7.0)
    assert changed == [48]
    mark, changed = go_on(older, taker_fee_bps=7.0)
    assert changed == [48]
    _, changed = go_on(mark)
    assert changed == [48, 96]
    assert go_on(older)[1] == [48, 72], "the checkpoint of 96 is damaged, say: played anew from 72"
    assert go_on(None)[1] is None, "a trace that is begun anew"


def test_sidecar_names_every_parameter_and_the_data(tmp_path, table):
    named = dataclasses.replace(
        table, meta=dataclasses.replace(table.meta, source_name="b.csv", source_sha256="ab" * 32)
    )
    cfg = EnvConfig(taker_fee_bps=7.0)
    write(tmp_path / "train_actions.csv", named, rollout(1, 2), cfg=cfg)
    about = json.loads((tmp_path / "train_actions.json").read_text())
    assert about["simulator"] == dataclasses.asdict(cfg)
    assert about["data"] == {"file": "b.csv", "sha256": "ab" * 32}
    assert (about["interval_s"], about["asset"], about["split"]) == (900.0, "BTC/USD", "train")


@pytest.mark.parametrize("text", ["=1+1", "+a", "-a", "@a", "a,b", 'a"b', "a\nb", "\ta", ""])
def test_a_text_that_a_spreadsheet_would_run_or_that_breaks_a_line_is_refused(
    tmp_path, table, text
):
    with pytest.raises(ValueError, match=r"run_id=.* is not allowed"):
        TraceWriter(tmp_path / "a.csv", table, EnvConfig(), run_id=text, split="train")
    assert not (tmp_path / "a.csv").exists()


def test_a_full_disk_leaves_whole_lines_and_names_the_file(tmp_path, table):
    path, batch = tmp_path / "a.csv", rollout(8, 64)
    write(tmp_path / "whole.csv", table, batch, batch)
    limit = (tmp_path / "whole.csv").stat().st_size * 3 // 4
    trace = TraceWriter(path, table, EnvConfig(), run_id="run-1", split="train")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match=r"rows are missing.*last whole line.*a\.csv"):
            write_all(trace, [batch] * 20)  # more than the queue holds: nobody waits forever
        with pytest.raises(OSError, match="rows are missing"):
            trace.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    written = path.read_bytes()
    assert written.endswith(b"\n")
    assert limit - 1000 < len(written) <= limit
    assert (tmp_path / "whole.csv").read_bytes().startswith(written)


def test_a_full_disk_leaves_what_stands_beside_a_trace(tmp_path, table):
    path = tmp_path / "a.csv"
    with TraceWriter(path, table, EnvConfig(), run_id="run-1", split="train") as trace:
        mark = trace.mark(0)
    before = path.with_suffix(".json").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match=r"[Ff]ile too large"):
            TraceWriter(path, table, EnvConfig(), run_id="run-1", split="train", resume=mark)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.with_suffix(".json").read_bytes() == before


def test_flush_waits_until_the_rows_can_be_read(tmp_path, table):
    with TraceWriter(tmp_path / "a.csv", table, EnvConfig(), run_id="r", split="train") as trace:
        for count in (1, 2):
            trace.write(rollout(64, 32))
            trace.flush()
            assert len(read_trace(tmp_path / "a.csv")) == count * 64 * 32


def test_an_error_in_the_thread_is_raised_in_the_caller_with_the_file(tmp_path, table):
    trace = TraceWriter(tmp_path / "a.csv", table, EnvConfig(), run_id="r", split="train")
    trace.write(rollout(1, 2, first_bar=1000))  # no such bar
    with pytest.raises(IndexError) as caught:
        trace.close()
    assert str(tmp_path / "a.csv") in caught.value.__notes__[0]
    trace.close()


def test_misuse_is_refused_with_what_is_wrong(tmp_path, table):
    with pytest.raises(ValueError, match=r"trace file=.*a\.xls.* is not allowed.*\.csv"):
        TraceWriter(tmp_path / "a.xls", table, EnvConfig(), run_id="r", split="train")
    with pytest.raises(FileNotFoundError, match="missing"):
        TraceWriter(tmp_path / "missing/a.csv", table, EnvConfig(), run_id="r", split="train")
    trace = TraceWriter(tmp_path / "a.csv", table, EnvConfig(), run_id="r", split="train")
    batch = rollout(2, 3)
    trace.write(batch)
    with pytest.raises(ValueError, match="a batch of 3 lanes after 2"):
        trace.write(rollout(3, 3))
    del batch["next", "fills"]
    with pytest.raises(KeyError, match="fills"):
        trace.write(batch)
    trace.close()
    with pytest.raises(ValueError, match="closed"):
        trace.write(batch)
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"b\.csv: not a trace.*run_id"):
        read_trace(tmp_path / "b.csv")
