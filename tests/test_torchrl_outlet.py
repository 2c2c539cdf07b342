"""TorchRL's own loggers: what they write is read back by those who made the format."""

import csv
import json
import os
import sqlite3
import subprocess
import sys

import pytest

from pipelines.config import RunConfig, compose_config
from pipelines.ppo_transformer import main
from pipelines.run_folder import RunFolder
from pipelines.tracking import torchrl_outlet
from pipelines.tracking.torchrl_outlet import require_logger
from pipelines.tracking.tracker import Tracker

COUNTS = {"actions/direction": [1, 0, 2]}


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(str(tmp_path), str(tmp_path / "run"), "test")


def scalars(run, name):
    with open(run.path / "csv" / "scalars" / f"{name}.csv", encoding="utf-8") as lines:
        return [(int(step), float(value)) for step, value in csv.reader(lines)]


def log(run, logger, resume=None, values=((10, 1.0), (20, 0.5))):
    with Tracker(run, RunConfig(logger=logger), total_frames=20, resume=resume) as tracker:
        for frames, value in values:
            tracker.log({"train/loss": value, "time/sps": 3.0}, frames)
            tracker._outlet.log_counts(COUNTS, frames)
            mark = tracker.mark if frames == 10 else None
            resume = mark or resume
    return resume


def test_csv_has_a_file_a_curve_and_a_resumed_run_no_line_twice(run, caplog):
    mark = log(run, "csv")
    assert scalars(run, "train/loss") == [(10, 1.0), (20, 0.5)]
    assert scalars(run, "time/sps") == [(10, 3.0), (20, 3.0)]
    assert "seed: 0" in (run.path / "csv" / "texts" / "hparams0.txt").read_text("utf-8")
    log(run, "csv", mark, [(20, 0.25)])
    assert scalars(run, "train/loss") == [(10, 1.0), (20, 0.25)]
    assert caplog.records == []


def test_csv_has_nothing_of_a_beginning_that_no_checkpoint_kept(run):
    log(run, "csv")
    log(run, "csv", values=((10, 2.0),))  # begun anew in the same folder
    assert scalars(run, "train/loss") == [(10, 2.0)]


def test_csv_has_the_replay_of_a_finished_run_once(run):
    mark = log(run, "csv", values=((10, 1.0),))
    for growth in (0.1, 0.2):
        with Tracker(run, RunConfig(logger="csv"), total_frames=10, resume=mark) as tracker:
            for name in ("replay", "replay_BTC-USDT"):
                tracker.log({f"{name}/total_return": growth}, 10)
    assert scalars(run, "train/loss") == [(10, 1.0)]
    assert scalars(run, "replay/total_return") == [(10, 0.2)]
    assert scalars(run, "replay_BTC-USDT/total_return") == [(10, 0.2)]


def test_tensorboard_reads_curves_histograms_and_the_configuration(run, caplog):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log(run, "tensorboard")
    events = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"histograms": 0})
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(10, 1.0), (20, 0.5)]
    histogram = events.Histograms("actions/direction")[0].histogram_value
    assert (histogram.num, histogram.sum) == (3, 4.0)
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert json.loads(text.removeprefix("```json").removesuffix("```"))["seed"] == 0
    assert caplog.records == []


TRACKIO = """
import sys
from pipelines.config import RunConfig
from pipelines.run_folder import RunFolder
from pipelines.tracking.tracker import Tracker

run = RunFolder.create(".", "run", "test")
with Tracker(run, RunConfig(logger="trackio"), total_frames=10) as tracker:
    for frames, value in ((5, 1.0), (10, 0.5)):
        tracker.log({"train/loss": value}, frames)
        tracker._outlet.log_counts({"actions/direction": [1, 0, 2]}, frames)
"""


def test_trackio_keeps_its_files_in_the_run_folder(tmp_path):
    pytest.importorskip("trackio")
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRACKIO")}
    done = subprocess.run(
        [sys.executable, "-c", TRACKIO], cwd=tmp_path, env=environment | {"HOME": str(home)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "W&B" not in done.stderr
    assert "failed" not in done.stderr
    (database,) = (tmp_path / "run" / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT run_name, step, metrics FROM metrics").fetchall()
    losses = [(name, step, json.loads(text).get("train/loss")) for name, step, text in rows]
    assert [row for row in losses if row[2] is not None] == [("run", 5, 1.0), ("run", 10, 0.5)]
    assert any(b"actions/direction" in bytes(text) for _, _, text in rows)


TWICE = """
import os
from pipelines.config import RunConfig
from pipelines.run_folder import RunFolder
from pipelines.tracking.tracker import Tracker

for name in ("one", "two"):
    run = RunFolder.create(".", name, "test")
    with Tracker(run, RunConfig(logger="trackio"), total_frames=10) as tracker:
        tracker.log({"train/loss": 1.0}, 10)
    assert "TRACKIO_DIR" not in os.environ or "GIVEN" in os.environ
"""


def run_twice(folder, **more):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRACKIO")}
    done = subprocess.run(
        [sys.executable, "-c", TWICE], cwd=folder, env=environment | {"HOME": str(folder)} | more,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def logged_runs(folder):
    (database,) = folder.glob("*.db")
    with sqlite3.connect(database) as connection:
        return {name for (name,) in connection.execute("SELECT run_name FROM metrics")}


def test_a_second_run_of_a_process_does_not_write_into_the_first_one_s_folder(tmp_path):
    pytest.importorskip("trackio")
    said = run_twice(tmp_path)
    assert "trackio keeps to the folder of this process's first run" in said
    assert logged_runs(tmp_path / "one" / "trackio") == {"one"}
    assert not (tmp_path / "two" / "trackio").exists()


def test_runs_of_one_process_share_a_folder_that_a_person_names(tmp_path):
    pytest.importorskip("trackio")
    said = run_twice(tmp_path, TRACKIO_DIR=str(tmp_path / "all"), GIVEN="yes")
    assert "keeps to" not in said
    assert logged_runs(tmp_path / "all") == {"one", "two"}


@pytest.mark.parametrize("logger", ["tensorboard", "trackio"])
def test_a_missing_package_is_named_before_anything_is_made(logger, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torchrl_outlet.importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(compose_config("ppo_transformer", [f"logger={logger}"]))
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert f"pip install -e '.[{logger}]'" in printed.err
    assert list(tmp_path.iterdir()) == []
    for other in ("wandb", "csv", "none"):
        require_logger(other)


def test_other_loggers_are_refused_by_name():
    with pytest.raises(
        ValueError, match=r"logger='mlflow'.*wandb, tensorboard, csv, trackio, none"
    ):
        compose_config("ppo_transformer", ["logger=mlflow"])
