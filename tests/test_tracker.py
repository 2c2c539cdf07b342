"""The tracker: the local file, the bar, alerts, and one place more that never stops a run."""

import json
import logging
import resource
import sys

import pytest
import torch

from pipelines.config import RunConfig
from pipelines.run_folder import RunFolder
from pipelines.tracking import tracker as tracking
from pipelines.tracking.tracker import Tracker
from pipelines.tracking.tracking_config import WandbConfig


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(str(tmp_path), str(tmp_path / "run"), "test")


@pytest.fixture
def config():
    return RunConfig(wandb=WandbConfig(mode="disabled"))


def lines(run):
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def test_every_log_is_a_line_that_is_in_the_file_at_once(run, config):
    with Tracker(run, config, total_frames=100) as tracker:
        tracker.log({"train/loss": torch.tensor([0.5]), "time/sps": 100}, 50)
        assert lines(run) == [{"frames": 50, "train/loss": 0.5, "time/sps": 100.0}]
        tracker.log({"train/loss": float("nan"), "train/kl": torch.tensor(float("inf"))}, 100)
    assert lines(run)[1] == {"frames": 100, "train/loss": None, "train/kl": None}


def test_logs_go_on_from_a_mark_and_later_lines_are_cut_off(run, config):
    with Tracker(run, config, total_frames=100) as tracker:
        tracker.log({"a": 1.0}, 10)
        mark = tracker.mark
        tracker.log({"a": 2.0}, 20)
    with Tracker(run, config, total_frames=100, resume=mark) as tracker:
        assert lines(run) == [{"frames": 10, "a": 1.0}]
        tracker.log({"a": 3.0}, 20)
        assert tracker.mark.frames == 20
    assert lines(run) == [{"frames": 10, "a": 1.0}, {"frames": 20, "a": 3.0}]
    with pytest.raises(ValueError, match=r"metrics\.jsonl: \d+ bytes long"):
        Tracker(run, config, total_frames=100, resume=mark._replace(size=10_000))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_scalars_of_several_devices_are_logged_together(run, config):
    with Tracker(run, config, total_frames=100) as tracker:
        tracker.log({"a": torch.tensor(1.0, device="cuda"), "b": torch.tensor(2.0), "c": 3}, 50)
    assert lines(run) == [{"frames": 50, "a": 1.0, "b": 2.0, "c": 3.0}]


def test_the_resolved_configuration_is_in_the_folder_from_the_start(run, config):
    with Tracker(run, config, total_frames=100):
        saved = json.loads((run.path / "config.json").read_text())
        assert saved["model"]["d_model"] == 300
        assert saved["wandb"]["mode"] == "disabled"


def test_a_full_disk_leaves_the_configuration_that_was_there(run, config):
    with Tracker(run, config, total_frames=1) as tracker:
        mark = tracker.mark
    before = (run.path / "config.json").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match=r"[Ff]ile too large: '.*config\.json'"):
            Tracker(run, config, total_frames=1, resume=mark)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (run.path / "config.json").read_bytes() == before


def test_a_line_that_a_full_disk_refuses_is_told_with_its_file(run, config):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    tracker = Tracker(run, config, total_frames=1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match=r"[Ff]ile too large: '.*metrics\.jsonl'"):
            tracker.log({"a" * 200: 1.0}, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    tracker.close()


def test_a_second_close_does_nothing_and_no_terminal_means_no_output(run, config, capfd):
    tracker = Tracker(run, config, total_frames=100)
    tracker.log({"time/sps": 1.0}, 100)
    tracker.close()
    tracker.close()
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_speed_return_and_time_left(run, config, monkeypatch, capfd):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Tracker(run, config, total_frames=1000) as tracker:
        tracker.log({"time/sps": 123.0, "rollout/ep_rew_mean": -4.5}, 500)
        tracker.log({"time/sps": 124.0}, 1000)
        shown = capfd.readouterr().err
        assert "1000/1000" in shown
        assert "return=-4.5, sps=124" in shown
        tracker.log({"val/log_growth": 0.1}, 1000)
    assert capfd.readouterr().err == "", "the bar has ended before what follows the training"


def test_what_is_wrong_is_said_on_the_terminal_even_without_any_other_place(run, config, caplog):
    with caplog.at_level(logging.WARNING), Tracker(run, config, total_frames=100) as tracker:
        tracker.log({"train/approx_kl": 0.5}, 50)
    assert [record.message for record in caplog.records] == [
        "KL divergence: train/approx_kl is 0.5, above 0.1 at frame 50"
    ]


def test_disabled_and_none_start_nothing(run, config, monkeypatch):
    monkeypatch.setattr(tracking, "WandbOutlet", None)
    monkeypatch.setattr(tracking, "TorchrlOutlet", None)
    for cfg in (config, RunConfig(logger="none")):
        with Tracker(run, cfg, total_frames=1) as tracker:
            tracker.log_actions(None, 1)  # not even looked at
            assert tracker.mark.wandb_id is None
    assert {path.name for path in run.path.iterdir()} == {"config.json", "metrics.jsonl"}
