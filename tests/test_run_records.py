"""What a run's folder tells: how it ended, how it differs, what it earned, what is damaged."""

import dataclasses
import html
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.number_text import NONE
from pipelines.run_insights import run_records
from pipelines.run_insights.learning_curves import Curves, read_curves, thin
from pipelines.run_insights.run_columns import columns, differing_keys
from pipelines.run_insights.run_records import RunRecord, read_all
from pipelines.run_insights.run_state import RunState
from pipelines.run_insights.runs_page import make_page
from written_runs import REPLAYED, config, judge, make_run, shown, write_runs

ROOT = Path(__file__).resolve().parents[1]
LOCKS_ARE_SEEN = Path("/proc/locks").exists()


@pytest.fixture
def runs(tmp_path):
    return write_runs(tmp_path / "runs")


def by_name(root):
    return {record.name: record for record in read_all(root)[0]}


def text_of(page):
    """What a reader sees of the page's tables."""
    return re.sub(r"<[^>]+>", " ", page[page.index("<main>") : page.index("</main>")])


def test_every_run_is_found_and_its_state_is_right(runs):
    found = by_name(runs)
    assert {name: record.state.word for name, record in found.items()} == {
        "good": "finished", "faster": "finished", "walk/stopped": "interrupted", "half": "broken",
        "failed": "failed", "empty": "broken",
    }  # fmt: skip
    assert found["walk/stopped"].state.reason == "stopped at 8,192 of 20,480 frames"
    assert found["good"].commit == "0123456789abcdef-dirty"
    assert [judged.name for judged in read_all(runs)[1]] == ["walk"]


