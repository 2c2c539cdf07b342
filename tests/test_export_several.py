"""A run on several markets carried and published: all of its results, none of its paths."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from carried_run import STRANGE, make_card, make_run
from pipelines.config import compose_config
from pipelines.evaluate import main as evaluate
from pipelines.export import main as export
from pipelines.exporting.pack import pack_run
from pipelines.exporting.run_files import Choice, is_run_file
from pipelines.exporting.unpack import unpack_archive
from pipelines.judging.registry import Registry
from pipelines.replay import replay
from random_walk import write_bars

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"```(python|bash)\n(.*?)```", re.DOTALL)
MARKETS = ("BTC/USD", "ETH/USD")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run on two markets, both of them played and one of them judged."""
    root = tmp_path_factory.mktemp("several")
    files = {
        name: write_bars(root / "alice" / f"{name[:3].lower()}=1m.parquet", seed=seed)
        for seed, name in enumerate(MARKETS)
    }
    folder = make_run(root / "runs" / "mine", files)
    for name in MARKETS:
        replay(folder, asset=name, episodes=4)
    evaluate(compose_config("evaluate", [f"run={folder}", "data.asset=ETH/USD", "draws=20"]))
    return folder


def test_what_several_markets_left_in_a_run_is_carried(run, tmp_path):
    packed = pack_run(run, tmp_path / "a.tar.gz")
    assert packed.strange == sorted(STRANGE)
    of_evaluation = {"evaluation.json", "report.html", "mine_actions.csv", "equity.parquet"}
    wanted = {f"evaluation_ETH-USD/{name}" for name in of_evaluation}
    for folder in ("replay_BTC-USD", "replay_ETH-USD"):
        names = ("result.json", "replay.html", "replay_actions.csv", "replay_actions.json")
        wanted |= {f"{folder}/{name}" for name in names}
    assert wanted < set(packed.manifest.files)
    got = unpack_archive(packed.path, tmp_path, limit_gb=1).folder
    known = json.loads((run / "replay_ETH-USD" / "result.json").read_text())
    replay(got, asset="ETH/USD", episodes=4)
    assert json.loads((got / "replay_ETH-USD" / "result.json").read_text()) == known
    without = pack_run(run, tmp_path / "b.tar.gz", Choice(traces=False)).manifest.files
    assert not [name for name in without if "_actions." in name]
    assert "replay_BTC-USD/result.json" in without


@pytest.mark.parametrize(
    "path",
    ["replay_X/notes.txt", "evaluation_X/id_ed25519", "replay_X/y/result.json",
     "replay_/result.json", "replay_a b/result.json", "evaluation_X/run_me.py",
     "csv/scalars/x.py", "csv/x.csv", "tensorboard/keys", "trackio/keys.json",
     "tensorboard/a/events.out.tfevents.1"],
)  # fmt: skip
def test_beside_the_files_of_a_market_or_a_logger_nothing_is_a_file_of_a_run(path):
    assert not is_run_file(path)


LOGGED = """
import sys
from pathlib import Path
from pipelines.config import RunConfig
from pipelines.run_folder import RunFolder
from pipelines.tracking.tracker import Tracker

folder, logger = sys.argv[1:]
with Tracker(RunFolder(Path(folder)), RunConfig(logger=logger), total_frames=10) as tracker:
    tracker.log({"train/loss": 1.0, "replay_BTC-USD/policy/total_return": 0.0}, 10)
    tracker._outlet.log_counts({"actions/direction": [1, 0, 2]}, 10)
"""


