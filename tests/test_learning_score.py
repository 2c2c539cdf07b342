"""Scores of the learning suite, against sums done by hand."""

import importlib.util
import json

import numpy as np
import pytest

from pipelines import benchmark
from pipelines.benchmarks.benchmark_config import BenchmarkConfig
from pipelines.benchmarks.benchmark_learning import Job, Outcome, plan, summarise
from pipelines.benchmarks.learning_score import Curve


def make_curve(*shares, optimum=100e-4):
    curve = Curve(optimum, optimum)
    for i, share in enumerate(shares, start=1):
        growth = share * (optimum or 1e-4) + np.array([-1e-4, 1e-4])
        curve.add(1_000 * i, 2.0 * i, growth)
    return curve


def test_a_level_is_reached_where_it_is_held():
    curve = make_curve(0.1, 0.6, 0.4, 0.8, 0.92, 0.91)
    assert curve.reached(0.5) == (4_000, 8.0)
    assert curve.reached(0.75) == (4_000, 8.0)
    assert curve.reached(0.9) == (5_000, 10.0)
    assert curve.final == pytest.approx((0.8 + 0.92 + 0.91) * 100e-4 / 3)


def test_what_is_touched_once_or_at_the_very_end_is_not_reached():
    assert make_curve(0.95, 0.1, 0.95).reached(0.9) is None
    assert make_curve(1.0, 1.0, optimum=0.0).reached(0.5) is None


def test_a_mean_in_terms_of_its_error():
    curve = make_curve(0.02, optimum=100e-4)  # 2 bps, tiles of 1 and 3
    assert curve.z_score == pytest.approx(2.0)
    assert Curve(0.0, 0.0, [1], [1.0], [0.0], [0.0]).z_score == 0.0


def test_a_row_says_how_many_seeds_arrived():
    curves = [make_curve(0.5, 0.95, 0.95), make_curve(0.2, 0.3, 0.4)]
    outcomes = [Outcome(Job("drift", "ours", i, 3_000), c, 1.0) for i, c in enumerate(curves)]
    (row,) = summarise(outcomes)
    assert row["reached 90%"] == "1 of 2"
    assert row["frames to 90%"] == float("inf")
    assert row["worst"] == pytest.approx(0.3)


def test_a_fair_market_is_judged_by_luck():
    curves = [make_curve(0.0, 3.0, optimum=0.0), make_curve(0.0, -2.0, optimum=0.0)]
    outcomes = [Outcome(Job("martingale", "ours", i, 3_000), c, 1.0) for i, c in enumerate(curves)]
    (row,) = summarise(outcomes)
    assert row["largest z"] == pytest.approx(3.0)
    assert "final share" not in row


def test_the_plan_is_every_market_learner_and_seed():
    cfg = BenchmarkConfig(suite="learning", markets=["drift", "ar1"], learners=["ours"], seeds=3)
    assert [(j.market, j.seed) for j in plan(cfg)] == [
        (market, seed) for market in ("drift", "ar1") for seed in range(3)
    ]
    quick = plan(BenchmarkConfig(suite="learning", quick=True))
    assert len(quick) <= 8
    asked = plan(BenchmarkConfig(suite="learning", quick=True, markets=["ar1"]))
    assert {job.market for job in asked} == {"ar1"}


@pytest.mark.parametrize("finished", [0, 1])
def test_runs_that_are_done_outlive_what_stops_the_next_one(finished, tmp_path, monkeypatch):
    """Of none there is no file, and not an empty one that a program cannot read."""
    out, job = tmp_path / "learning.json", Job("drift", "ours", 0, frames=8)
    curve = Curve(1.0, 1.0, frames=[4, 8], seconds=[1.0, 2.0], growth=[0.5, 1.0], errors=[0.1, 0.1])

    def stopped(*_):
        yield from [Outcome(job, curve, 3.0)] * finished
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "run_jobs", stopped)
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(BenchmarkConfig(suite="learning", learners=["ours"], out=str(out)))
    assert out.exists() == bool(finished)
    if finished:
        kept = json.loads(out.read_text())
        assert [run["growth"] for run in kept["runs"]] == [[0.5, 1.0]]
        assert kept["unfinished"]
        assert [row["market"] for row in kept["rows"]] == ["drift"]


def test_a_learner_whose_package_is_missing_is_refused_before_any_other_runs(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(benchmark, "run_jobs", lambda *_: pytest.fail("ran"))
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(BenchmarkConfig(suite="learning", learners=["plain", "sb3"]))
    said = capsys.readouterr().err
    assert "'sb3' needs a package, pip install stable-baselines3" in said
    assert "learners=[plain]" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"suite": "speed!"}, "suite='speed!'"),
        ({"markets": ["drfit"]}, "markets='drfit'"),
        ({"learners": []}, "learners="),
        ({"frames": 10}, "frames=10"),
        ({"out": "learning.html"}, "out='learning.html'"),
    ],
)
def test_mistakes_are_refused_by_name(changes, words):
    with pytest.raises(ValueError, match=words):
        BenchmarkConfig(**changes)