@contextmanager
def locked_elsewhere(folder):
    """A folder that another process writes to while the block runs."""
    code = (
        "import sys; from pathlib import Path; from pipelines.folder_lock import lock_folder; "
        "held = lock_folder(Path(sys.argv[1]), 'taken'); print('held', flush=True); input()"
    )
    words = [sys.executable, "-c", code, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as other:
        assert other.stdout.readline() == "held\n"
        yield
        other.communicate("\n")


def test_a_walk_forward_is_no_run_and_hides_none_of_its_own_before_it_is_judged(tmp_path):
    make_run(tmp_path / "walk" / "runs" / "seed0_fold1", config(), replayed=False)
    (tmp_path / "walk" / ".lock").touch()
    assert list(by_name(tmp_path)) == ["walk/runs/seed0_fold1"]


@pytest.mark.parametrize("left", [(), ("a_actions.csv", "a_actions.json"), ("runs",)])
def test_an_evaluation_that_goes_on_is_no_run_and_has_no_verdict_yet(tmp_path, left):
    folder = tmp_path / "20260101-000000_evaluation"
    folder.mkdir()
    for name in left:
        (folder / name).touch()
    with locked_elsewhere(folder):
        records, evaluations = read_all(tmp_path)
        text = text_of(make_page(tmp_path, None, tmp_path))
    assert records == []
    if LOCKS_ARE_SEEN:
        assert [(each.name, each.word) for each in evaluations] == [(folder.name, "none yet")]
        assert "none yet" in text
        assert "A process is at work in this folder" in text
    assert read_all(tmp_path) == ([], []), "stopped, it is left out"


def test_a_run_that_is_evaluated_for_the_first_time_says_so(runs):
    (runs / "faster" / "evaluation").mkdir()
    with locked_elsewhere(runs / "faster" / "evaluation"):
        assert shown(runs, "faster")["verdict"] == ("none yet" if LOCKS_ARE_SEEN else NONE)
    assert shown(runs, "faster")["verdict"] == NONE


def test_a_run_that_was_stopped_when_it_had_no_more_than_its_bars_is_a_broken_one(tmp_path):
    bars = tmp_path / "begun" / "bars"
    bars.mkdir(parents=True)
    (bars / "table.json").write_text("{}")
    assert by_name(tmp_path)["begun"].state.word == "broken"


def test_a_run_that_is_being_written_is_running_and_is_left_alone(runs):
    with locked_elsewhere(runs / "walk" / "stopped"):
        seen = by_name(runs)["walk/stopped"].state.word
    assert seen == ("running" if LOCKS_ARE_SEEN else "interrupted")
    assert by_name(runs)["walk/stopped"].state.word == "interrupted"


def test_what_is_damaged_is_said_and_the_rest_is_shown(runs):
    half = by_name(runs)["half"]
    assert len(half.curves.points["time/sps"][0]) == 10
    said = " ".join(half.problems)
    assert "config.json: half-written" in said
    assert "result.json: not an object" in said
    assert "metrics.jsonl: 3 of 13 lines are damaged" in said
    assert "the last line is half-written" in said
    assert "metrics.jsonl: not UTF-8" in by_name(runs)["empty"].problems
    page = text_of(make_page(runs, None, runs))
    for words in ("3 of 13 lines", "a number was none", "stopped at 8,192", "not UTF-8"):
        assert words in page


@pytest.mark.parametrize("known", [None, 5, ["ab"], {"ab": 1}])
def test_a_hash_of_bars_that_is_none_is_that_of_other_bars(runs, known):
    path = runs / "good" / "result.json"
    values = json.loads(path.read_text())
    values["replayed"]["source_sha256"] = known
    path.write_text(json.dumps(values))
    assert [each.other for each in by_name(runs)["good"].replays] == ["BTC/USDT of x.csv"]


@given(
    left=st.fixed_dictionaries({}, optional={name: st.integers(0, 2) for name in "abc"}),
    right=st.fixed_dictionaries({}, optional={name: st.integers(0, 2) for name in "abc"}),
)
def test_exactly_the_keys_that_differ_are_columns(left, right):
    base = unwritten()
    records = [dataclasses.replace(base, config={"z": 1} | each) for each in (left, right)]
    differ = {name for name in "abc" if left.get(name) != right.get(name)}
    assert set(differing_keys(records)) == differ


def unwritten():
    """A record without files."""
    state = RunState("interrupted", "", "")
    return RunRecord("x", Path("x"), {}, state, Curves(), [], [], "", [])


def test_a_broken_configuration_hides_no_difference_and_makes_none(runs):
    records = read_all(runs)[0]
    assert set(differing_keys(records)) == {"seed", "tag", "train.lr"}
    only = [record for record in records if record.name in ("good", "half")]
    assert differing_keys(only) == []


def test_time_and_cost_are_those_of_the_iterations(runs):
    found = by_name(runs)
    assert found["good"].curves.hours == pytest.approx(20_480 / 400 / 3_600)
    shown = {c.title: c.cell(found["faster"]).text for c in columns(list(found.values()), 90.0)}
    assert shown["frames/s"] == "800"
    assert shown["cost"] == f"{20_480 / 800 / 3_600 * 90:.2f}"
    assert shown["return"] == "-10.00 %"
    assert shown["buy-and-hold"] == "-2.00 %"
    assert shown["commit"] == "01234567-dirty"
    assert "cost" not in {column.title for column in columns(list(found.values()), None)}


def replay(folder, growth, **bars):
    """The result of a replay."""
    folder.mkdir(exist_ok=True)
    accounts = {"policy": {"total_return": growth}, "buy_and_hold": {"total_return": 0.5}}
    result = {"replayed": REPLAYED | bars, "metrics": accounts}
    (folder / "result.json").write_text(json.dumps(result))


@pytest.fixture
def joint(tmp_path):
    """A run on two markets that are not replayed yet."""
    data = dataclasses.replace(config().data, assets=["BTC/USDT=b.csv", "ETH/USDT=e.csv"])
    run = make_run(tmp_path / "runs" / "joint", config(data=data), replayed=False)
    parts = [{"asset": name, "source_sha256": name} for name in ("BTC/USDT", "ETH/USDT")]
    meta = {"source_sha256": "both", "assets": parts}
    (run / "bars" / "table.json").write_text(json.dumps(meta))
    return run


def test_a_run_on_several_markets_is_finished_when_each_is_replayed(joint):
    replay(joint / "replay_BTC-USDT", 0.25, source_sha256="BTC/USDT")
    root = joint.parent
    assert by_name(root)["joint"].state.word == "interrupted"
    replay(joint / "replay_ETH-USDT", -0.5, asset="ETH/USDT", source_sha256="ETH/USDT")
    judge(joint / "evaluation_ETH-USDT", "no edge", "It fell.")
    found = shown(root, "joint")
    assert found["state"] == "finished"
    assert found["return"] == "BTC/USDT +25.00 %\nETH/USDT -50.00 %"
    assert found["verdict"] == "no edge (ETH-USDT)"
    assert "ETH-USDT: It fell." in found["notes"]
    assert "other replay" not in found
    for name in ("replay_BTC-USDT/replay.html", "evaluation_ETH-USDT/report.html"):
        (joint / name).touch()
    page = make_page(root, None, root)
    assert 'href="joint/replay_BTC-USDT/replay.html">replay BTC/USDT<' in page
    assert 'href="joint/evaluation_ETH-USDT/report.html">report ETH-USDT<' in page
    (joint / "replay_ETH-USDT" / "result.json").write_text("{")
    record = by_name(root)["joint"]
    assert record.state.word == "interrupted"
    assert any(line.startswith("replay_ETH-USDT/result.json: half") for line in record.problems)


def test_a_verdict_on_another_market_is_shown_with_its_name_beside_the_own_one(runs):
    judge(runs / "good" / "evaluation_ETH-USDT", "edge", "It rose.")
    path = runs / "good" / "evaluation_ETH-USDT" / "evaluation.json"
    other = REPLAYED | {"asset": "ETH/USDT", "source_name": "eth.csv", "source_sha256": "e"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bars": other}))
    named = "ETH/USDT, ETH/USDT of eth.csv"
    assert shown(runs, "good")["verdict"] == f"no edge\nedge ({named})"
    cell = f'<span data-word="no">no edge</span><span data-word="edge">edge ({named})</span>'
    assert cell in make_page(runs, None, runs)


def test_test_bars_that_the_weights_were_trained_on_are_no_held_out_result(runs):
    path = runs / "good" / "result.json"
    assert shown(runs, "good")["return"] == "+30.00 %"
    notes = ["In-sample: the policy was trained on the time of 24 of these 24 bars."]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"notes": notes}))
    found = shown(runs, "good")
    assert found["state"] == "finished"
    assert found["return"] == "\u2013"
    assert found["other replay"] == "in-sample +30.00 %"


