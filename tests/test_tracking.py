"""Metrics: the local file, W&B without an account, and that neither ever stops a run."""

import json
import logging
import os
import sys
import time

import pytest
import torch
from tensordict import TensorDict

from pipelines import tracking
from pipelines.config import RunConfig, WandbConfig
from pipelines.run_folder import RunFolder
from pipelines.tracking import Tracker, rollout_metrics, start_wandb, wandb_mode

KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    """A machine on which nobody has logged in, whatever the tests run on."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(str(tmp_path), str(tmp_path / "run"), "test")


def config(mode="disabled"):
    return RunConfig(wandb=WandbConfig(mode=mode))


def lines(run):
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def test_every_log_is_a_line_that_is_in_the_file_at_once(run):
    with Tracker(run, config(), total_frames=100) as tracker:
        tracker.log({"train/loss": torch.tensor([0.5]), "time/sps": 100}, 50)
        assert lines(run) == [{"frames": 50, "train/loss": 0.5, "time/sps": 100.0}]
        tracker.log({"train/loss": float("nan"), "train/kl": torch.tensor(float("inf"))}, 100)
    assert lines(run)[1] == {"frames": 100, "train/loss": None, "train/kl": None}


def test_logs_go_on_from_a_mark_and_later_lines_are_cut_off(run):
    with Tracker(run, config(), total_frames=100) as tracker:
        tracker.log({"a": 1.0}, 10)
        mark = tracker.mark
        tracker.log({"a": 2.0}, 20)
    with Tracker(run, config(), total_frames=100, resume=mark) as tracker:
        assert lines(run) == [{"frames": 10, "a": 1.0}]
        tracker.log({"a": 3.0}, 20)
        assert tracker.mark.frames == 20
    assert lines(run) == [{"frames": 10, "a": 1.0}, {"frames": 20, "a": 3.0}]
    with pytest.raises(ValueError, match=r"metrics\.jsonl: \d+ bytes long"):
        Tracker(run, config(), total_frames=100, resume=mark._replace(size=10_000))


def test_a_w_and_b_run_goes_on_under_its_own_id(run):
    with Tracker(run, config("offline"), total_frames=100) as tracker:
        tracker.log({"a": 1.0}, 10)
        mark = tracker.mark
    assert mark.wandb_id
    with Tracker(run, config("offline"), total_frames=100, resume=mark) as tracker:
        assert tracker.mark.wandb_id == mark.wandb_id


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_scalars_of_several_devices_are_logged_together(run):
    with Tracker(run, config(), total_frames=100) as tracker:
        tracker.log({"a": torch.tensor(1.0, device="cuda"), "b": torch.tensor(2.0), "c": 3}, 50)
    assert lines(run) == [{"frames": 50, "a": 1.0, "b": 2.0, "c": 3.0}]


def test_the_resolved_configuration_is_in_the_folder_from_the_start(run):
    with Tracker(run, config(), total_frames=100):
        saved = json.loads((run.path / "config.json").read_text())
        assert saved["model"]["d_model"] == 300
        assert saved["wandb"]["mode"] == "disabled"


def test_a_second_close_does_nothing_and_no_terminal_means_no_output(run, capfd):
    tracker = Tracker(run, config(), total_frames=100)
    tracker.log({"time/sps": 1.0}, 100)
    tracker.close()
    tracker.close()
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_speed_return_and_time_left(run, monkeypatch, capfd):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Tracker(run, config(), total_frames=1000) as tracker:
        tracker.log({"time/sps": 123.0, "rollout/ep_rew_mean": -4.5}, 500)
        tracker.log({"time/sps": 124.0}, 1000)
    shown = capfd.readouterr().err
    assert "1000/1000" in shown
    assert "return=-4.5, sps=124" in shown


def written(record, text):
    """The bytes of a W&B file once they hold `text`: its own process writes after `finish`."""
    patience = time.monotonic() + 30
    while text not in (content := record.read_bytes()):
        assert time.monotonic() < patience, f"{text!r} is not in {record}"
        time.sleep(0.05)
    return content


def test_offline_writes_curves_over_frames_into_the_run_folder(run, capfd):
    before = os.environ.get("WANDB_MODE")
    with Tracker(run, config("auto"), total_frames=300) as tracker:
        assert tracker._wandb is not None
        experiment = tracker._wandb.experiment
        for frames in (100, 300):
            tracker.log({"train/loss": 0.25, "rollout/ep_rew_mean": 1.5}, frames)
        assert experiment.step == 300
        assert experiment.offline
        assert experiment.config["model"]["d_model"] == 300
    assert os.environ.get("WANDB_MODE") == before, "other runs of this process are not changed"
    assert capfd.readouterr() == ("", ""), "nothing is printed or asked"
    (folder,) = (run.path / "wandb").glob("offline-run-*")
    (record,) = folder.glob("*.wandb")
    content = written(record, b"train/loss")
    assert sys.executable.encode() not in content
    assert not list(folder.glob("files/requirements.txt"))
    assert not list(folder.glob("files/wandb-metadata.json"))


@pytest.mark.parametrize(
    ("wanted", "variables", "netrc", "mode"),
    [
        ("auto", {}, "", "offline"),
        ("auto", {"WANDB_API_KEY": KEY}, "", "online"),
        ("auto", {}, f"machine api.wandb.ai login user password {KEY}", "online"),
        ("auto", {}, f"machine example.org login user password {KEY}", "offline"),
        ("auto", {}, "not a netrc file", "offline"),
        ("auto", {"WANDB_BASE_URL": "https://wandb.example.org"}, "", "offline"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "", "disabled"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "dryrun"}, "", "offline"),
        ("online", {"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "", "online"),
        ("online", {}, "", "offline"),
        ("offline", {"WANDB_API_KEY": KEY}, "", "offline"),
        ("disabled", {"WANDB_API_KEY": KEY}, "", "disabled"),
    ],
)
def test_online_only_with_an_account(monkeypatch, tmp_path, wanted, variables, netrc, mode):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if netrc:
        (tmp_path / "netrc").write_text(netrc)
    assert wandb_mode(wanted) == mode


def test_an_unreachable_server_is_said_once_and_the_run_goes_on_offline(run, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setitem(tracking._RETRIES, "init_timeout", 2)
    with caplog.at_level(logging.WARNING), Tracker(run, config("online"), total_frames=1) as t:
        t.log({"train/loss": 1.0}, 1)
        assert t._wandb is not None
        assert t._wandb.experiment.offline
    (message,) = [r.message for r in caplog.records if r.name == tracking.__name__]
    assert "cannot start online" in message
    assert lines(run) == [{"frames": 1, "train/loss": 1.0}]


def test_a_failure_while_logging_is_said_once_and_ends_wandb_not_the_run(run, caplog):
    class Broken:
        def log_metrics(self, *args, **kwargs):
            raise RuntimeError("the service died\nwith details")

    tracker = Tracker(run, config(), total_frames=2)
    tracker._wandb = Broken()
    with caplog.at_level(logging.WARNING):
        tracker.log({"train/loss": 1.0}, 1)
        tracker.log({"train/loss": 0.5}, 2)
    tracker.close()
    assert [r.message for r in caplog.records] == [
        "W&B failed, going on without it: the service died"
    ]
    assert len(lines(run)) == 2


def test_disabled_starts_nothing(run):
    assert start_wandb(WandbConfig(mode="disabled"), run, {}) is None
    assert not (run.path / "wandb").exists()


def test_rollout_metrics_are_means_over_the_episodes_that_ended():
    flag = torch.zeros(2, 3, 1, dtype=torch.bool)
    terminated, truncated = flag.clone(), flag.clone()
    terminated[0, 1] = truncated[1, 2] = True
    after = {
        "reward": torch.full((2, 3, 1), 0.5),
        "episode_reward": torch.tensor([[1.0, 2.0, 9.0], [9.0, 9.0, 6.0]]).unsqueeze(-1),
        "step_count": torch.tensor([[1, 2, 1], [5, 6, 7]]).unsqueeze(-1),
        "terminated": terminated,
        "truncated": truncated,
    }
    rollout = TensorDict({"next": TensorDict(after, [2, 3])}, [2, 3])
    got = {name: value.item() for name, value in rollout_metrics(rollout).items()}
    assert got == {
        "rollout/reward_mean": 0.5,
        "rollout/ep_rew_mean": 4.0,
        "rollout/ep_len_mean": 4.5,
        "rollout/ruin_share": 0.5,
    }
    rollout["next", "terminated"].zero_()
    rollout["next", "truncated"].zero_()
    assert set(rollout_metrics(rollout)) == {"rollout/reward_mean"}
