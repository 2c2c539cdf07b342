"""A walk-forward as a whole: interrupted it goes on, and what its trainings may not be told."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from envs.trace_reader import read_trace
from pipelines import fold_training
from pipelines.config import RunConfig
from pipelines.evaluate import main
from pipelines.held_out.evaluate_config import EvaluateConfig
from pipelines.tracking.wandb_outlet import new_run_id
from random_walk import draw_walk, write_bars
from untrained_run import WORDS


def test_an_interrupted_walk_forward_goes_on_without_training_again(tmp_path, monkeypatch):
    bars = write_bars(tmp_path / "bars.parquet", 1_500)
    told = EvaluateConfig(
        folds=2, seeds=[3], train=WORDS, out=str(tmp_path / "wf"), draws=5, device="cpu",
    )  # fmt: skip
    told.data.path = str(bars)
    trained, train = [], fold_training.train_run

    def train_one(cfg):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(cfg.run.dir)
        return train(cfg)

    monkeypatch.setattr(fold_training, "train_run", train_one)
    with pytest.raises(KeyboardInterrupt):
        main(told)
    assert not (tmp_path / "openings.jsonl").exists()
    monkeypatch.setattr(fold_training, "train_run", lambda cfg: trained.append(cfg) or train(cfg))
    left = tmp_path / "wf" / ".returns.parquet.0.unfinished"
    left.touch()
    found = main(told)
    assert not left.exists()
    assert len(trained) == 2
    assert trained[1].run.dir.endswith("seed3_fold2")
    configurations = [json.loads((run / "config.json").read_text())
                      for run in (tmp_path / "wf" / "runs").iterdir()]  # fmt: skip
    assert [cfg["wandb"]["group"] for cfg in configurations] == ["wf", "wf"]
    assert found.looks.earlier == 0
    assert [fold["fold"] for fold in found.folds] == [1, 2]
    alone = [1.0 + fold["returns"]["seed 3"] for fold in found.folds]
    total = found.seeds[0].performance.equity.total_return_fraction
    assert np.prod(alone) == pytest.approx(1.0 + total, rel=1e-12)
    held = [1.0 + fold["buy_and_hold"] for fold in found.folds]
    total = found.accounts["buy_and_hold"].equity.total_return_fraction
    assert np.prod(held) == pytest.approx(1.0 + total, abs=0.004)  # each buys and sells once
    # The tail of 750 bars, every one of them once.
    assert found.bars.bars == 750
    assert found.folds[0]["test"][0] == found.bars.first_bar
    rows = [read_trace(tmp_path / "wf" / trace) for trace in found.seeds[0].traces]
    assert rows[0]["timestamp"].max() < rows[1]["timestamp"].min()
    cuts = [json.loads((tmp_path / "wf" / "runs" / run / "bars" / "table.json").read_text())
            for run in found.seeds[0].runs]  # fmt: skip
    assert cuts[0]["splits"]["test"][0] - cuts[0]["splits"]["val"][1] == 32
    told.train = [*WORDS, "train.lr=0.1"]
    with pytest.raises(SystemExit):
        main(told)


def test_bars_and_folds_are_told_once_however_many_trainings_there_are(tmp_path, capsys):
    bars = draw_walk(3_000, seed=3)
    bars.loc[100:110, "volume"] = 0.0
    bars.loc[900:, "timestamp"] += pd.Timedelta("3h")  # a hole that ends a segment
    bars.to_parquet(tmp_path / "bars.parquet")
    told = EvaluateConfig(
        folds=2, seeds=[3], train=WORDS, out=str(tmp_path / "wf"), draws=5, device="cpu",
    )  # fmt: skip
    told.data.path = str(tmp_path / "bars.parquet")
    main(told)
    before, *trainings = capsys.readouterr().out.partition("VERDICT")[0].split("training ")
    assert len(trainings) == 2
    lines = before.splitlines()
    for begin in ("code: ", "3,000 bars of 900 s", "largest move", "long holes", "fold 1, train: ",
                  "fold 1, val: ", "fold 1, test: ", "fold 2, train: "):  # fmt: skip
        assert sum(line.startswith(begin) for line in lines) == 1, begin
    names = ["seed3_fold1", "seed3_fold2"]
    runs = [f"{i} of 2: {tmp_path}/wf/runs/{name}\n" for i, name in enumerate(names, 1)]
    assert trainings == runs
    main(told)
    assert capsys.readouterr().out.startswith("VERDICT"), "all are trained"


def test_every_training_is_a_run_of_its_own_on_w_and_b(monkeypatch):
    configurations = [RunConfig(tag=f"seed{seed}_fold{fold}") for seed in (0, 1) for fold in (1, 2)]
    found = []
    monkeypatch.setattr(fold_training, "train_run", lambda cfg: found.append(new_run_id()))
    for name in ("WANDB_RUN_ID", "WANDB_NAME"):
        monkeypatch.delenv(name, raising=False)
    fold_training.train_all(configurations)
    assert len(set(found)) == 4
    monkeypatch.setenv("WANDB_RUN_ID", "pod7")
    found.clear()
    fold_training.train_all(configurations)
    fold_training.train_all(configurations[:1])  # stopped, and gone on with
    assert found == ["pod7-seed0_fold1", "pod7-seed0_fold2", "pod7-seed1_fold1", "pod7-seed1_fold2",
                     "pod7-seed0_fold1"]  # fmt: skip
    assert os.environ["WANDB_RUN_ID"] == "pod7"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=3", "the walk-forward itself sets seed"),
        ("run.dir=x", "the walk-forward itself sets run.dir"),
        ("data.test_start=2024-01-01", "itself sets data.test_start"),
        ("train.frames=3", "unknown key train.frames"),
    ],
)
def test_words_that_a_training_may_not_be_told_are_refused(word, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(EvaluateConfig(folds=2, train=[word], out=str(tmp_path / "wf")))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
