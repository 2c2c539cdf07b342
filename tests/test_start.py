"""What programs load: nothing heavy for ``--help`` or a wrong key, no learner to read files."""

import subprocess
import sys

import pytest

from pipelines.source import ROOT

# Each loads for a tenth of a second to five.
HEAVY = {"torch", "tensordict", "torchrl", "numpy", "pandas", "pyarrow", "plotly", "scipy", "arch"}
HEAVY |= {"safetensors", "wandb", "ccxt", "dash", "duckdb"}
# One value out of range for each program: the whole configuration is made before it is refused.
WRONG = {
    "ppo_transformer": "total_frames=0",
    "replay": "split=all",
    "evaluate": "tail_frac=2",
    "report": "folder=",
    "export": "limit_gb=-1",
    "insights": "price_per_hour=-1",
    "benchmark": "suite=all",
    "audit": "check=all",
    "download": "symbol=?",
    "check_data": "data.fill_gap_bars=-1",
}


def loaded(*command: str) -> tuple[int, set[str]]:
    """The exit code of a fresh interpreter, and the packages that it has loaded."""
    told = [sys.executable, "-X", "importtime", *command]
    done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return done.returncode, {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_every_program_is_tried() -> None:
    assert set(WRONG) == {p.stem for p in (ROOT / "configs").glob("*.yaml")}


@pytest.mark.parametrize("program", WRONG)
def test_help_and_a_refusal_load_nothing_heavy(program: str) -> None:
    for word, code in (("--help", 0), (WRONG[program], 2)):
        exit_code, packages = loaded(f"pipelines/{program}.py", word)
        assert (exit_code, packages & HEAVY) == (code, set()), word
        assert "hydra" in packages  # it is seen what is loaded


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        ("download", {"torch", "tensordict", "torchrl", "plotly", "ccxt"}),
        ("report", {"torch", "tensordict", "torchrl"}),
        ("insights", {"torch", "tensordict", "torchrl", "dash", "duckdb"}),
        ("audit", {"torch", "tensordict", "torchrl"}),
        ("check_data", {"tensordict", "torchrl"}),
        ("export", {"tensordict", "torchrl", "huggingface_hub"}),
    ],
)
def test_a_program_that_trains_nothing_loads_no_learner(program: str, unwanted: set[str]) -> None:
    exit_code, packages = loaded("-c", f"import pipelines.{program}")
    assert (exit_code, packages & unwanted) == (0, set())
    assert "pandas" in packages
