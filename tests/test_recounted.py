"""A verdict that is older than other looks at its bars: these are tries, whenever it is shown."""

import dataclasses
import json
import shutil

import pytest

from carried_run import make_run
from pipelines.config import compose_config
from pipelines.evaluate import evaluate
from pipelines.export import main as export
from pipelines.judging.chained_file import ChainedFile
from pipelines.judging.findings import Against, Findings
from pipelines.judging.opening import Opening
from pipelines.judging.recounted import Recounted, recounted
from pipelines.judging.registry import Registry
from pipelines.judging.verdict import EDGE, NOT_ENOUGH, judge
from pipelines.report import write_report
from pipelines.run_insights.run_records import read_all
from random_walk import write_bars

# Two standard errors: an edge if it was the only try, luck if it was the best of 41.
ONE = Findings(
    days=730.0, periods=730, period_hours=24.0, trades=900.0, moved=True,
    total_return_fraction=0.8, sharpe=2.0, sharpe_low=0.1, sharpe_high=3.7, standard_error=1.0,
    block_periods=1.4, probabilistic=0.977, deflated=0.977, trials=1, earlier_openings=0,
    against=[Against("flat", 0.0, 0.01, 2.0, 3.7, 1.0, 0.977)], seed_sharpes=[2.0],
    seeds_sharpe=2.0, seeds_low=2.0, seeds_high=2.0, overfitting=None,
)  # fmt: skip


def look(book, checkpoint="first"):
    return book.open(
        Opening(
            asset="BTC/USD", source_sha256="", first_bar="2025-01-01", last_bar="2025-03-01",
            split="test", run="r", config_sha256="c", checkpoint_sha256=checkpoint,
            purpose="evaluate",
        )
    )  # fmt: skip


@pytest.fixture
def edge(tmp_path):
    """The folder of an evaluation that says edge, in a run, and the registry."""
    book = Registry(tmp_path / "runs" / "openings.jsonl")
    folder = tmp_path / "runs" / "first" / "evaluation"
    folder.mkdir(parents=True)
    (folder.parent / "config.json").write_text("{}")
    receipt = dataclasses.asdict(look(book)) | {"file": "../../openings.jsonl"}
    verdict = judge(ONE).to_json()
    assert verdict["word"] == EDGE
    values = {"verdict": verdict, "looks": {"trials": 1}, "receipt": receipt}
    (folder / "evaluation.json").write_text(json.dumps(values))
    return folder, book


