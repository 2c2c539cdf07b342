"""Held-out bars judged: what the evaluation says, in files and in print, and what is refused."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from envs.trace_reader import read_trace
from envs.trace_schema import COLUMNS
from pipelines.config import compose_config
from pipelines.evaluate import evaluate, main
from pipelines.folder_lock import lock_folder
from pipelines.held_out.evaluate_config import EvaluateConfig
from pipelines.held_out.evaluation_text import as_text
from pipelines.judging.registry import Registry
from random_walk import draw_walk
from untrained_run import WORDS, make_untrained


@pytest.fixture(scope="module")
def evaluated(three_runs, tmp_path_factory):
    """Both seeds, judged together; the result and its folder."""
    out = tmp_path_factory.mktemp("both")
    found = evaluate(three_runs[:2], out=out / "e", registry=out / "openings.jsonl", draws=20)
    return found, out / "e"


def test_the_json_holds_everything_the_verdict_first(evaluated):
    found, folder = evaluated
    text = (folder / "evaluation.json").read_text(encoding="utf-8")
    values = json.loads(text)
    hashes = values["files"].pop("sha256")
    assert set(hashes) == {"equity.parquet", "returns.parquet", *values["files"]["traces"]}
    assert values == json.loads(json.dumps(found.to_json()))
    assert list(values)[1] == "verdict"
    assert values["verdict"]["word"] in ("no edge", "not enough data")
    assert list(values["accounts"]) == [
        "policy", "flat", "buy_and_hold", "random", "always_short", "matched_random",
        "risk_matched_hold", "momentum", "mean_reversion",
    ]  # fmt: skip
    judged = [against["baseline"] for against in values["verdict"]["findings"]["against"]]
    assert judged == ["flat", "buy_and_hold", "random", "always_short"]
    assert list(values["costs"]["returns"]) == ["0", "0.5", "1", "2", "4"]
    assert values["bars"]["bars"] == 2960
    assert values["looks"]["candidates"] == values["looks"]["trials"] == 1
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
    # The verdict asks for trades of a seed; an account that is a share of several has none.
    trades = [seed.performance.trades.trades for seed in found.seeds]
    assert found.verdict.findings.trades == found.random.policy_trades == np.mean(trades)
    assert found.accounts["policy"].trades is None


def test_traces_have_the_ordinary_columns(evaluated):
    found, folder = evaluated
    traces = [trace for seed in found.seeds for trace in seed.traces]
    assert traces == ["a_actions.csv", "b_actions.csv"]
    rows = read_trace(folder / traces[1])
    assert tuple(rows.columns) == COLUMNS
    assert len(rows) == 2960
    assert set(rows["split"]) == {"test"}


def test_the_print_begins_with_the_verdict_and_has_right_percentages(evaluated):
    found, folder = evaluated
    wins = dataclasses.replace(
        found.accounts["policy"].equity, total_return_fraction=20.09, cagr_fraction=1e9
    )
    policy = dataclasses.replace(found.accounts["policy"], equity=wins)
    told = dataclasses.replace(found, accounts=found.accounts | {"policy": policy})
    text = as_text(told, folder)
    assert text.startswith(f"VERDICT: {found.verdict.word}\n  - {found.verdict.reasons[0][:20]}")
    row = next(line for line in text.splitlines() if line.startswith("policy"))
    assert "+2,009.00 %" in row
    assert "over 100,000 %" in row
    assert "first look at these bars" in text
    assert text.endswith(f"line 2 of {folder.parent / 'openings.jsonl'}")


def test_returns_of_rivals_are_taken_into_the_test(three_runs, evaluated, tmp_path, capsys):
    _, folder = evaluated
    told = {"run": str(three_runs[2]), "rivals": [str(folder)], "draws": 5}
    told |= {"out": str(tmp_path / "e"), "registry": str(tmp_path / "openings.jsonl")}
    rival = main(EvaluateConfig(**told))
    assert rival.verdict.findings.trials == 2
    assert rival.verdict.findings.overfitting is not None
    replaced = tmp_path / "replaced"
    shutil.copytree(folder, replaced)
    (replaced / "returns.parquet").write_bytes((replaced / "equity.parquet").read_bytes())
    with pytest.raises(SystemExit):
        main(EvaluateConfig(**{**told, "rivals": [str(replaced)], "out": str(tmp_path / "f")}))
    assert "another evaluation was begun in this folder" in capsys.readouterr().err
    values = json.loads((folder / "evaluation.json").read_text())
    values["bars"]["last_bar"] = "2030-01-01T00:00:00+00:00"
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    (moved / "evaluation.json").write_text(json.dumps(values))
    with pytest.raises(SystemExit):
        main(EvaluateConfig(**{**told, "rivals": [str(moved)], "out": str(tmp_path / "f")}))
    assert "measured on other bars: its last_bar is 2030" in capsys.readouterr().err
    # The rival's, which came along, and this one's: none of what was refused.
    names = [look.opening.run for look in Registry(told["registry"]).known().carried]
    assert names == [folder.name, three_runs[2].name]


def test_time_that_was_not_played_is_said(tmp_path):
    bars = draw_walk(6_000)
    bars.drop(index=range(4_000, 5_000)).to_parquet(tmp_path / "holed.parquet")
    run = make_untrained(tmp_path / "runs" / "a", tmp_path / "holed.parquet", seed=1)
    found = evaluate([run], draws=5)
    assert found.accounts["policy"].trades == found.seeds[0].performance.trades
    # 2,078 bars of the 3,460 that would be there from the first to the last.
    (said,) = (r for r in found.verdict.reasons if " 60 % was played: the rest are holes" in r)
    # Else who reads a ratio, or a growth, of a year takes it for one of the calendar.
    first, last = (pd.Timestamp(getattr(found.bars, key)) for key in ("first_bar", "last_bar"))
    years = ((last - first) / pd.Timedelta("15min") + 1) / found.bars.bars
    assert years > 1.5
    assert f"Figures of a year are of 365 days of played bars, {years:.2f} years here" in said
    by_calendar = found.verdict.findings.sharpe / np.sqrt(years)
    assert said.endswith(f"by the calendar the Sharpe ratio is {by_calendar:.2f}.")


def test_runs_of_one_name_keep_their_traces_apart(three_runs, tmp_path):
    for parent, run in zip("xy", three_runs, strict=False):
        shutil.copytree(run, tmp_path / parent / "same")
    found = evaluate([tmp_path / "x" / "same", tmp_path / "y" / "same"], draws=5)
    traces = [trace for seed in found.seeds for trace in seed.traces]
    assert len(set(traces)) == 2
    assert found.costs.returns[1.0] == pytest.approx(
        found.accounts["policy"].equity.total_return_fraction, rel=1e-9
    )
    assert (tmp_path / "openings.jsonl").is_file(), "above both of them"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"give one of run=PATH, runs=\[PATH,PATH\], folds=NUMBER"),
        (["run=a", "folds=2"], "run and folds are not allowed together"),
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


@pytest.mark.parametrize("folder", [".", "runs"])
def test_a_folder_is_no_registry(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(ValueError, match=f"^registry='{folder}' is not allowed: a file$"):
        EvaluateConfig(folds=2, registry=folder)


@pytest.mark.parametrize("folds", [False, True])
def test_two_evaluations_do_not_write_to_one_folder(three_runs, tmp_path, capsys, folds):
    out, registry = tmp_path / "e", tmp_path / "openings.jsonl"
    out.mkdir()
    bars = three_runs[0].parent / "bars.parquet"
    own = {"folds": 2, "train": [*WORDS, f"data.path={bars}"]} if folds else {"run": three_runs[0]}
    told = EvaluateConfig(**own, out=str(out), registry=str(registry), draws=5, device="cpu")
    held = lock_folder(out, "held")
    with pytest.raises(SystemExit) as ended:
        main(told)
    assert ended.value.code == 2
    assert "another evaluation is writing here" in capsys.readouterr().err
    assert not registry.exists(), "nobody has looked"
    assert [path.name for path in out.iterdir()] == [".lock"], "nothing was trained"
    held.release()