@pytest.mark.parametrize(
    ("bars", "words"),
    [
        ({"split": "train"}, "train split -20.00 %"),
        ({"split": "val"}, "val split -20.00 %"),
        ({"asset": "ETH/USDT", "source_name": "e.csv", "source_sha256": "e"},
         "ETH/USDT of e.csv -20.00 %"),
        ({"split": None}, "unknown bars -20.00 %"),
    ],
)  # fmt: skip
def test_a_replay_of_other_bars_is_no_held_out_result(runs, bars, words):
    assert shown(runs, "good")["return"] == "+30.00 %"
    replay(runs / "good", -0.2, **bars)
    found = shown(runs, "good")
    assert found["state"] == "finished"
    assert (found["return"], found["buy-and-hold"]) == ("\u2013", "\u2013")
    assert found["other replay"] == words


def test_the_bars_of_a_run_are_known_by_a_checkpoint_when_their_table_is_gone(runs):
    (runs / "good" / "bars" / "table.json").unlink()
    assert shown(runs, "good")["return"] == "\u2013"
    (manifest,) = (runs / "good" / "checkpoints").glob("*/manifest.json")
    manifest.write_text(json.dumps({"data": {"sha256": "ab"}}))
    assert shown(runs, "good")["return"] == "+30.00 %"


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200).map(np.array),
    most=st.integers(4, 60),
)
def test_a_thinned_curve_keeps_its_ends_and_its_extremes(values, most):
    kept = thin(values, most)
    assert len(kept) <= max(most, 1)
    assert (np.diff(kept) > 0).all()
    assert (kept[0], kept[-1]) == (0, len(values) - 1)
    assert (values[kept].min(), values[kept].max()) == (values.min(), values.max())