def values_of(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_candidates_that_have_looked_since_count_as_tries(edge):
    folder, book = edge
    assert recounted(folder, values_of(folder)) is None
    look(book)  # the same candidate is no other try
    assert recounted(folder, values_of(folder)) is None
    for number in range(40):
        look(book, f"{number}")
    now = recounted(folder, values_of(folder))
    assert (now.word, now.trials) == (NOT_ENOUGH, 41)
    assert now.sentence == (
        "41 tries are known by now, 1 when this was found, one for each file of bars that a "
        "candidate has looked at: all of them counted, the verdict is: not enough data."
    )


def test_the_page_of_all_runs_shows_the_verdict_with_all_tries(edge):
    folder, book = edge
    root = folder.parents[1]

    def shown():
        (judged,) = read_all(root)[0][0].judged
        return judged.word, judged.reason

    assert shown() == (EDGE, ONE_REASON)
    for number in range(40):
        look(book, f"{number}")
    word, reason = shown()
    assert word == NOT_ENOUGH
    assert reason.startswith("41 tries are known by now, 1 when this")


ONE_REASON = judge(ONE).reasons[0]


def unknown(found):
    """Whether it is said that nobody can tell."""
    return found == Recounted(EDGE, None, 1)


def test_what_is_no_evaluation_is_left_as_it_was(edge):
    folder, _ = edge
    good = values_of(folder)
    for key in ("verdict", "receipt"):
        for other in (None, {}, [], "x", 3):
            assert recounted(folder, good | {key: other}) is None
    broken = good["verdict"]["findings"] | {"against": [{"baseline": 3}]}
    assert recounted(folder, good | {"verdict": {"findings": broken}}) is None


def test_an_edge_whose_registry_is_gone_or_another_is_not_shown_as_if_it_were_counted(
    edge, monkeypatch
):
    folder, book = edge
    for number in range(40):
        look(book, f"{number}")
    good = values_of(folder)
    far = folder.parents[2] / "far" / "evaluation"  # below no registry
    far.mkdir(parents=True)
    assert unknown(recounted(far, good | {"receipt": good["receipt"] | {"file": "/dev/zero"}}))
    large = far / "large"
    large.touch()
    with monkeypatch.context() as patched:
        patched.setattr(ChainedFile, "_whole_lines", lambda *_: pytest.fail("read"))
        assert unknown(recounted(far, good | {"receipt": good["receipt"] | {"file": "large"}}))
    whole = book.file.path.read_bytes()
    book.file.path.write_bytes(whole.replace(b'_sha256": "7"', b'_sha256": "6"'))
    assert unknown(recounted(folder, good))
    for file in folder.parents[1].glob("openings.jsonl*"):
        file.unlink()
    gone = recounted(folder, good)
    assert unknown(gone)
    lost = good["verdict"]["findings"] | {"total_return_fraction": -0.95}
    assert recounted(folder, good | {"verdict": {"findings": lost}}) is None, "no edge stays none"
    assert "counted 1 try when this was found is gone" in gone.sentence
    assert not list(folder.parents[1].glob("openings.jsonl*")), "reading makes no registry"
    (judged,) = read_all(folder.parents[1])[0][0].judged
    assert (judged.word, judged.reason) == ("edge, tries unknown", gone.sentence)
    look(book)  # begun anew
    assert unknown(recounted(folder, good))


def test_a_registry_further_above_that_knows_the_look_counts_it(edge):
    """An archive is unpacked where the registry lies elsewhere than where it was made."""
    folder, book = edge
    for number in range(40):
        look(book, f"{number}")
    above = Registry(folder.parents[2] / "openings.jsonl")
    above.open(book.known().carried[-1].opening)
    look(Registry(folder.parents[1] / "other.jsonl"), "of another registry")
    own = values_of(folder)
    other = own | {"receipt": own["receipt"] | {"file": "../../other.jsonl"}}
    for file in folder.parents[1].glob("openings.jsonl*"):
        file.rename(file.with_name(f"kept{file.name.removeprefix('openings')}"))
    assert unknown(recounted(folder, own)), "it knows nothing of this look"
    above.bring(Registry(folder.parents[1] / "kept.jsonl").carried())
    for values in (own, other):
        now = recounted(folder, values)
        assert (now.word, now.trials) == (NOT_ENOUGH, 41)


def test_a_report_made_again_and_the_card_of_a_model_say_so(tmp_path):
    run = make_run(tmp_path / "run", write_bars(tmp_path / "b.parquet"))
    registry = tmp_path / "openings.jsonl"
    evaluate([run], draws=5, registry=registry)
    folder = run / "evaluation"
    assert "known by now" not in (folder / "report.html").read_text()
    values = values_of(folder)
    values["verdict"] = judge(ONE).to_json()
    (folder / "evaluation.json").write_text(json.dumps(values))
    opening = Registry(registry).known().carried[0].opening
    for number in range(40):
        other = dataclasses.replace(opening, checkpoint_sha256=f"{number}")
        Registry(registry).open(other)
    said = "41 tries are known by now"
    assert said in write_report(folder).read_text()
    export(compose_config("export", [f"run={run}", f"model={tmp_path / 'model'}"]))
    card = (tmp_path / "model" / "README.md").read_text()
    assert "**Verdict: edge.**" in card
    assert "**By now: not enough data.** 41 tries are known" in card
    shutil.rmtree(tmp_path / "model")
    for file in tmp_path.glob("openings.jsonl*"):
        file.unlink()
    export(compose_config("export", [f"run={run}", f"model={tmp_path / 'model'}"]))
    card = (tmp_path / "model" / "README.md").read_text()
    assert "By now" not in card
    assert "**Not to be counted any more.** The registry that counted 1 try when this was" in card
    assert "<b>Not to be counted any more.</b>" in write_report(folder).read_text()


def test_the_registry_is_read_once_for_all_the_verdicts_of_a_page(edge, monkeypatch):
    folder, book = edge
    root = folder.parents[1]
    for number in range(5):
        receipt = dataclasses.asdict(look(book, f"{number}")) | {"file": "../../openings.jsonl"}
        shutil.copytree(folder.parent, root / f"run{number}")
        path = root / f"run{number}" / "evaluation" / "evaluation.json"
        path.write_text(json.dumps(values_of(folder) | {"receipt": receipt}))
    reads = []
    read = ChainedFile.read
    monkeypatch.setattr(ChainedFile, "read", lambda own: reads.append(own.path) or read(own))
    records, _ = read_all(root)
    assert len(records) == 6
    assert all(record.judged[0].reason.startswith("6 tries") for record in records)
    assert len(reads) == 1
