"""What is said beside a verdict of costs that no key of the costs names."""

import dataclasses

import pytest

from pipelines.evaluate import evaluate
from pipelines.held_out.candidate import load_candidate
from pipelines.held_out.doubts import coarse_tick
from untrained_run import ENV, make_untrained


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tick_size": 10.0}, "up to 5 bps an order at these prices beside the 10 bps"),
        ({"tick_size": 1.0}, ""),
        ({}, ""),
        ({"tick_size": 10.0, "slippage_bps": 0.0, "allow_zero_costs": True}, ""),  # unrounded
    ],
)
def test_a_coarse_tick_is_told_beside_the_costs_of_an_order(three_runs, tmp_path, changes, told):
    """Bars at about 20,000: their costs of 10 bps are 20."""
    bars, env = three_runs[0].parent / "bars.parquet", dataclasses.replace(ENV, **changes)
    run = make_untrained(tmp_path / "a", bars, seed=1, env=env)
    candidate = load_candidate("a", [[run]])
    # That of all bars moves by some per cent.
    close = candidate.table.ohlcv[candidate.bounds[:, 1], 3].median()
    found = "".join(coarse_tick(candidate))
    assert bool(found) == bool(told)
    assert told.replace(" 5 ", f" {1e5 / close:.2g} ") in found


def test_a_verdict_says_it_of_a_policy_that_trades(three_runs, tmp_path):
    env = dataclasses.replace(ENV, tick_size=10.0)
    run = make_untrained(tmp_path / "a", three_runs[0].parent / "bars.parquet", seed=1, env=env)
    reasons = evaluate([run], draws=5).verdict.reasons
    assert any(reason.startswith("Prices of fills are rounded") for reason in reasons)