@pytest.mark.parametrize("logger", ["csv", "tensorboard", "trackio"])
def test_the_files_of_a_logger_are_carried(logger, tmp_path):
    if logger != "csv":
        pytest.importorskip(logger)
    folder = make_run(tmp_path / "mine", write_bars(tmp_path / "b.parquet"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRACKIO")}
    done = subprocess.run(
        [sys.executable, "-c", LOGGED, folder, logger], env=kept | {"HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    logged = {str(p.relative_to(folder)) for p in (folder / logger).rglob("*") if p.is_file()}
    packed = pack_run(folder)
    assert packed.strange == sorted(STRANGE)
    assert logged
    assert logged < set(packed.manifest.files)
    assert not [name for name in packed.manifest.files if name.startswith("wandb/")]
    got = unpack_archive(packed.path, tmp_path / "x", limit_gb=1).folder
    assert all((got / name).read_bytes() == (folder / name).read_bytes() for name in logged)
    assert replay(got, episodes=1).metrics.keys() >= {"policy", "flat"}


def test_no_path_of_a_market_reaches_what_is_published(run, tmp_path):
    model = tmp_path / "model"
    export(compose_config("export", [f"run={run}", f"model={model}"]))
    texts = [path.read_bytes() for path in model.rglob("*") if path.is_file()]
    for private in ("alice", str(run.parent.parent), "somebody"):
        assert not [text for text in texts if private.encode() in text]
    (manifest,) = model.rglob("manifest.json")
    data = json.loads(manifest.read_text())["config"]["data"]
    assert data["assets"] == ["BTC/USD=btc=1m.parquet", "ETH/USD=eth=1m.parquet"]


PLAYED = """
from pipelines.held_out.rollout import play_tiles
print(table.meta.asset, len(play_tiles(table, inputs.cfg, inputs.bounds[:2], policy).batch))
"""


def test_the_lines_of_a_card_load_and_play_a_model_of_several_markets(run, tmp_path):
    text = make_card(run, tmp_path / "policy")
    assert "A trading policy for BTC/USD and ETH/USD, bars of" in text
    (tmp_path / "bars.parquet").symlink_to(run.parent.parent / "alice" / "btc=1m.parquet")
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    blocks = dict(BLOCK.findall(text))
    loaded = [sys.executable, "-c", blocks["python"] + PLAYED]
    played = ["bash", "-c", blocks["bash"].strip() + " episodes=2"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for command, said in ((loaded, "BTC/USD "), (played, "replay_BTC-USD/replay.html")):
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert said in done.stdout


def test_a_card_lists_the_bars_of_every_market(run, tmp_path):
    text = make_card(run, tmp_path / "model")
    for name, file in zip(MARKETS, ("btc=1m.parquet", "eth=1m.parquet"), strict=True):
        for split in ("train", "val", "test"):
            assert f"| {name} | {split} | " in text
        assert f"{name}: {file}, sha256 `" in text


def test_a_card_has_the_verdict_of_each_market_and_says_which_has_none(run, tmp_path):
    text = make_card(run, tmp_path / "model")
    found = json.loads((run / "evaluation_ETH-USD" / "evaluation.json").read_text())
    word = found["verdict"]["word"]
    assert f"**Verdict: {word}.** On ETH/USD, file eth=1m.parquet.\n" in text
    assert "**No verdict on BTC/USD**" in text
    assert text.count("**Verdict: ") == 1
    other = make_card(run, tmp_path / "last", "checkpoints=last")
    assert "is another checkpoint" in other
    assert "**Verdict: " not in other


def test_a_verdict_on_another_file_says_so(tmp_path):
    run = make_run(tmp_path / "mine", write_bars(tmp_path / "b.parquet"))
    later = write_bars(tmp_path / "later.parquet", seed=7)
    words = [f"run={run}", f"data.path={later}", "draws=20"]
    evaluate(compose_config("evaluate", words))
    evaluate(compose_config("evaluate", [*words, "data.asset=SOL/USD"]))
    text = make_card(run, tmp_path / "model")
    for market in ("BTC/USD", "SOL/USD"):
        where = f"On {market}, file later.parquet, which is no file that it was trained on."
        assert text.count(where) == 1
    assert str(tmp_path) not in text


def openings(book):
    return [look.opening for look in book.known().carried]


def test_looks_of_a_pod_are_counted_at_home_once(run, tmp_path, capsys):
    home = tmp_path / "runs"
    other = make_run(home / "other", write_bars(tmp_path / "b.parquet"))
    replay(other, episodes=1)
    book = Registry(home / "openings.jsonl")
    kept, here = book.file.path.read_bytes(), openings(book)
    there = openings(Registry(run.parent / "openings.jsonl"))
    archive = pack_run(run, tmp_path / "a.tar.gz").path
    capsys.readouterr()
    export(compose_config("export", [f"unpack={archive}", f"into={home}"]))
    count = f"{len(there)} look{'s' * (len(there) > 1)} at held-out bars came along"
    assert f"{count}, {len(there)} new in {book.file.path}" in capsys.readouterr().out
    assert openings(book) == here + there
    assert book.file.path.read_bytes().startswith(kept)
    # The same looks by another archive, and those of here on their way back, are known.
    again = pack_run(other, tmp_path / "b.tar.gz").path
    for file, into in ((archive, home / "again"), (again, home / "back")):
        assert unpack_archive(file, into, limit_gb=1).fresh == 0
    assert openings(book) == here + there
    # The verdict that came along has its receipt from over there.
    words = [f"run={home / run.name}", "data.asset=ETH/USD", "draws=20"]
    found = evaluate(compose_config("evaluate", words))
    earlier = [look for look in here + there if look.overlaps(openings(book)[-1])]
    assert found.looks.earlier == len(earlier)
    candidates = {look.trial for look in [*earlier, openings(book)[-1]]}
    assert found.looks.candidates == len(candidates)
    # Both markets of the one that came along are tries: what is said of one was chosen of two.
    looks = [look for look in openings(book) if look.trial in candidates]
    assert found.looks.trials == len({(look.trial, look.source_sha256) for look in looks})
    assert any("This is ETH/USD alone, and says nothing of" in r for r in found.verdict.reasons)


def test_a_damaged_registry_at_home_is_refused_and_nothing_is_left(run, tmp_path):
    registry = tmp_path / "into" / "openings.jsonl"
    registry.parent.mkdir()
    registry.write_text("{}\n")
    archive = pack_run(run, tmp_path / "a.tar.gz").path
    with pytest.raises(ValueError, match="line 1 is not a line of this file"):
        unpack_archive(archive, registry.parent, limit_gb=1)
    registry.with_name("openings.jsonl.lock").unlink()
    assert [path.name for path in registry.parent.iterdir()] == [registry.name]


def test_an_archive_of_a_run_with_looks_packs_into_itself_elsewhere(run, tmp_path):
    archive = pack_run(run, tmp_path / "a.tar.gz").path
    got = unpack_archive(archive, tmp_path / "else" / "where", limit_gb=1).folder
    assert pack_run(got).path.read_bytes() == archive.read_bytes()
