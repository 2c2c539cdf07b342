"""Results measured on traces small enough to be reckoned by hand."""

import numpy as np
import pandas as pd
import pytest

from envs.config import EnvConfig
from hand_rows import make_rows
from pipelines.judging.metrics import (
    chained_equity,
    completed_trades,
    drawdown,
    in_order,
    measure,
)

CFG = EnvConfig(initial_cash=1000.0, taker_fee_bps=10.0, maker_fee_bps=5.0)


# A long of 2 units from 100 to 110, flipped into a short of 1 that its take-profit closes at 105
# within the same bar; then nothing. Fees: 0.20, then 0.22 + 0.11 + 0.0525. Funding: one bar of 0.3.
FLIP = [
    {"entry_units": 2, "entry_fill_price": 100, "fee": 0.2, "funding": 0.3, "position": 2,
     "equity": 1003.5},
    {"open_exit_reason": "flip", "open_exit_units": -2, "open_exit_price": 110,
     "entry_units": -1, "entry_fill_price": 110, "exit_reason": "take_profit", "exit_units": 1,
     "exit_price": 105, "fee": 0.3825, "equity": 1024.1175},
    {"equity": 1024.1175},
]  # fmt: skip


def test_an_exit_at_the_open_and_one_within_the_same_bar_belong_to_their_own_entries():
    trades = completed_trades(in_order(make_rows(FLIP)), CFG)
    assert trades["units"].tolist() == [2.0, -1.0]
    assert trades["entry_price"].tolist() == [100.0, 110.0]
    assert trades["exit_price"].tolist() == [110.0, 105.0]
    assert trades["exit_reason"].tolist() == ["flip", "take_profit"]
    long, short = 20 - 0.2 - 0.22 - 0.3, 5 - 0.11 - 0.0525
    assert trades["profit"].tolist() == pytest.approx([long, short], rel=1e-12)
    assert trades["profit"].sum() == pytest.approx(1024.1175 - 1000.0, rel=1e-9)


def test_every_metric_of_a_trace_reckoned_by_hand():
    metrics = measure(in_order(make_rows(FLIP)), CFG)
    assert metrics.total_return == pytest.approx(0.0241175)
    assert metrics.max_drawdown == 0.0
    assert metrics.trades == 2
    assert metrics.hit_rate == 1.0
    assert metrics.exposure == pytest.approx(1 / 3)
    assert metrics.turnover == pytest.approx((200 + 220 + 110 + 105) / 1000)
    assert metrics.fees == pytest.approx(0.5825)
    assert metrics.funding == pytest.approx(0.3)
    assert (metrics.tiles, metrics.ruined, metrics.bars) == (1, 0, 3)


def test_returns_of_tiles_are_chained_by_compounding_in_the_order_of_time():
    later = make_rows([{"equity": 900}, {"equity": 1200}], lane=0, start="2025-02-01")
    earlier = make_rows([{"equity": 1500}, {"equity": 500}], lane=1, start="2025-01-01")
    rows = in_order(pd.concat([later, earlier]).sample(frac=1.0, random_state=3))
    assert chained_equity(rows, 1000.0).tolist() == pytest.approx([1500, 500, 450, 600])
    metrics = measure(rows, CFG)
    assert metrics.total_return == pytest.approx(0.5 * 1.2 - 1)
    assert metrics.max_drawdown == pytest.approx(1 - 450 / 1500)
    assert metrics.tiles == 2


def test_drawdown_counts_a_loss_from_the_initial_cash_on():
    assert drawdown(pd.Series([900.0, 950.0]), 1000.0).tolist() == pytest.approx([0.1, 0.05])


def test_a_tile_below_zero_is_a_total_loss_and_stays_one():
    ruined = make_rows([{"equity": -50, "terminated": True}])
    after = make_rows([{"equity": -2000.0}, {"equity": 3000}], lane=1, start="2025-01-02")
    rows = in_order(pd.concat([ruined, after]))
    assert chained_equity(rows, 1000.0).tolist() == [0.0, 0.0, 0.0]
    metrics = measure(rows, CFG)
    assert metrics.total_return == -1.0
    assert metrics.max_drawdown == 1.0
    assert metrics.ruined == 1


def test_a_position_that_is_still_open_is_no_trade():
    rows = in_order(make_rows([{"entry_units": 2, "entry_fill_price": 100, "position": 2}]))
    assert completed_trades(rows, CFG).empty
    assert measure(rows, CFG).hit_rate is None


def test_trades_of_interleaved_tiles_are_not_mixed_up():
    steps = [
        {"entry_units": 1, "entry_fill_price": 100, "position": 1},
        {"exit_units": -1, "exit_price": 90, "exit_reason": "stop"},
    ]
    first = make_rows(steps[:1])  # never closes
    second = make_rows(steps, lane=1, start="2025-01-02")
    trades = completed_trades(in_order(pd.concat([second, first])), CFG)
    assert trades["tile"].tolist() == [1]
    assert trades["profit"].tolist() == pytest.approx([-10 - 0.1 - 0.09])


def test_funding_after_an_exit_at_the_open_belongs_to_the_next_position():
    steps = [
        {"entry_units": 1, "entry_fill_price": 100, "position": 1, "funding": 1.0},
        {"open_exit_units": -1, "open_exit_price": 100, "open_exit_reason": "flip",
         "entry_units": -1, "entry_fill_price": 100, "position": -1, "funding": 2.0},
        {"exit_units": 1, "exit_price": 100, "exit_reason": "end", "funding": 4.0},
    ]  # fmt: skip
    profits = completed_trades(in_order(make_rows(steps)), CFG)["profit"]
    assert profits.tolist() == pytest.approx([-0.2 - 1.0, -0.2 - 6.0])


def test_episodes_that_overlap_in_time_are_refused_by_name():
    trace = pd.concat([make_rows(FLIP), make_rows(FLIP, lane=4, episode=2)])
    with pytest.raises(ValueError, match=r"\(0, 0\) and \(4, 2\) overlap in time"):
        in_order(trace)


def test_a_trace_without_rows_or_columns_is_refused():
    with pytest.raises(ValueError, match="no rows"):
        in_order(make_rows(FLIP).iloc[:0])
    with pytest.raises(ValueError, match="no column equity, terminated"):
        in_order(make_rows(FLIP).drop(columns=["terminated", "equity"]))


def test_rows_come_back_in_the_order_of_time_whatever_their_order():
    rows = in_order(make_rows(FLIP).sample(frac=1.0, random_state=0))
    assert rows["equity"].tolist() == [1003.5, 1024.1175, 1024.1175]
    assert np.all(rows["timestamp"].diff().iloc[1:] > pd.Timedelta(0))
