"""A whole training with W&B offline, in a process of its own: everything that it left is read."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from envs.trace_reader import read_trace
from forged_checkpoint import rehash
from pipelines.benchmarks.faults_run import fingerprint
from pipelines.checkpoint import load_checkpoint
from pipelines.checkpoint_store import load_best, load_newest
from pipelines.judging.metrics import completed_trades, in_order
from pipelines.run_folder import RunFolder, list_checkpoints
from pipelines.tracking.artifacts import run_artifacts
from wandb_file import WandbFile

ROOT = Path(__file__).resolve().parents[1]
WORDS = (
    *("data=synthetic/planted", "data.synthetic.bars=24576", "model=mlp", "env.window=8"),
    *("env.workers=0", "env.episode_bars=48", "env.paths=4"),
    *("env.accounts=4", "train.steps=16", "train.minibatch=256", "total_frames=1280"),
    *("checkpoint.every_s=0", "checkpoint.val_episodes=2", "replay.episodes=6", "seed=1"),
)
DOCUMENTED = re.compile(r"`([a-z]+/[a-z_]+)`")


def train(folder, *words):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "pipelines" / "ppo_transformer.py"), *WORDS, *words],
        cwd=folder, env=environment | {"OMP_NUM_THREADS": "1", "NETRC": str(folder / "netrc")},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracked")
    train(folder, "run.dir=run", "tag=seeds", "wandb.mode=offline")
    return folder / "run"


@pytest.fixture(scope="module")
def told(folder):
    return WandbFile(folder)


@pytest.fixture(scope="module")
def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_w_and_b_has_every_number_of_the_local_file_at_its_frame(told, lines):
    by_frame: dict[int, dict] = {}
    for line in lines:
        by_frame.setdefault(line.pop("frames"), {}).update(line)
    assert [row["_step"] for row in told.history] == list(by_frame) == [256, 512, 768, 1024, 1280]
    for row in told.history:
        numbers = {k: v for k, v in by_frame[row["_step"]].items() if v is not None}
        assert {name: row[name] for name in numbers} == numbers


def test_the_configuration_goes_with_hashes_versions_and_commit(told, folder):
    manifest = load_newest(folder / "checkpoints").manifest
    known = told.config["provenance"]
    for key in ("config_sha256", "data", "features", "git_revision", "threads", "versions"):
        assert known[key] == manifest[key], key
    assert {"python", "torch", "torchrl", "tensordict"} <= set(known["versions"])
    assert len(known["data"]["sha256"]) == 64
    assert told.config["env"]["episode_bars"] == 48
    assert (told.run.run_group, told.run.job_type) == ("seeds", "train")
    assert not told.run.host
    assert manifest["values"]["logs"]["wandb_id"] == told.run.run_id


def test_histograms_count_the_actions_of_the_trace(told, folder):
    trace = read_trace(folder / "train_actions.csv")
    assert len(trace) == 256 * len(told.history) > 256
    for row in told.history:
        part = trace[trace["env_frame"].between(row["_step"] - 256, row["_step"] - 1)]
        counts = [int((part["direction"] == index).sum()) for index in range(3)]
        assert row["actions/direction"]["values"] == counts
        for head in ("size", "stop_loss", "take_profit"):
            assert sum(row[f"actions/{head}"]["values"]) == 256


def test_trades_and_chart_of_the_replay_are_those_of_its_trace(told, folder):
    rows = in_order(read_trace(folder / "replay_actions.csv"))
    cfg = load_newest(folder / "checkpoints").config.env
    table = told.media("replay/closed_trades")
    shown = pd.DataFrame(table["data"], columns=table["columns"])
    expected = completed_trades(rows, cfg)
    assert len(expected) > 0
    assert shown["profit"].tolist() == pytest.approx(expected["profit"].tolist())
    chart = told.media("replay/chart")
    (candles,) = [trace for trace in chart["data"] if trace["type"] == "candlestick"]
    assert candles["close"] == rows["close"].tolist()


def test_artifacts_are_whole_and_best_is_the_one_that_validation_chose(told, folder, tmp_path):
    best, last = load_best(folder / "checkpoints"), load_newest(folder / "checkpoints")
    versions = told.artifacts["model-run"]
    aliases = [set(version.aliases) - {"latest"} for version in versions]
    if best.folder == last.folder:
        assert aliases == [{"best", "last"}]
    else:
        assert aliases == [{"best"}, {"last"}]
    for version, chosen in zip(versions, dict.fromkeys([best.folder, last.folder]), strict=True):
        copy = tmp_path / chosen.name
        copy.mkdir()
        for entry in version.manifest.contents:
            shutil.copy(entry.local_path, copy / entry.path)
        assert load_checkpoint(copy).manifest == load_checkpoint(chosen).manifest
        about = json.loads(version.metadata)
        assert about["score"] == load_checkpoint(chosen).values["score"]
    ((data,),) = (found for name, found in told.artifacts.items() if name.startswith("bars-"))
    assert [entry.path for entry in data.manifest.contents] == ["table.json"]
    assert json.loads(data.metadata)["sha256"] == told.config["provenance"]["data"]["sha256"]
    for stage in ("train", "replay"):
        (trace,) = told.artifacts[f"{stage}-trace-run"]
        assert {e.path for e in trace.manifest.contents} == {
            f"{stage}_actions.csv", f"{stage}_actions.json"
        }  # fmt: skip
        assert {Path(e.local_path).parent for e in trace.manifest.contents} == {folder.resolve()}


def test_best_and_last_are_two_versions_where_they_are_two_checkpoints(folder, tmp_path):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(folder, run.path, ignore=shutil.ignore_patterns("wandb"))
    newest = list_checkpoints(run.checkpoints)[-1]
    rehash(newest, lambda m: m["values"].update(score=-9.0))
    first, second = run_artifacts(run, ["model"])
    assert (first.aliases, second.aliases) == (["best"], ["last"])
    assert second.files["model.safetensors"].parent == newest
    assert first.about["score"] == load_best(run.checkpoints).values["score"] > -9.0
    for path in list_checkpoints(run.checkpoints):
        rehash(path, lambda m: m["values"].update(score=None))
    (only,) = run_artifacts(run, ["model"])
    assert only.aliases == ["last"], "without validation none is the best"
    assert run_artifacts(run, []) == []


def test_the_replay_traces_of_several_markets_are_one_artifact(tmp_path):
    run = RunFolder(tmp_path / "run")
    for place in ("replay_BTC-USDT", "replay_ETH-USDT"):
        (run.path / place).mkdir(parents=True)
        for name in ("replay_actions.csv", "replay_actions.json", "result.json"):
            (run.path / place / name).touch()
    run.trace("train").touch()
    train, replay = run_artifacts(run, ["trace"])
    assert (train.name, list(train.files)) == ("train-trace-run", ["train_actions.csv"])
    assert replay.name == "replay-trace-run"
    assert replay.files == {
        f"{place}/replay_actions.{suffix}": run.path / place / f"replay_actions.{suffix}"
        for place in ("replay_BTC-USDT", "replay_ETH-USDT") for suffix in ("csv", "json")
    }  # fmt: skip


def test_every_logged_name_is_documented_and_every_documented_one_is_logged(told, lines):
    page = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8")
    table = page.partition("## Names")[2].partition("\n## ")[0]
    logged = {name for row in told.history for name in row if "/" in name}
    logged |= {name for line in lines for name in line if "/" in name}
    assert set(DOCUMENTED.findall(table)) == logged


def test_another_logger_changes_no_number_and_no_row(folder, tmp_path):
    train(tmp_path, "run.dir=run", "tag=other", "logger=csv")
    assert fingerprint(tmp_path / "run") == fingerprint(folder)
    assert (tmp_path / "run" / "csv" / "scalars" / "train" / "loss.csv").is_file()
