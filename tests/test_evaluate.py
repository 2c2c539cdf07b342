"""Held-out bars, opened once and judged: the order of things, and what is refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from envs.bars import DataConfig
from envs.config import EnvConfig
from envs.table import build_table
from envs.trace import COLUMNS, read_trace
from modules.config import ModelConfig
from pipelines.checkpoint import describe, save_checkpoint
from pipelines.config import RunConfig, compose_config
from pipelines.evaluate import evaluate, main
from pipelines.held_out import fold_training, played_seed
from pipelines.held_out.candidate import differing_keys, load_candidate
from pipelines.held_out.evaluate_config import EvaluateConfig
from pipelines.held_out.evaluation_text import as_text
from pipelines.held_out.replay_config import ReplayDataConfig
from pipelines.held_out.replay_inputs import load_inputs
from pipelines.judging.registry import Registry
from pipelines.model import make_model
from pipelines.ppo_transformer import main as train_run
from pipelines.replay import replay
from pipelines.train_config import TrainConfig

ENV = EnvConfig(paths=2, accounts=2, workers=0, window=8, episode_bars=24)
MODEL = ModelConfig(encoder="mlp", d_model=8, ff_dim=8, num_layers=1, num_heads=1, account_dim=4,
                    features_dim=8)  # fmt: skip


def write_bars(path, *, bars=6_000, seed=0):
    """Bars of a random walk, 15 minutes long."""
    rng = np.random.default_rng(seed)
    close = np.round(20_000 * np.exp(np.cumsum(rng.normal(0, 0.003, bars))), 1)
    opens = np.r_[20_000.0, close[:-1]]
    columns = {
        "timestamp": pd.date_range("2025-01-01", periods=bars, freq="15min", tz="UTC"),
        "open": opens, "high": np.maximum(opens, close) + 5.0,
        "low": np.minimum(opens, close) - 5.0, "close": close,
        "volume": rng.exponential(3.0, bars).round(3),
    }  # fmt: skip
    pd.DataFrame(columns).to_parquet(path)
    return path


def untrained(folder: Path, bars: Path, *, seed: int, **changes) -> Path:
    """A run that stopped before its first update, with a checkpoint that validation has judged."""
    cfg = RunConfig(
        seed=seed, data=DataConfig(path=str(bars), train_frac=0.4, val_frac=0.1), env=ENV,
        model=MODEL, train=TrainConfig(steps=8, minibatch=8),
    )  # fmt: skip
    cfg = dataclasses.replace(cfg, **changes)
    table = build_table(cfg.data, window=ENV.window, episode_bars=ENV.episode_bars)
    torch.manual_seed(seed)
    model = make_model(cfg.model, cfg.env, table)
    table.save(folder / "bars")
    save_checkpoint(
        folder / "checkpoints" / "000000001",
        about=describe(cfg, table),
        tensors={"model": model.state_dict()},
        values={"score": 0.1},
    )
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of one configuration, and a run of another."""
    root = tmp_path_factory.mktemp("runs")
    bars = write_bars(root / "bars.parquet")
    other = dataclasses.replace(ENV, trailing=True)
    return [
        untrained(root / "a", bars, seed=1),
        untrained(root / "b", bars, seed=2),
        untrained(root / "c", bars, seed=3, env=other, tag="other"),
    ]


@pytest.fixture(scope="module")
def evaluated(runs, tmp_path_factory):
    """Both seeds, judged together; the result and its folder."""
    out = tmp_path_factory.mktemp("both")
    found = evaluate(runs[:2], out=out / "e", registry=out / "openings.jsonl", draws=20)
    return found, out / "e"


def test_the_look_is_written_down_before_any_bar_is_played(runs, tmp_path, monkeypatch):
    registry = Registry(tmp_path / "openings.jsonl")

    def killed(*_, **__):
        assert len(registry.openings()) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(played_seed, "play_tiles", killed)
    told = {"run": str(runs[0]), "registry": str(registry.file.path), "out": str(tmp_path / "e")}
    with pytest.raises(KeyboardInterrupt):
        main(EvaluateConfig(**told))
    monkeypatch.undo()
    found = main(EvaluateConfig(**told, draws=5))
    assert (found.looks.earlier, found.looks.trials) == (1, 1)
    assert any("Not a first look" in reason for reason in found.verdict.reasons)
    values = found.to_json()
    assert values["looks"]["first"] is False
    assert values["verdict"]["findings"]["earlier_openings"] == 1
    assert len(registry.verify([found.receipt])) == 3


