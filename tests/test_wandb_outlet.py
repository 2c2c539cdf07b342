"""W&B's real client, offline or in front of a closed door, and what it has written read back."""

import json
import logging
import os
import random
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from tensordict import TensorDict

from envs.config import EnvConfig
from pipelines.config import RunConfig
from pipelines.held_out.baselines import RandomPolicy, buy_and_hold
from pipelines.held_out.rollout import play_tiles
from pipelines.judging.metrics import completed_trades, in_order, measure
from pipelines.non_finite_error import NonFiniteError
from pipelines.run_folder import RunFolder
from pipelines.tracking.alerts import Alert
from pipelines.tracking.evaluated import Evaluated
from pipelines.tracking.tracker import Tracker
from pipelines.tracking.tracking_config import WandbConfig
from pipelines.tracking.wandb_outlet import WandbOutlet, new_run_id
from random_walk import tick_table
from wandb_file import WandbFile

KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    """A machine on which nobody has logged in, whatever the tests run on."""
    for name in list(os.environ):
        if name.startswith("WANDB_") and name != "WANDB_SERVICE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(str(tmp_path), str(tmp_path / "run"), "test")


def config(mode="offline", **words):
    return RunConfig(wandb=WandbConfig(mode=mode, **words))


@pytest.fixture(scope="module")
def evaluated():
    """A random account's tile of a random walk."""
    cfg = EnvConfig(paths=1, accounts=1, workers=0, window=4, episode_bars=200)
    table = tick_table(300, move=0.003)
    bounds = torch.tensor([[4, 204]])
    played = play_tiles(table, cfg, bounds, RandomPolicy(cfg.num_actions, seed=0))
    rows, hold = in_order(played.rows(table, cfg)), in_order(buy_and_hold(table, cfg, bounds))
    return Evaluated("val", rows, hold, cfg, 900.0)


def test_curves_histograms_trades_and_alerts_are_read_back(run, evaluated, capfd, caplog):
    before = dict(os.environ)
    words = {"group": "seeds", "job_type": "judge", "tags": ["a", "b"], "project": "mine"}
    about = {"config_sha256": "12", "data": {"sha256": "34"}, "versions": {"torch": "5"}, "x": 6}
    head = {"direction": torch.tensor([[0, 2, 2]]), **dict.fromkeys(
        ("size", "stop_loss", "take_profit"), torch.zeros(1, 3).long())}  # fmt: skip
    rollout = TensorDict({"action": TensorDict(head, [1, 3])}, [1, 3])
    with Tracker(run, config(**words), total_frames=300, about=about) as tracker:
        tracker.log({"train/loss": 0.25, "rollout/ep_rew_mean": 1.5}, 100)
        tracker.log_actions(rollout, 100)
        tracker.log({"train/loss": 0.125, "train/approx_kl": float("nan")}, 300)
        tracker.show(evaluated, {"val/log_growth": 0.5})
        mark = tracker.mark
    started_by_wandb = {"WANDB_SERVICE", "WANDB_ERROR_REPORTING"}
    assert {k: v for k, v in os.environ.items() if k not in started_by_wandb} == {
        k: v for k, v in before.items() if k not in started_by_wandb
    }, "other runs of this process are not changed"
    assert capfd.readouterr() == ("", ""), "nothing is printed or asked"
    assert [r.message for r in caplog.records if r.levelno > logging.INFO] == [
        "not a number: train/approx_kl: not a number at frame 300"
    ]

    told = WandbFile(run.path)
    assert (told.run.run_id, told.run.display_name) == (mark.wandb_id, "run")
    assert (told.run.project, told.run.run_group, told.run.job_type) == ("mine", "seeds", "judge")
    assert list(told.run.tags) == ["a", "b"]
    assert told.config["model"]["d_model"] == 300
    assert told.config["provenance"] == {k: v for k, v in about.items() if k != "x"}
    first, last = told.history
    assert (first["_step"], last["_step"]) == (100, 300)
    assert (first["train/loss"], last["train/loss"], last["val/log_growth"]) == (0.25, 0.125, 0.5)
    assert first["actions/direction"]["values"] == [1, 0, 2]
    assert first["actions/direction"]["bins"] == [-0.5, 0.5, 1.5, 2.5]
    (alert,) = told.of("alert")
    assert (alert.title, alert.level) == ("not a number", "WARN")
    (end,) = told.of("exit")
    assert end.exit_code == 0


def test_frames_that_it_has_from_before_a_stop_are_not_told_again(run, evaluated, monkeypatch):
    monkeypatch.setattr("wandb.sdk.wandb_run.Run.starting_step", 301)  # as a server says it
    head = dict.fromkeys(
        ("direction", "size", "stop_loss", "take_profit"), torch.zeros(1, 3).long()
    )
    rollout = TensorDict({"action": TensorDict(head, [1, 3])}, [1, 3])
    with Tracker(run, config(), total_frames=400) as tracker:
        for frames in (200, 300):
            tracker.log({"a": 1.0}, frames)
            tracker.log_actions(rollout, frames)
            tracker.show(evaluated)
        tracker.log({"a": 2.0}, 400)
    assert [(row["_step"], row["a"]) for row in WandbFile(run.path).history] == [(400, 2.0)]


