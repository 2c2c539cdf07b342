"""``docs/tutorial.md`` from its first command to its last, each in a process of its own."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.M | re.S)


def blocks():
    return BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"))


def run(command, folder):
    env = os.environ | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_block_runs_in_its_order(tmp_path, local_exchange):
    pytest.importorskip("ccxt")
    said = {}
    for kind, text in blocks():
        if kind == "python":
            said["python"] = run([sys.executable, "-c", text], tmp_path)
            continue
        for line in text.splitlines():
            python, program, *words = shlex.split(line)
            assert python == "python"
            name = Path(program).stem
            if name == "download":
                words += [f"url={local_exchange.url}", "http.pause_s=0"]
            said[name, len(said)] = run([sys.executable, str(ROOT / program), *words], tmp_path)
    for name in ("first/result.json", "insights.html", "walk_forward/report.html"):
        assert (tmp_path / "runs" / name).is_file(), name
    assert list((tmp_path / "checks").glob("*.html"))
    assert said["python"].startswith("edge\n")
    openings = (tmp_path / "runs" / "openings.jsonl").read_text(encoding="utf-8").splitlines()
    looks = [json.loads(line) for line in openings[1:]]
    assert [look["purpose"] for look in looks] == ["evaluate"] * 3