def test_links_lead_nowhere_outside(runs, tmp_path):
    outside = make_run(tmp_path / "outside", config(tag="outside"))
    (runs / "linked").symlink_to(outside)
    (runs / "good" / "metrics.jsonl").unlink()
    (runs / "good" / "metrics.jsonl").symlink_to(outside / "metrics.jsonl")
    found = by_name(runs)
    assert "linked" not in found
    assert "metrics.jsonl: not a plain file" in found["good"].problems
    assert found["good"].curves.points == {}


def test_a_damaged_file_of_lines_alone_gives_no_curve(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"frames": 1e400}\n{"frames": 1, "a": 1e400}\n')
    problems = []
    curves = read_curves(tmp_path, problems)
    assert (curves.frames, curves.points) == (1, {})
    assert problems == ["metrics.jsonl: 1 of 2 lines are damaged"]


HUGE = f"1{'0' * 400}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.jsonl", f'{{"frames": 2048, "train/loss": {HUGE}}}\n{{"frames": {HUGE}}}\n'),
        ("metrics.jsonl", '{"frames": 2048, "time/sps": 5e-324, "x": NaN, "y": -Infinity}\n'),
        ("metrics.jsonl", '{"frames": -1}\n{"frames": 2048, "x": true, "time/sps": true}\n'),
        ("result.json", f'{{"metrics": {{"policy": {{"total_return": {HUGE}, "trades": NaN}}}}}}'),
        ("result.json", '{"metrics": {"policy": {"total_return": true, "max_drawdown": "x"}}}'),
        ("config.json", f'{{"total_frames": {HUGE}, "seed": NaN, "tag": "\\ud800"}}'),
        ("config.json", '{"a":' * 900 + "1" + "}" * 900),
        ("evaluation/evaluation.json", '{"verdict": {"word": "\\udfff", "reasons": ["\\ud800"]}}'),
    ],
)
def test_a_page_is_made_whatever_one_run_s_files_hold(runs, name, text):
    (runs / "good" / name).write_text(text)
    for beside in (runs, None):
        page = make_page(runs, 2.0, beside)
        assert page.encode().count(b'<th scope="row"') == 7
    found = shown(runs, "good")
    for title in ("return", "max drawdown", "trades", "frames", "frames/s", "time"):
        assert re.fullmatch(r"[-+\d.,]+( (%|s|min|h|d))?|\u2013", found[title]), (
            title,
            found[title],
        )


def test_a_run_that_is_removed_while_it_is_read_is_no_error(runs, monkeypatch):
    def read(folder, problems):
        shutil.rmtree(folder)
        raise FileNotFoundError(2, "No such file or directory", str(folder))

    monkeypatch.setattr(run_records, "read_curves", read)
    (one,) = [each for each in read_all(runs)[0] if each.name == "good"]
    assert (one.state.word, one.curves.frames) == ("broken", 0)
    assert "No such file" in one.state.reason
    assert str(runs) not in one.state.reason


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", "ü-🚀".encode(), b"&<b>'\"", b"%2e%2e"])
def test_a_run_of_any_name_is_shown_and_linked(runs, name):
    folder = os.path.join(os.fsencode(runs), name)
    shutil.copytree(os.fsencode(runs / "good"), folder)
    Path(os.fsdecode(folder), "replay.html").touch()
    page = make_page(runs, None, runs)
    (way,) = re.findall(r'href="([^"]*)/replay.html"', page)
    assert urllib.parse.unquote_to_bytes(html.unescape(way)) == name
    assert "<b>" not in page
    assert "/trace/?run=" in make_page(runs, None, None)
