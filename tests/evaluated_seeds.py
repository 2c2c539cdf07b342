"""An evaluation of two seeds on bars with a hole, with its report, and copies with other values."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from envs.config import EnvConfig
from html_document import EVIL
from pipelines.evaluate import evaluate
from random_walk import draw_walk
from untrained_run import make_untrained

ENV = EnvConfig(paths=2, accounts=2, workers=0, window=8, episode_bars=96)


def evaluate_two(root: Path) -> Path:
    """Make runs, evaluate them together: the folder of the evaluation."""
    bars = draw_walk(5_000, seed=3)
    bars.loc[4_000:, "timestamp"] += pd.Timedelta("3h")  # a hole among those that are tested
    bars.to_parquet(root / "bars.parquet")
    runs = [
        make_untrained(root / name, root / "bars.parquet", seed=seed, env=ENV)
        for seed, name in enumerate("ab")
    ]
    evaluate(runs, out=root / "both", registry=root / "openings.jsonl", draws=20, device="cpu")
    return root / "both"


def alter(folder: Path, copy: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of an evaluation whose values are changed in place."""
    shutil.copytree(folder, copy)
    values = json.loads((copy / "evaluation.json").read_text())
    change(values)
    (copy / "evaluation.json").write_text(json.dumps(values))
    return copy


def poison(value: Any) -> Any:
    """Every text of an evaluation, but the names of its files, followed by something hostile."""
    if isinstance(value, dict):
        return {k: v if k in ("files", "traces", "test", "train", "val") else poison(v)
                for k, v in value.items()}  # fmt: skip
    if isinstance(value, list):
        return [poison(item) for item in value]
    return f"{value}{EVIL}" if isinstance(value, str) else value
