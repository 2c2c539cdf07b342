"""The programs, in processes of their own, as a person runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envs.bar_files import default_bars_path
from envs.trace_reader import read_trace
from envs.trace_schema import COLUMNS

ROOT = Path(__file__).resolve().parents[1]
TINY = [
    "model=tiny",
    "env.paths=4",
    "env.accounts=4",
    "train.steps=16",
    "train.epochs=2",
    "train.minibatch=128",
    "total_frames=1000",
    "wandb.mode=disabled",
]


def run(program: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    return subprocess.run(
        [sys.executable, str(ROOT / "pipelines" / f"{program}.py"), *words],
        cwd=cwd,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """A run of the default pipeline, workers and all, with a tiny network."""
    folder = tmp_path_factory.mktemp("pipeline")
    done = run("ppo_transformer", *TINY, "env.workers=2", "tag=ci", "run.dir=first", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "first", done.stdout


def test_training_leaves_a_whole_run_folder(trained):
    folder, printed = trained
    expected = {
        "bars",
        ".lock",
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "train_actions.csv",
        "train_actions.json",
        "replay_actions.csv",
        "replay_actions.json",
        "result.json",
        "replay.html",
    }
    assert {path.name for path in folder.iterdir()} == expected
    for name in ("policy", "flat", "buy_and_hold", "random", "always_short"):
        assert name.replace("_", "-") in printed.lower().replace("_", "-").replace(" ", "-")


def test_the_training_trace_holds_every_step_of_every_lane(trained):
    rows = read_trace(trained[0] / "train_actions.csv")
    assert tuple(rows.columns) == COLUMNS
    assert len(rows) == 1024  # 1000 frames, rounded up to whole rollouts of 16 lanes x 16 steps
    assert rows["env_frame"].tolist() == list(range(1024))
    assert rows.groupby("lane").size().eq(64).all()
    assert rows["log_prob"].lt(0).all()


def test_curves_have_frames_on_the_axis_and_the_names_people_know(trained):
    text = (trained[0] / "metrics.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    iterations = [line for line in lines if "time/sps" in line]
    assert [line["frames"] for line in iterations] == [256, 512, 768, 1024]
    assert [line["frames"] for line in lines if "val/log_growth" in line] == [1024]
    names = {"rollout/reward_mean", "train/approx_kl", "train/entropy_direction", "time/sps"}
    assert names <= set(lines[0])
    # The very first minibatch comes from the policy itself.
    assert abs(lines[0]["train/approx_kl"]) < 0.05


@pytest.mark.parametrize("stage", ["train", "replay"])
def test_the_audit_explains_every_cent_of_both_traces(trained, stage):
    bars = default_bars_path()
    done = run(
        "audit", f"trace={trained[0] / f'{stage}_actions.csv'}", f"data.path={bars}", cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_replay_that_ends_a_training_is_that_of_the_program(trained, tmp_path):
    folder, _ = trained
    again = run("replay", f"run={folder}", "split=test", "out=again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    first = json.loads((folder / "result.json").read_text("utf-8"))
    second = json.loads((tmp_path / "again" / "result.json").read_text("utf-8"))
    assert first["metrics"] == second["metrics"]


def test_a_training_without_a_replay_says_what_is_left_to_do(tmp_path):
    """To evaluate: a replay would be a look at the bars that it has left alone."""
    words = ("env.workers=0", "total_frames=256", "replay.enabled=false", "run.dir=mine")
    done = run("ppo_transformer", *TINY, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("trained, not judged: python pipelines/evaluate.py run=mine\n")


@pytest.mark.parametrize(
    ("program", "words", "expected"),
    [
        ("ppo_transformer", ["data.path=missing.parquet"], "missing.parquet"),
        ("ppo_transformer", ["env.pathz=4"], "env.paths"),
        ("ppo_transformer", ["env.tick_size=50"], "env.tick_size"),
        (
            "ppo_transformer",
            ["model=streaming", "model.num_context_blocks=0", "train.minibatch=2048"],
            "model.num_layers",
        ),
        ("replay", ["run=nowhere"], "nowhere"),
        ("replay", [], "run="),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(program, words, expected, tmp_path):
    done = run(program, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_never_overwrites_another(trained, tmp_path):
    before = (trained[0] / "metrics.jsonl").read_bytes()
    done = run("ppo_transformer", *TINY, f"run.dir={trained[0]}", cwd=tmp_path)
    assert done.returncode == 2
    assert "exists" in done.stderr
    assert (trained[0] / "metrics.jsonl").read_bytes() == before