def test_another_candidate_on_the_same_bars_is_another_trial(runs, tmp_path):
    registry = tmp_path / "openings.jsonl"
    first = evaluate(runs[:1], out=tmp_path / "1", registry=registry, draws=5)
    second = evaluate(runs[2:], out=tmp_path / "2", registry=registry, draws=5)
    assert [found.looks.trials for found in (first, second)] == [1, 2]
    assert second.verdict.findings.trials == 2
    opening = Registry(registry).openings()[0]
    assert first.bars.first_bar == opening.first_bar
    assert first.bars.last_bar == opening.last_bar


def test_a_registry_begun_anew_is_refused(runs, tmp_path, capsys):
    registry = tmp_path / "openings.jsonl"
    evaluate(runs[:1], out=tmp_path / "1", registry=registry, draws=5)
    for path in tmp_path.glob("openings.jsonl*"):
        path.unlink()
    Registry(registry).open(load_candidate("other", [[runs[2]]]).opening())
    with pytest.raises(SystemExit) as ended:
        evaluate(runs[:1], out=tmp_path / "1", registry=registry, draws=5)
    assert ended.value.code == 2
    assert "Either that was begun anew, or the run was made on another" in capsys.readouterr().err


def test_runs_of_other_configurations_are_refused_by_the_keys_that_differ(runs):
    load_candidate("x", [[path] for path in runs[:2]])
    with pytest.raises(ValueError, match=r"env\.trailing: False then, True now$"):
        load_candidate("x", [[runs[0]], [runs[2]]])
    with pytest.raises(ValueError, match="another run of seed 1"):
        load_candidate("x", [[runs[0]], [runs[0]]])


def test_how_a_run_was_computed_makes_no_other_configuration(runs):
    """Nor another hash: who has looked with it before would be forgotten."""
    first, other = (load_candidate("x", [[runs[0]]]) for _ in range(2))
    trained = other.parts[0].trained
    trained.env.compile, trained.train.cuda_graph = True, False
    assert differing_keys(first.parts[0].trained, trained) == []
    assert first.config_sha256 == other.config_sha256


def test_the_same_seeds_have_the_same_hash_and_others_another(runs):
    a, b, c = (load_candidate("x", [[path]]) for path in runs)
    assert a.config_sha256 == b.config_sha256 != c.config_sha256
    assert a.checkpoint_sha256 != b.checkpoint_sha256
    both = load_candidate("x", [[path] for path in runs[:2]])
    turned = load_candidate("x", [[path] for path in reversed(runs[:2])])
    assert both.checkpoint_sha256 == turned.checkpoint_sha256
    assert both.checkpoint_sha256 not in (a.checkpoint_sha256, b.checkpoint_sha256)


def test_the_json_holds_everything_the_verdict_first(evaluated):
    found, folder = evaluated
    text = (folder / "evaluation.json").read_text(encoding="utf-8")
    values = json.loads(text)
    assert values == json.loads(json.dumps(found.to_json()))
    assert list(values)[1] == "verdict"
    assert values["verdict"]["word"] in ("edge", "no edge", "not enough data")
    assert list(values["accounts"]) == [
        "policy", "flat", "buy_and_hold", "random", "always_short", "matched_random",
        "risk_matched_hold", "momentum", "mean_reversion",
    ]  # fmt: skip
    judged = [against["baseline"] for against in values["verdict"]["findings"]["against"]]
    assert judged == ["flat", "buy_and_hold", "random", "always_short"]
    assert list(values["costs"]["returns"]) == ["0", "0.5", "1", "2", "4"]
    assert values["bars"]["bars"] == 2960
    between = values["intervals"]["sharpe"]
    assert between["low"] < values["accounts"]["policy"]["period_sharpe"] < between["high"]
    assert between["estimate"] == pytest.approx(values["accounts"]["policy"]["period_sharpe"])
    assert len(values["bars"]["source_sha256"]) == 64
    assert sum(path.stat().st_size for path in folder.glob("e*.*")) < 5_000_000


