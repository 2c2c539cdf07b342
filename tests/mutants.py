"""Plant faults in a copy of the repository, one at a time, and see which test notices.

``python tests/mutants.py`` runs every fault of ``tests/mutants.toml``; words after it are names of
some of them, ``--list`` shows the names. The checkout is only read. Exit status 1 if a fault
survives its tests, if a fault no longer fits the code, or if the tests fail without one. A fault
whose tests are all skipped, as for want of a browser, is not tried, which is told.

Each fault is tried in a forked process, so that PyTorch is loaded once. POSIX only.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("envs", "modules", "pipelines", "configs", "tests", "pyproject.toml")
LIMIT_S = 300.0
SOUND_LIMIT_S = 3_600.0  # for all the tests of the list, one after the other
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "--assert=plain")


class Mutant(NamedTuple):
    """A fault: `old` becomes `new` in `file`, and one of `tests` should fail.

    `guard` is the error, if any, with which the code itself refuses to go on with the fault.
    """

    name: str
    file: str
    old: str
    new: str
    tests: list[str]
    guard: str = ""

    def planted(self, source: str) -> str:
        """The source with the fault.

        Raises:
            ValueError: if the old text does not occur exactly once.
        """
        if source.count(self.old) != 1:
            found = source.count(self.old)
            raise ValueError(f"{self.name!r}: found {found} times in {self.file}:\n{self.old}")
        return source.replace(self.old, self.new)


class Verdict(NamedTuple):
    """What the tests said of one fault; `killer` is the first test that failed."""

    killer: str
    passed: int
    skipped: int
    seconds: float


def read_mutants(root: Path = ROOT) -> list[Mutant]:
    """All faults of the list beside this file."""
    with (root / "tests" / "mutants.toml").open("rb") as file:
        return [Mutant(**entry) for entry in tomllib.load(file)["mutant"]]


def _crash(error: BaseException) -> str:
    """Name of an error other than a failed assertion; Hypothesis raises several in a group."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_crash, error.exceptions)), "")
    name = type(error).__name__
    return "" if name in ("AssertionError", "Failed") else name


class _Witness:
    """Pytest plugin that remembers the first failure and counts what passed, or was skipped.

    A test kills a fault by an assertion that does not hold. Code that merely crashes with the
    fault in it shows nothing about the tests.
    """

    def __init__(self) -> None:
        self.killer, self.passed, self.skipped, self.error = "", 0, 0, ""

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.killer = self.killer or f"cannot be collected: {report.nodeid}"
        self.skipped += report.skipped

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        self.error = _crash(call.excinfo.value) if call.excinfo else ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.passed += report.when == "call" and report.passed
        self.skipped += report.skipped
        if report.failed:
            reason = f"cannot run, {self.error}: " if self.error else ""
            self.killer = self.killer or reason + report.nodeid


def _run_pytest(copy: str, tests: Sequence[str], answer: Connection) -> None:
    """Run test files of the copy, in a forked process, and send killer and counts."""
    os.chdir(copy)
    sys.path.insert(0, copy)
    # An installed checkout would be what the programs that tests start are made of; and what they
    # compile would hide the next fault.
    os.environ |= {"PYTHONPATH": copy, "PYTHONDONTWRITEBYTECODE": "1"}
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - for the process's life
    import pytest

    import envs

    if not str(envs.__file__).startswith(copy):
        raise RuntimeError(f"the tests would run on {envs.__file__} instead of the copy")
    witness = _Witness()
    pytest.main([*OPTIONS, *(f"tests/{name}" for name in tests)], plugins=[witness])
    answer.send((witness.killer, witness.passed, witness.skipped))


def try_tests(copy: Path, tests: Sequence[str], limit_s: float = LIMIT_S) -> Verdict:
    """Run test files of a copy until one fails; a crash or a hang counts as broken."""
    begin = time.perf_counter()
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_run_pytest, args=(str(copy), tests, sending))
    child.start()
    sending.close()
    try:
        late = ("cannot end", 0, 0)
        killer, passed, skipped = receiving.recv() if receiving.poll(limit_s) else late
    except EOFError:
        killer, passed, skipped = "cannot run", 0, 0
    child.kill()
    child.join()
    return Verdict(killer, passed, skipped, time.perf_counter() - begin)


@contextmanager
def copied_repository() -> Iterator[Path]:
    """A copy of what the tests need, without compiled files that could hide a change."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__py*"))
            else:
                shutil.copy(ROOT / name, copy / name)
        yield copy


def try_mutant(copy: Path, mutant: Mutant) -> Verdict:
    """Plant a fault in the copy, run its tests, and take it out again."""
    path = copy / mutant.file
    source = path.read_text(encoding="utf-8")
    path.write_text(mutant.planted(source), encoding="utf-8")
    try:
        return try_tests(copy, mutant.tests)
    finally:
        path.write_text(source, encoding="utf-8")


def load_libraries() -> None:
    """Load what every test needs once, before forking, and let nothing be compiled to disk."""
    import hypothesis  # noqa: F401
    import pandas  # noqa: F401
    import pytest  # noqa: F401
    import torch
    import torchrl.envs  # noqa: F401

    # Threads do not survive a fork, and a second rewrite of a file within a second must be seen.
    torch.set_num_threads(1)
    sys.dont_write_bytecode = True


def chosen(names: Sequence[str]) -> list[Mutant]:
    """The faults of these names, or all.

    Raises:
        SystemExit: for a name that there is not.
    """
    mutants = read_mutants()
    unknown = set(names) - {mutant.name for mutant in mutants}
    if unknown:
        raise SystemExit(f"no such fault: {sorted(unknown)}; see python tests/mutants.py --list")
    return [mutant for mutant in mutants if not names or mutant.name in names]


def main(arguments: Sequence[str]) -> int:
    """Try faults and print one line for each."""
    if "--list" in arguments:
        print("\n".join(mutant.name for mutant in read_mutants()))
        return 0
    mutants = chosen(arguments)
    load_libraries()
    begin, killed, untried = time.perf_counter(), 0, 0
    with copied_repository() as copy:
        tests = list(dict.fromkeys(name for mutant in mutants for name in mutant.tests))
        sound = try_tests(copy, tests, SOUND_LIMIT_S)
        if sound.killer or not sound.passed:
            print(f"without a fault: {sound.killer or 'no test ran'}: nothing can be learned")
            return 1
        print(f"without a fault: {sound.passed} tests pass ({sound.seconds:.0f} s)")
        width = max(len(mutant.name) for mutant in mutants)
        for mutant in mutants:
            verdict = try_mutant(copy, mutant)
            guarded = mutant.guard and verdict.killer.startswith(f"cannot run, {mutant.guard}:")
            crashed = verdict.killer.startswith("cannot") and not guarded
            is_killed = bool(verdict.killer) and not crashed
            is_untried = not verdict.killer and not verdict.passed and verdict.skipped > 0
            killed, untried = killed + is_killed, untried + is_untried
            killer = verdict.killer.removeprefix("cannot run, ")
            outcome = killer if is_killed else f"SURVIVED {verdict.killer}".strip()
            outcome = "NOT TRIED: all its tests are skipped" if is_untried else outcome
            print(f"{mutant.name:{width}}  {outcome}  ({verdict.seconds:.1f} s)", flush=True)
    told = f", {untried} not tried" * bool(untried)
    print(f"{killed} of {len(mutants)} killed{told} in {time.perf_counter() - begin:.0f} s")
    return 0 if killed + untried == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
