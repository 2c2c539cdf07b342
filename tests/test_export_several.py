"""A run on several markets carried and published: all of its results, none of its paths."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.config import compose_config
from pipelines.evaluate import main as evaluate
from pipelines.export import main as export
from pipelines.exporting.pack import pack_run
from pipelines.exporting.run_files import Choice, is_run_file
from pipelines.exporting.unpack import unpack_archive
from pipelines.replay import replay

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"```(python|bash)\n(.*?)```", re.DOTALL)
MARKETS = ("BTC/USD", "ETH/USD")


@pytest.fixture(scope="module")
def run(tmp_path_factory, carried_run):
    """The folder of a run on two markets, both of them played and one of them judged."""
    root = tmp_path_factory.mktemp("several")
    files = {
        name: carried_run.write_bars(root / "alice" / f"{name[:3].lower()}=1m.parquet", seed=seed)
        for seed, name in enumerate(MARKETS)
    }
    folder = carried_run.make_run(root / "runs" / "mine", files)
    for name in MARKETS:
        replay(folder, asset=name, episodes=4)
    evaluate(compose_config("evaluate", [f"run={folder}", "data.asset=ETH/USD", "draws=20"]))
    return folder


def test_what_several_markets_left_in_a_run_is_carried(run, carried_run, tmp_path):
    packed = pack_run(run, tmp_path / "a.tar.gz")
    assert packed.strange == sorted(carried_run.STRANGE)
    of_evaluation = {"evaluation.json", "report.html", "mine_actions.csv", "equity.parquet"}
    wanted = {f"evaluation_ETH-USD/{name}" for name in of_evaluation}
    for folder in ("replay_BTC-USD", "replay_ETH-USD"):
        names = ("result.json", "replay.html", "replay_actions.csv", "replay_actions.json")
        wanted |= {f"{folder}/{name}" for name in names}
    assert wanted < set(packed.manifest.files)
    got = unpack_archive(packed.path, tmp_path, limit_gb=1)
    known = json.loads((run / "replay_ETH-USD" / "result.json").read_text())
    replay(got, asset="ETH/USD", episodes=4)
    assert json.loads((got / "replay_ETH-USD" / "result.json").read_text()) == known
    without = pack_run(run, tmp_path / "b.tar.gz", Choice(traces=False)).manifest.files
    assert not [name for name in without if "_actions." in name]
    assert "replay_BTC-USD/result.json" in without


@pytest.mark.parametrize(
    "path",
    ["replay_X/notes.txt", "evaluation_X/id_ed25519", "replay_X/y/result.json", "replay_/result.json",
     "replay_a b/result.json", "evaluation_X/run_me.py", "csv/scalars/x.py", "csv/x.csv",
     "tensorboard/keys", "trackio/keys.json", "tensorboard/a/events.out.tfevents.1"],
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
def test_the_files_of_a_logger_are_carried(logger, carried_run, tmp_path):
    if logger != "csv":
        pytest.importorskip(logger)
    folder = carried_run.make_run(tmp_path / "mine", carried_run.write_bars(tmp_path / "b.parquet"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRACKIO")}
    done = subprocess.run(
        [sys.executable, "-c", LOGGED, folder, logger], env=kept | {"HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    logged = {str(p.relative_to(folder)) for p in (folder / logger).rglob("*") if p.is_file()}
    packed = pack_run(folder)
    assert packed.strange == sorted(carried_run.STRANGE)
    assert logged
    assert logged < set(packed.manifest.files)
    assert not [name for name in packed.manifest.files if name.startswith("wandb/")]
    got = unpack_archive(packed.path, tmp_path / "x", limit_gb=1)
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