def test_the_numbers_of_the_judged_account_are_one(evaluated):
    """The verdict, the table, the cost curve and the files speak of the same account."""
    found, folder = evaluated
    total = found.verdict.findings.total_return_fraction
    assert found.accounts["policy"].equity.total_return_fraction == pytest.approx(total, abs=1e-12)
    assert found.costs.returns[1.0] == pytest.approx(total, abs=1e-12)
    assert found.sharpes["policy"] == pytest.approx(found.verdict.findings.sharpe)
    equity = pd.read_parquet(folder / "equity.parquet")
    assert equity["policy"].iloc[-1] == pytest.approx(1.0 + total, rel=1e-12)
    assert len(equity) <= 5_000
    returns = pd.read_parquet(folder / "returns.parquet")
    assert np.prod(1.0 + returns["policy"]) == pytest.approx(1.0 + total, rel=1e-12)
    own = [seed.performance.equity.total_return_fraction for seed in found.seeds]
    assert found.random.policy_return_fraction == pytest.approx(np.mean(own))
    assert min(own) <= total <= max(own)
    assert found.verdict.findings.moved


def test_traces_have_the_ordinary_columns(evaluated):
    found, folder = evaluated
    traces = [trace for seed in found.seeds for trace in seed.traces]
    assert traces == ["a_actions.csv", "b_actions.csv"]
    rows = read_trace(folder / traces[1])
    assert tuple(rows.columns) == COLUMNS
    assert len(rows) == 2960
    assert set(rows["split"]) == {"test"}


def test_the_print_begins_with_the_verdict_and_has_right_percentages(evaluated):
    found, _ = evaluated
    wins = dataclasses.replace(
        found.accounts["policy"].equity, total_return_fraction=20.09, cagr_fraction=1e9
    )
    policy = dataclasses.replace(found.accounts["policy"], equity=wins)
    text = as_text(dataclasses.replace(found, accounts=found.accounts | {"policy": policy}))
    assert text.startswith(f"VERDICT: {found.verdict.word}\n  - {found.verdict.reasons[0][:20]}")
    row = next(line for line in text.splitlines() if line.startswith("policy"))
    assert "+2,009.00 %" in row
    assert "over 100,000 %" in row
    assert "first look at these bars" in text


def test_returns_of_rivals_are_taken_into_the_test(runs, evaluated, tmp_path, capsys):
    _, folder = evaluated
    told = {"run": str(runs[2]), "rivals": [str(folder)], "draws": 5}
    told |= {"out": str(tmp_path / "e"), "registry": str(tmp_path / "openings.jsonl")}
    rival = main(EvaluateConfig(**told))
    assert rival.verdict.findings.trials == 2
    assert rival.verdict.findings.overfitting is not None
    values = json.loads((folder / "evaluation.json").read_text())
    values["bars"]["last_bar"] = "2030-01-01T00:00:00+00:00"
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    (moved / "evaluation.json").write_text(json.dumps(values))
    with pytest.raises(SystemExit):
        main(EvaluateConfig(**{**told, "rivals": [str(moved)], "out": str(tmp_path / "f")}))
    assert "measured on other bars: its last_bar is 2030" in capsys.readouterr().err
    assert len(Registry(told["registry"]).openings()) == 1


def test_a_replay_of_test_bars_is_a_look_and_one_of_others_is_none(runs, tmp_path, capsys):
    copies = [tmp_path / name for name in ("seen", "other")]
    for run, copy in zip(runs[:2], copies, strict=True):
        shutil.copytree(run, copy)
    replay(copies[0], split="val")
    assert not (tmp_path / "openings.jsonl").exists()
    replay(copies[0], checkpoint="best")
    assert "Not a first look" not in capsys.readouterr().out
    replay(copies[0], checkpoint="best")
    assert "had been opened once before; 1 candidate has" in capsys.readouterr().out
    again = evaluate(copies[:1], draws=5)
    assert (again.looks.earlier, again.looks.trials) == (2, 1)  # the same checkpoint
    assert any("opened 2 times before" in text for text in again.verdict.reasons)
    other = evaluate(copies[1:], draws=5)
    assert (other.looks.earlier, other.looks.trials) == (3, 2)


def test_a_run_from_elsewhere_is_told_to_bring_its_registry(runs, tmp_path, capsys):
    there, here = tmp_path / "there" / "runs", tmp_path / "here" / "runs"
    shutil.copytree(runs[0], there / "a")
    evaluate([there / "a"], draws=5)
    shutil.copytree(there / "a", here / "a")
    shutil.copytree(runs[1], here / "b")
    evaluate([here / "b"], draws=5)
    with pytest.raises(SystemExit):
        evaluate([here / "a"], draws=5)
    assert "made on another machine: then bring its registry" in capsys.readouterr().err
    brought = here / "from_there"
    brought.mkdir()
    for file in there.glob("openings.jsonl*"):
        shutil.copy(file, brought)
    shutil.move(here / "a", brought)
    assert evaluate([brought / "a"], draws=5).looks.earlier == 1


