"""Nobody fishes a verdict out of the options of an evaluation: they decide nothing, or are told."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from forged_checkpoint import rehash
from pipelines.evaluate import evaluate, main
from pipelines.held_out.candidate import load_candidate
from pipelines.held_out.evaluate_config import EvaluateConfig
from pipelines.held_out.replay_config import ReplayDataConfig
from pipelines.judging.findings import Evidence, find
from pipelines.judging.opening import Opening
from pipelines.judging.period_returns import PeriodReturns
from pipelines.judging.registry import Registry
from pipelines.judging.verdict import EDGE, judge
from random_walk import draw_walk
from untrained_run import make_untrained


def told(run, folder, **words):
    """What to evaluate, with a registry and a folder of its own."""
    out, registry = str(folder / "e"), str(folder / "openings.jsonl")
    return EvaluateConfig(**{"run": str(run), "out": out, "registry": registry, "draws": 5} | words)


def days(**columns):
    """Daily returns of accounts."""
    times = pd.date_range("2024-01-01", periods=len(next(iter(columns.values()))), tz="UTC")
    values = pd.DataFrame(columns, index=times)
    return PeriodReturns(values, 86_400.0, 1_440 * len(values), 60.0)


def test_neither_seed_nor_draws_move_anything_that_decides(three_runs, tmp_path):
    """With another seed a borderline account is an edge in 14 cases of 25: that was the lever."""
    found = [
        main(told(three_runs[0], tmp_path / name, **words)).to_json()
        for name, words in (("a", {}), ("b", {"seed": 7, "draws": 9}))
    ]
    for key in ("word", "conditions", "findings"):
        assert found[0]["verdict"][key] == found[1]["verdict"][key]
    assert found[0]["intervals"] == found[1]["intervals"]
    for name, account in found[0]["accounts"].items():
        if name != "matched_random":
            assert account == found[1]["accounts"][name], name


def test_one_policy_under_two_seeds_is_not_two_seeds(three_runs, tmp_path, capsys):
    twin = tmp_path / "twin"
    shutil.copytree(three_runs[0], twin)
    (folder,) = (twin / "checkpoints").iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["config"]["seed"] = 99
    (folder / "manifest.json").write_text(json.dumps(manifest))
    rehash(folder)
    with pytest.raises(ValueError, match=r"twin has the weights of .*a: one policy is one seed"):
        load_candidate("x", [[three_runs[0]], [twin]])
    with pytest.raises(SystemExit):
        evaluate([three_runs[0], f"{three_runs[0]}/"], out=tmp_path / "e", draws=5)
    assert "another run of seed 1" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["seed 0", "market", "rival"])
def test_returns_that_are_no_numbers_are_refused_by_account_and_time(name, bad):
    rng = np.random.default_rng(0)
    columns = {each: 0.01 + 0.01 * rng.standard_normal(120) for each in ("seed 0", "rival")}
    columns["market"] = 0.01 * rng.standard_normal(120)
    columns[name][7] = bad
    evidence = Evidence(days(**columns), ["seed 0"], ["market"], 99.0, rivals=["rival"])
    with pytest.raises(ValueError, match=f"{name}: its return of 2024-01-08.* is no finite number"):
        find(evidence, draws=20)


def test_a_rival_with_other_bars_in_between_is_refused_before_the_look(
    three_runs, tmp_path, capsys
):
    main(told(three_runs[0], tmp_path / "a"))
    path = tmp_path / "a" / "e" / "evaluation.json"
    values = json.loads(path.read_text())
    values["bars"]["bars"] -= 5
    path.write_text(json.dumps(values))
    with pytest.raises(SystemExit):
        main(told(three_runs[2], tmp_path / "b", rivals=[str(path.parent)]))
    assert "measured on other bars: its bars is 2955, here it is 2960" in capsys.readouterr().err
    assert not (tmp_path / "b" / "openings.jsonl").exists()


def test_the_best_of_several_cuts_of_the_bars_is_the_best_of_so_many_tries(three_runs, tmp_path):
    """The same policy, and every time the file ends where it pleases."""
    bars = draw_walk(6_400)
    run, registry = tmp_path / "runs" / "a", tmp_path / "runs" / "openings.jsonl"
    make_untrained(run, three_runs[0].parent / "bars.parquet", seed=1)
    evaluate([run], draws=5)
    for number, end in enumerate((6_200, 6_400), 2):
        bars[:end].to_parquet(tmp_path / f"{end}.parquet")
        data = ReplayDataConfig(path=str(tmp_path / f"{end}.parquet"))
        found = main(EvaluateConfig(run=str(run), data=data, out=str(tmp_path / f"{end}"), draws=5))
        assert found.verdict.findings.trials == number
        assert found.looks.candidates == 1
        told = ("1 was the same policy", "2 were the same policies")[number - 2]
        (reason,) = (each for each in found.verdict.reasons if "on other bars" in each)
        assert reason.startswith(f"Of the {number} tries {told} on other bars: who quotes the best")
    assert len(Registry(registry).known().carried) == 3


def test_a_training_of_its_own_for_every_market_is_said_not_to_be_counted(three_runs, tmp_path):
    """Twenty such markets are twenty first looks, each of one try, and somebody shows the best."""
    run, registry = tmp_path / "runs" / "a", tmp_path / "runs" / "openings.jsonl"
    shutil.copytree(three_runs[0], run)
    for number, words in enumerate(("1 more candidate at", "2 more candidates at"), 1):
        Registry(registry).open(
            Opening(
                asset=f"COIN{number}/USD", source_sha256=f"{number}", first_bar="2025-01-01",
                last_bar="2025-06-01", split="test", run=f"of coin {number}",
                config_sha256=f"{number}", checkpoint_sha256=f"{number}", purpose="evaluate",
            )
        )  # fmt: skip
        found = evaluate([run], draws=5)
        assert (found.looks.trials, found.looks.apart) == (1, number)
        assert any(words in reason for reason in found.verdict.reasons)


def test_a_registry_of_its_own_hides_no_looks_of_the_one_at_home(three_runs, tmp_path):
    runs = tmp_path / "runs"
    for name, run in zip("ac", three_runs[::2], strict=True):
        shutil.copytree(run, runs / name)
    evaluate([runs / "c"], draws=5)
    first = main(told(runs / "a", tmp_path / "x"))
    assert first.looks.trials == 2
    again = main(told(runs / "a", tmp_path / "y"))
    assert (again.looks.earlier, again.looks.trials) == (2, 2)
    home = Registry(runs / "openings.jsonl")
    assert len(home.known().carried) == 3
    # The one at home keeps the look, so that who looks later is seen from here.
    assert (tmp_path / "y" / "e" / again.registry).resolve() == home.file.path
    looks = Registry(tmp_path / "y" / "openings.jsonl").known().carried
    assert [look.opening.run for look in looks] == ["a"]
    assert not any("is none that is found" in reason for reason in again.verdict.reasons)


def test_a_registry_that_nobody_else_would_find_is_said_to_be_one(three_runs, tmp_path):
    shutil.copytree(three_runs[0], tmp_path / "runs" / "a")
    found = main(told(tmp_path / "runs" / "a", tmp_path / "elsewhere"))
    (said,) = (reason for reason in found.verdict.reasons if "is none that is found" in reason)
    assert f"begun {found.looks.begun[:10]}" in said
    assert not (tmp_path / "runs" / "openings.jsonl").exists()


def test_of_eight_markets_without_an_edge_the_best_is_one_as_rarely_as_a_single_one():
    """A simulation: what the tries of `Looks.trials` do for who quotes the best market."""
    rng = np.random.default_rng(11)
    words = {1: 0, 8: 0}
    for _ in range(60):
        drawn = 0.01 * rng.standard_normal((8, 120))
        best = drawn[(drawn.mean(1) / drawn.std(1, ddof=1)).argmax()]
        for trials in words:
            evidence = Evidence(days(best=best, flat=0.0 * best), ["best"], ["flat"], 99.0, trials)
            words[trials] += judge(find(evidence, draws=300)).word == EDGE
    assert words[1] >= 5, "the best of eight passes as an only try"
    assert words[8] <= 3
