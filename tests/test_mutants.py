"""The list of faults fits the code, and what it proves can be seen in two of them."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tests" / "mutants.py"
MUTANTS = runpy.run_path(str(SCRIPT))["read_mutants"]()
TOUCH = "< for <= on a touch of the stop within the bar"
FEE = "a hundredth of the fee"


def run_script(*names: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *names]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_fault_fits_the_code_and_names_tests(mutant):
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert mutant.planted(source) != source
    assert mutant.tests
    files = [name.partition("::")[0] for name in mutant.tests]
    assert all((ROOT / "tests" / name).is_file() for name in files)


def test_faults_have_names_of_their_own_and_are_many():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 24


def test_a_fault_that_no_longer_fits_is_refused():
    mutant = MUTANTS[0]
    for source in ("", mutant.old * 2):
        with pytest.raises(ValueError, match=r"found [02] times"):
            mutant.planted(source)


def test_two_faults_are_killed():
    answer = run_script(TOUCH, FEE)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "test_a_stop_is_touched_in_ticks_with_a_tolerance" in answer.stdout
    assert "2 of 2 killed" in answer.stdout


@pytest.mark.long
def test_every_fault_is_killed():
    answer = run_script()
    assert answer.returncode == 0, answer.stdout + answer.stderr
    untried = answer.stdout.count("NOT TRIED")
    assert f"{len(MUTANTS) - untried} of {len(MUTANTS)} killed" in answer.stdout