def test_where_the_program_lies_is_not_sent(run):
    outlet = WandbOutlet(WandbConfig(), run, {}, mode="offline", group="g", run_id="a1b2c3d4")
    assert not outlet.experiment.settings.program
    outlet.close(failed=False)


def test_a_table_of_closed_trades_and_a_chart_that_a_browser_can_draw(run, evaluated):
    with Tracker(run, config(), total_frames=10) as tracker:
        tracker.show(evaluated)
    told = WandbFile(run.path)
    table = told.media("val/closed_trades")
    trades = pd.DataFrame(table["data"], columns=table["columns"])
    expected = completed_trades(evaluated.rows, evaluated.cfg)
    assert len(trades) == measure(evaluated.rows, evaluated.cfg).trades > 5
    assert trades["profit"].tolist() == pytest.approx(expected["profit"].tolist())
    assert set(trades["side"]) == {"long", "short"}
    assert (pd.to_datetime(trades["entry_time"]) == expected["entry_time"]).all()
    chart = told.media("val/chart")
    kinds = {trace["type"] for trace in chart["data"]}
    assert "candlestick" in kinds
    entries = [t for t in chart["data"] if t.get("name") in ("long entry", "short entry")]
    assert sum(len(trace["x"]) for trace in entries) == len(trades)
    assert "bdata" not in json.dumps(chart), "packed arrays are unknown to older browsers' plotly"


def test_a_run_goes_on_under_its_own_id_or_the_one_that_an_agent_gave(run, tmp_path, monkeypatch):
    with Tracker(run, config(), total_frames=100) as tracker:
        tracker.log({"a": 1.0}, 10)
        mark = tracker.mark
    monkeypatch.setenv("WANDB_RUN_ID", "sweep123")
    with Tracker(run, config(), total_frames=100, resume=mark) as tracker:
        assert tracker.mark.wandb_id == mark.wandb_id
        tracker.log({"a": 1.0}, 20)
    names = [path.name for path in (run.path / "wandb").glob("offline-run-*")]
    assert [name for name in names if f"-{mark.wandb_id}" not in name] == []
    assert len(names) == 2, "every process writes files of its own"
    assert new_run_id() == "sweep123"
    monkeypatch.delenv("WANDB_RUN_ID")
    assert re.fullmatch("[a-z0-9]{8}", new_run_id())
    assert new_run_id() != new_run_id()


TWO = """
from pipelines.config import RunConfig, WandbConfig
from pipelines.run_folder import RunFolder
from pipelines.tracking.tracker import Tracker
from pipelines.tracking.wandb_outlet import run_id_of_its_own

for name in ("one", "two"):
    run, cfg = RunFolder.create(".", name, "test"), RunConfig(wandb=WandbConfig(mode="offline"))
    with run_id_of_its_own(name), Tracker(run, cfg, total_frames=10) as tracker:
        tracker.log({"a": 1.0}, 5)
"""


def test_the_folds_of_a_walk_forward_are_runs_of_their_own_in_a_sweep_too(tmp_path):
    done = in_a_process(TWO, tmp_path, WANDB_RUN_ID="pod7", WANDB_SWEEP_ID="sweep1")
    assert (done.returncode, done.stderr) == (0, "")
    found = [WandbFile(tmp_path / name).run.run_id for name in ("one", "two")]
    assert found == ["pod7-one", "pod7-two"]


ENDED = f"""
from pipelines.tracking.wandb_outlet import end_wandb_process
{TWO}
    if name == "one":  # as if it had not sent all in time
        end_wandb_process()
"""


def test_a_fold_is_on_w_and_b_though_the_process_of_the_one_before_was_ended(tmp_path):
    done = in_a_process(ENDED, tmp_path, WANDB_RUN_ID="pod7", WANDB_SWEEP_ID="sweep1")
    assert (done.returncode, done.stderr) == (0, "")
    assert WandbFile(tmp_path / "two").run.run_id == "pod7-two"


def test_a_training_that_fails_is_a_failed_run_with_an_alert(run):
    def train():
        with Tracker(run, config(), total_frames=10) as tracker:
            tracker.log({"a": 1.0}, 5)
            raise NonFiniteError("non-finite reward = nan at [0, 0, 3]", {})

    with pytest.raises(NonFiniteError):
        train()
    told = WandbFile(run.path)
    (alert,) = told.of("alert")
    assert (alert.level, alert.text) == ("ERROR", "non-finite reward = nan at [0, 0, 3]")
    assert told.of("exit")[0].exit_code == 1


