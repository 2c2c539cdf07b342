"""An evaluation for the eyes of a person: its trades and figures, on a trace drawn by hand."""

import pytest

from envs.config import EnvConfig
from hand_rows import make_rows
from pipelines.judging.metrics import in_order
from pipelines.tracking import evaluated as module
from pipelines.tracking.evaluated import Evaluated

CFG = EnvConfig(initial_cash=1000.0, taker_fee_bps=10.0, maker_fee_bps=5.0)
# A long of 2 from 100 to 110; a short of 1 from 110 whose take-profit closes at 105.
STEPS = [
    {"entry_units": 2, "entry_fill_price": 100, "fee": 0.2, "position": 2, "equity": 1010.0},
    {"open_exit_reason": "flip", "open_exit_units": -2, "open_exit_price": 110,
     "entry_units": -1, "entry_fill_price": 110, "exit_reason": "take_profit", "exit_units": 1,
     "exit_price": 105, "fee": 0.3825, "equity": 1024.4175},
    {"equity": 1024.4175},
]  # fmt: skip


def evaluated(steps):
    rows = in_order(make_rows(steps))
    return Evaluated("val", rows, rows, CFG, 60.0)


def test_closed_trades_have_sides_times_and_a_profit_in_bps_of_what_was_paid():
    trades = evaluated(STEPS).trades()
    assert trades["side"].tolist() == ["long", "short"]
    assert trades["units"].tolist() == [2.0, 1.0]
    assert trades["entry_time"].tolist() == [
        "2025-01-01T00:00:00+00:00",
        "2025-01-01T00:01:00+00:00",
    ]
    assert trades["exit_reason"].tolist() == ["flip", "take_profit"]
    long, short = 20 - 0.2 - 0.22, 5 - 0.11 - 0.0525
    assert trades["profit"].tolist() == pytest.approx([long, short])
    assert trades["profit_bps"].tolist() == pytest.approx([long / 200 * 1e4, short / 110 * 1e4])


def test_a_table_that_is_too_long_keeps_what_gained_or_lost_most_in_order(monkeypatch):
    monkeypatch.setattr(module, "MAX_TRADES", 1)
    assert evaluated(STEPS).trades()["side"].tolist() == ["long"]


def test_figures_carry_the_name_and_without_trades_there_is_no_hit_rate():
    figures = evaluated(STEPS).scalars
    assert figures["val/trades"] == 2.0
    assert figures["val/total_return"] == pytest.approx(0.0244175)
    assert figures["val/hit_rate"] == 1.0
    idle = evaluated([{}, {}])
    assert idle.scalars["val/trades"] == 0.0
    assert "val/hit_rate" not in idle.scalars
    assert idle.trades().empty