def test_files_of_markets_elsewhere_make_no_other_configuration():
    def named(folder, *names):
        return RunConfig(data=DataConfig(assets=[f"{n}={folder}/{n}.csv" for n in names]))

    here, there = named("here", "A", "B"), named("there", "A", "B")
    assert differing_keys(here, there) == []
    assert differing_keys(here, named("here", "A", "C")) != []


def test_a_damaged_registry_is_refused_before_a_training(tmp_path, capsys):
    registry = tmp_path / "openings.jsonl"
    registry.write_text("{}\n")
    words = [*WORDS, f"run.dir={tmp_path / 'run'}", "wandb.mode=disabled"]
    with pytest.raises(SystemExit) as ended:
        train_run(compose_config("ppo_transformer", words))
    assert ended.value.code == 2
    assert "openings.jsonl" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_time_that_was_not_played_is_said(tmp_path):
    bars = pd.read_parquet(write_bars(tmp_path / "whole.parquet"))
    bars.drop(index=range(4_000, 5_000)).to_parquet(tmp_path / "holed.parquet")
    run = untrained(tmp_path / "runs" / "a", tmp_path / "holed.parquet", seed=1)
    found = evaluate([run], draws=5)
    (said,) = (r for r in found.verdict.reasons if "% was played: the rest are holes" in r)
    # Else who reads a ratio, or a growth, of a year takes it for one of the calendar.
    first, last = (pd.Timestamp(getattr(found.bars, key)) for key in ("first_bar", "last_bar"))
    years = ((last - first) / pd.Timedelta("15min") + 1) / found.bars.bars
    assert years > 1.5
    assert f"Figures of a year are of 365 days of played bars, {years:.2f} years here" in said


def test_seeds_picked_anew_are_another_trial(runs, tmp_path):
    registry = tmp_path / "openings.jsonl"
    first = evaluate(runs[:1], out=tmp_path / "1", registry=registry, draws=5)
    both = evaluate(runs[:2], out=tmp_path / "2", registry=registry, draws=5)
    assert [found.looks.trials for found in (first, both)] == [1, 2]


def test_runs_of_one_name_keep_their_traces_apart(runs, tmp_path):
    for parent, run in zip("xy", runs, strict=False):
        shutil.copytree(run, tmp_path / parent / "same")
    found = evaluate([tmp_path / "x" / "same", tmp_path / "y" / "same"], draws=5)
    traces = [trace for seed in found.seeds for trace in seed.traces]
    assert len(set(traces)) == 2
    assert found.costs.returns[1.0] == pytest.approx(
        found.accounts["policy"].equity.total_return_fraction, rel=1e-9
    )
    assert (tmp_path / "openings.jsonl").is_file(), "above both of them"


def test_the_registry_above_a_run_counts_it_and_two_are_refused(runs, tmp_path, capsys):
    inner = tmp_path / "wf" / "runs" / "a"
    shutil.copytree(runs[0], inner)
    shutil.copytree(runs[1], tmp_path / "lone" / "b")
    Registry(tmp_path / "openings.jsonl").open(load_candidate("other", [[runs[2]]]).opening())
    found = evaluate([inner], draws=5)
    assert (found.looks.earlier, found.looks.trials) == (1, 2)
    Registry(tmp_path / "lone" / "openings.jsonl").open(load_candidate("o", [[runs[2]]]).opening())
    with pytest.raises(SystemExit):
        evaluate([inner, tmp_path / "lone" / "b"], draws=5)
    assert "registry=PATH" in capsys.readouterr().err


def test_a_moved_evaluation_still_knows_its_registry(runs, tmp_path, capsys):
    first = tmp_path / "first"
    shutil.copytree(runs[0], first / "a")
    evaluate([first / "a"], draws=5)
    moved = tmp_path / "moved"
    shutil.move(first, moved)
    assert evaluate([moved / "a"], draws=5).looks.earlier == 1
    for path in moved.glob("openings.jsonl*"):
        path.unlink()
    with pytest.raises(SystemExit):
        evaluate([moved / "a"], draws=5)
    assert "openings.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "{}", '{"receipt": {"file": "x"}}'])
