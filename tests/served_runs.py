"""Runs with traces, whole and damaged, and a process that serves them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch

from asked_trace import make_table
from envs.config import EnvConfig
from envs.market import MarketEnv
from envs.trace import TraceWriter
from html_document import EVIL

ROOT = Path(__file__).resolve().parents[1]
CFG = EnvConfig(paths=2, accounts=2, workers=0, window=8, episode_bars=60)


def write_runs(root: Path) -> Path:
    """Make a run with two traces, one on two markets, damaged ones, and one outside of `root`."""
    table = make_table()
    (root / "one").mkdir(parents=True)
    (root / "one" / "config.json").write_text(json.dumps({"total_frames": 1, "tag": EVIL}))
    torch.manual_seed(2)
    env = MarketEnv(table, CFG, seed=1)
    for name in ("train", "replay"):
        with TraceWriter(
            root / "one" / f"{name}_actions.csv", table, CFG, run_id="one", split=name
        ) as trace:
            trace.write(env.rollout(200, break_when_any_done=False))
    for name in ("half", "two"):
        shutil.copytree(root / "one", root / name)
    (root / "half" / "replay_actions.csv").write_bytes(b"")
    path = root / "two" / "train_actions.csv"
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows.loc[rows["episode"].astype(int) % 2 == 1, "asset"] = "ETH/USD"
    rows.to_csv(path, index=False, lineterminator="\n")
    (root / "broken").mkdir()
    (root / "broken" / "config.json").write_text("{")
    (root / "broken" / "train_actions.csv").write_text(f"{EVIL}\n")
    shutil.copytree(root / "one", root.parent / "outside")
    return root


def serve_words(runs: Path, port: int = 0) -> list[str]:
    """The command line of a server of them."""
    program = str(ROOT / "pipelines" / "insights.py")
    return [
        sys.executable,
        program,
        "--serve",
        f"runs={runs}",
        f"port={port}",
        "price_per_hour=1.5",
    ]


@contextmanager
def serving(runs: Path) -> Iterator[str]:
    """The address of a server, a process of its own, which ends well and says nothing else."""
    home = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        serve_words(runs), stdout=pipe, stderr=pipe, text=True, env=home
    ) as server:
        try:
            said = server.stdout.readline().strip()
            assert said.startswith("http://127.0.0.1:"), server.stderr.read()
            yield said
        finally:
            server.send_signal(signal.SIGTERM)
            _, errors = server.communicate(timeout=60)
    assert server.returncode == 0
    assert errors == "", errors
