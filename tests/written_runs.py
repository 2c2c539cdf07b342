"""The small files of runs in every state, as trainings leave them, damaged ones among them."""

import dataclasses
import json
import math

from html_document import EVIL
from pipelines.config import RunConfig
from pipelines.run_insights.run_columns import columns
from pipelines.run_insights.run_records import read_all

REPLAYED = {"split": "test", "asset": "BTC/USDT", "source_name": "x.csv", "source_sha256": "ab"}


def make_run(folder, cfg, *, lines=10, speed=400.0, replayed=True, growth=0.1):
    """The small files of a run that trained for `lines` iterations of 2,048 frames."""
    folder.mkdir(parents=True)
    (folder / ".lock").touch()
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(cfg)))
    with open(folder / "metrics.jsonl", "w") as file:
        for i in range(1, lines + 1):
            values = {"rollout/ep_rew_mean": math.sin(i), "time/sps": speed, "train/loss": None}
            print(json.dumps({"frames": 2_048 * i} | values), file=file)
    if replayed:
        policy = {"total_return": growth, "max_drawdown": 0.05, "trades": 12}
        hold = {"total_return": -0.02, "max_drawdown": 0.2, "trades": 1}
        result = {"replayed": REPLAYED, "metrics": {"policy": policy, "buy_and_hold": hold}}
        (folder / "result.json").write_text(json.dumps(result))
    (folder / "bars").mkdir()
    (folder / "bars" / "table.json").write_text(json.dumps({"source_sha256": "ab"}))
    manifest = folder / "checkpoints" / "000000010" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"git_revision": "0123456789abcdef-dirty"}))
    return folder


def judge(folder, word, reason):
    """Write the evaluation of a run, as far as it is read."""
    folder.mkdir(parents=True, exist_ok=True)
    account = {"equity": {"total_return_fraction": 0.5, "max_drawdown_fraction": 0.25}}
    values = {"verdict": {"word": word, "reasons": [reason]}, "accounts": {"policy": account}}
    (folder / "evaluation.json").write_text(json.dumps(values))
    (folder / ".lock").touch()  # as a run's folder has


def config(**changes):
    """The configuration of a run of ten iterations."""
    return dataclasses.replace(RunConfig(total_frames=20_480), **changes)


def write_runs(root):
    """Write runs in every state, and a file that is none, into a folder: returns it."""
    make_run(root / "good", config(), growth=0.3)
    judge(root / "good" / "evaluation", "no edge", f"It fell. {EVIL}")
    with open(root / "good" / "metrics.jsonl", "a") as file:
        print(json.dumps({"frames": 20_480, EVIL: 1.0}), file=file)
    make_run(root / "faster", config(seed=7, train=dataclasses.replace(config().train, lr=1e-3)),
             speed=800.0, growth=-0.1)  # fmt: skip
    make_run(root / "walk" / "stopped", config(seed=3), lines=4, replayed=False)
    judge(root / "walk", "edge", "It rose.")
    half = make_run(root / "half", config())
    half.joinpath("config.json").write_text('{"seed": 0, "tag": ')
    half.joinpath("result.json").write_text("[]")
    with open(half / "metrics.jsonl", "a") as file:
        file.write('nonsense\n[1]\n{"frames": "x"}\n{"frames": 22528, "train/lo')
    failed = make_run(root / "failed", config(tag="nan"), lines=2, replayed=False)
    (failed / "debug").mkdir()
    (failed / "debug" / "tensors.safetensors").touch()
    (root / "empty" / "checkpoints").mkdir(parents=True)
    (root / "empty" / "metrics.jsonl").write_bytes(b"\xff\xfe\n")
    (root / "notes.txt").write_text("no run")
    return root


def shown(root, name):
    """The cells of a run by their heads."""
    records = read_all(root)[0]
    (run,) = [record for record in records if record.name == name]
    return {column.title: column.cell(run).text for column in columns(records, None)}