def test_an_evaluation_that_cannot_be_read_is_named_before_any_look(runs, tmp_path, text, capsys):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "evaluation.json").write_text(text)
    with pytest.raises(SystemExit):
        evaluate(runs[:1], out=tmp_path / "e", registry=tmp_path / "openings.jsonl", draws=5)
    assert "evaluation.json: no evaluation" in capsys.readouterr().err
    assert not (tmp_path / "openings.jsonl").exists()


def test_bars_of_the_time_that_a_run_was_chosen_on_are_not_held_out(runs, tmp_path, capsys):
    other = write_bars(tmp_path / "other.parquet", bars=5_200)  # its test bars begin at 2,600
    with pytest.raises(SystemExit):
        main(EvaluateConfig(run=str(runs[0]), data=ReplayDataConfig(path=str(other)), draws=5))
    assert "chosen on" in capsys.readouterr().err
    assert not (runs[0].parent / "openings.jsonl").exists()


WORDS = [
    "model=mlp", "model.d_model=8", "model.ff_dim=8", "env.paths=2", "env.accounts=2",
    "env.workers=0", "env.window=8", "env.episode_bars=24", "train.steps=8", "train.minibatch=16",
    "total_frames=64", "checkpoint.val_episodes=2",
]  # fmt: skip


@pytest.mark.parametrize("words", [["init_from"], ["resume=changed", "total_frames=128"]])
def test_bars_that_the_weights_were_trained_on_before_are_not_held_out(tmp_path, capsys, words):
    """In another run, or in this one before it was changed: the policy has seen them."""
    bars = write_bars(tmp_path / "bars.parquet", bars=2_500)
    first, then = tmp_path / "first", tmp_path / "then"
    told = [*WORDS, f"data.path={bars}", "replay.enabled=false", "wandb.mode=disabled"]
    train_run(compose_config("ppo_transformer", [*told, f"run.dir={first}"]))
    if words == ["init_from"]:
        words = [f"init_from={first}"]
    else:
        shutil.copytree(first, then)
    words = [*told, "data.train_frac=0.4", "data.val_frac=0.1", f"run.dir={then}", *words]
    train_run(compose_config("ppo_transformer", words))
    with pytest.raises(SystemExit) as ended:
        evaluate([then], draws=5)
    assert ended.value.code == 2
    assert "that it was trained on" in capsys.readouterr().err
    assert not (tmp_path / "openings.jsonl").exists()
    notes = load_inputs(
        then, data_path=None, split="test", episodes=None, device="cpu", checkpoint="last"
    ).notes
    assert [note.split(" on ")[0] for note in notes] == [
        "In-sample: the policy was trained", "In-sample: the policy was chosen",
    ]  # fmt: skip


def test_an_interrupted_walk_forward_goes_on_without_training_again(tmp_path, monkeypatch):
    bars = write_bars(tmp_path / "bars.parquet", bars=1_500)
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
    found = main(told)
    assert len(trained) == 2
    assert trained[1].run.dir.endswith("seed3_fold2")
    assert found.looks.earlier == 0
    assert [fold["fold"] for fold in found.folds] == [1, 2]
    alone = [1.0 + fold["returns"]["seed 3"] for fold in found.folds]
    total = found.seeds[0].performance.equity.total_return_fraction
    assert np.prod(alone) == pytest.approx(1.0 + total, rel=1e-12)
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "run, runs, folds='nothing' is not allowed"),
        (["run=a", "folds=2"], "run, runs, folds='run, folds'"),
        (["run=a", "train=[seed=1]"], r"train=\['seed=1'\] is not allowed: empty without folds"),
        (["folds=2", "mode=nested"], "mode='nested' is not allowed: one of anchored, rolling"),
        (["folds=2", "seeds=[1,1]"], r"seeds=\[1, 1\] is not allowed: each of them once"),
        (["run=a", "draws=0"], "draws=0 is not allowed"),
    ],
)
def test_a_command_line_that_means_nothing_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        compose_config("evaluate", words)


def test_a_run_that_is_not_there_is_refused_and_leaves_nothing(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(EvaluateConfig(run=str(tmp_path / "typo")))
    assert ended.value.code == 2
    assert "typo" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_lists_may_hold_lists():
    cfg = compose_config("evaluate", ["folds=2", "train=[env.risk_multiples=[1,2],model=mlp]"])
    assert cfg.train == ["env.risk_multiples=[1,2]", "model=mlp"]
