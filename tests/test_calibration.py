"""The calibration with whole trainings, on a scale at which it says nothing but that it runs."""

import json

import pytest

from pipelines import benchmark
from pipelines.benchmarks import calibration
from pipelines.benchmarks.benchmark_config import BenchmarkConfig
from pipelines.benchmarks.calibration import CHEAP, Job, count_words, plan, train_and_judge
from pipelines.judging.verdict import EDGE, NO_EDGE, NOT_ENOUGH


def test_half_of_the_markets_without_an_edge_cost_next_to_nothing():
    jobs = plan(20, 5)
    assert [job.market for job in jobs].count("planted") == 5
    assert {job.market for job in jobs[:20]} == {"martingale", "heavy_tails"}
    assert len({(job.market, job.seed) for job in jobs}) == 25
    cheap = [job for job in jobs if job.costs == "cheap"]
    assert len(cheap) == 10
    assert {job.market for job in cheap} == {"martingale", "heavy_tails"}


def test_words_are_counted_where_there_is_an_edge_and_where_there_is_none():
    said = [("martingale", NO_EDGE), ("heavy_tails", EDGE), ("planted", EDGE), ("planted", EDGE)]
    rows = [{"market": market, "verdict": word} for market, word in said]
    assert count_words(rows) == [
        {"markets": "without an edge", "trainings": 2, EDGE: 1, NO_EDGE: 1, NOT_ENOUGH: 0},
        {"markets": "planted", "trainings": 2, EDGE: 2, NO_EDGE: 0, NOT_ENOUGH: 0},
    ]


def test_a_training_is_judged(monkeypatch):
    monkeypatch.setattr(calibration, "_DRAWS", 5)
    words = ("total_frames=1024", "env.paths=8", "train.minibatch=128", "train.steps=16",
             "data.synthetic.bars=24576", "data.synthetic.segment_bars=4096")  # fmt: skip
    row = train_and_judge(Job("martingale", 3, words + CHEAP))
    assert row["costs"] == "cheap"
    assert row["verdict"] == NOT_ENOUGH  # two days
    assert 2.0 < row["days"] < 3.0


def test_trainings_that_are_done_outlive_what_stops_the_next_one(tmp_path, monkeypatch):
    row = {"market": "martingale", "verdict": "no edge"}

    def stopped(*_):
        yield row
        raise KeyboardInterrupt

    monkeypatch.setattr(calibration, "try_trainings", stopped)
    out = tmp_path / "verdict.json"
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(BenchmarkConfig(suite="verdict", full=True, out=str(out)))
    kept = json.loads(out.read_text())
    assert kept["rows"] == [row]
    assert kept["unfinished"]