def test_an_unreachable_server_holds_nothing_up_is_said_once_and_the_run_stays_offline(tmp_path):
    nowhere = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = in_a_process(UNREACHABLE, tmp_path, **nowhere)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert done.stderr.count("cannot start online, staying offline") == 1
    assert KEY not in done.stderr
    assert "Traceback" not in done.stderr
    told = WandbFile(tmp_path / "run")
    assert [row["train/loss"] for row in told.history] == [1.0, 0.5]


def test_drawing_trades_and_starting_leave_every_generator_as_it_was(run, evaluated):
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)

    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    with Tracker(run, config(), total_frames=10) as tracker:
        tracker.show(evaluated)
        tracker.alert(Alert("a", "b"))
    assert states() == before


SECRETS = ("argv-secret-0123456789", "env-secret-0123456789", KEY)
LEAKY = """
import os
import sys
import time
from pipelines.config import RunConfig, WandbConfig
from pipelines.run_folder import RunFolder
from pipelines.tracking import outlet
from pipelines.tracking.tracker import Tracker

outlet._MOMENT_S = 60.0  # a moment of this machine may be longer: other work
run = RunFolder.create(".", "run", "test")
with Tracker(run, RunConfig(wandb=WandbConfig(mode="offline")), total_frames=10) as tracker:
    tracker.log({"a": 1.0}, 5)
    print("what is printed is not collected", flush=True)
    while tracker._outlet._calls.qsize():
        time.sleep(0.05)
    tracker.leave()  # as after a signal
    os._exit(7)
"""
UNREACHABLE = """
from pipelines.config import RunConfig, WandbConfig
from pipelines.run_folder import RunFolder
from pipelines.tracking import wandb_outlet
from pipelines.tracking.tracker import Tracker

wandb_outlet._RETRIES["init_timeout"] = 2
cfg = RunConfig(wandb=WandbConfig(mode="online"))
with Tracker(RunFolder.create(".", "run", "test"), cfg, total_frames=10) as tracker:
    tracker.log({"train/loss": 1.0}, 1)
    tracker.log({"train/loss": 0.5}, 2)
    print(bool(tracker._outlet._calls.qsize()))  # logged while nobody has answered yet
"""
HUNG = """
import os, signal, sys, time
from pipelines.config import RunConfig, WandbConfig
from pipelines.run_folder import RunFolder
from pipelines.tracking.tracker import Tracker

cfg = RunConfig(wandb=WandbConfig(mode="offline", finish_s=1.0))
with Tracker(RunFolder.create(".", "run", "test"), cfg, total_frames=10) as tracker:
    tracker.log({"a": 1.0}, 5)
    while tracker._outlet._calls.qsize():
        time.sleep(0.05)
    import wandb
    service = wandb.setup()._connection._proc._process.pid
    os.kill(service, getattr(signal, sys.argv[1]))
    for frames in range(6, 2000):
        tracker.log({"b" * 1000: 2.0}, frames)
print("came to its end")
"""
ENDED_BEFORE = """
import time
import wandb
from wandb.proto.wandb_server_pb2 import ServerRequest
from pipelines.tracking.wandb_outlet import end_wandb_process

connection = wandb.setup().ensure_service()
things = [type("Thing", (), {})() for _ in range(3)]
for thing in things:
    connection.finalize(thing, ServerRequest())
end_wandb_process()
del thing
while things:
    things.pop()  # W&B's process is told of it, as of a client for artifacts
    time.sleep(0.3)
"""


def in_a_process(code, folder, *argv, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        cwd=folder, env=environment | variables, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


def test_nothing_secret_is_in_any_file_and_what_was_logged_before_a_signal_is(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    done = in_a_process(
        LEAKY, tmp_path, f"--token={SECRETS[0]}",
        MY_TOKEN=SECRETS[1], WANDB_API_KEY=SECRETS[2], HOME=str(home),
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    told = WandbFile(tmp_path / "run")
    assert [(row["_step"], row["a"]) for row in told.history] == [(5, 1.0)]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.suffix == ".wandb" for path in files)
    found = b"".join(path.read_bytes() for path in files)
    for secret in (*SECRETS, sys.executable, "is not collected"):
        assert secret.encode() not in found, secret
    names = {path.name for path in files}
    assert not {"requirements.txt", "wandb-metadata.json", "output.log"} & names


def test_what_w_and_b_frees_after_its_process_was_ended_is_no_traceback(tmp_path):
    done = in_a_process(ENDED_BEFORE, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("how", ["SIGSTOP", "SIGKILL"])
def test_w_and_bs_own_process_may_hang_or_die_and_the_run_ends_well(tmp_path, how):
    done = in_a_process(HUNG, tmp_path, how)
    assert (done.returncode, done.stdout) == (0, "came to its end\n"), done.stderr
    assert "W&B" in done.stderr
    assert "Traceback" not in done.stderr
    assert len((tmp_path / "run" / "metrics.jsonl").read_bytes().splitlines()) == 1995
