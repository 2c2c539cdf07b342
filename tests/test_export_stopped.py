"""What stands against packing: a run being written, signals, full disks. No half archive."""

import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from carried_run import export
from pipelines.benchmarks.faults_run import Victim
from pipelines.checkpoint import load_checkpoint
from pipelines.config import compose_config
from pipelines.export import main
from pipelines.exporting.archive_manifest import ArchiveManifest
from pipelines.exporting.pack import pack_run
from pipelines.exporting.unpack import unpack_archive
from pipelines.folder_lock import lock_folder
from pipelines.refusal import plain_failures

ROOT = Path(__file__).resolve().parents[1]


def test_a_run_that_somebody_writes_to_is_refused(carried, tmp_path, capsys):
    run = tmp_path / "busy"
    shutil.copytree(carried[0], run, symlinks=True)
    lock = lock_folder(run, "busy")
    for words in (["checkpoints=last"], [f"model={tmp_path / 'model'}"]):
        with pytest.raises(SystemExit) as ended:
            main(compose_config("export", [f"run={run}", *words]))
        assert ended.value.code == 2
        assert "busy: being written by another process; stop it" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["busy"]
    lock.release()
    assert pack_run(run).path == tmp_path / "busy.tar.gz"
    lock_folder(run, "packing has let it go")


@pytest.mark.long
def test_a_training_is_refused_and_a_stopped_one_is_packed_and_goes_on(tmp_path):
    run = tmp_path / "victim"
    victim = Victim(run, "total_frames=1000000")
    victim.wait_for(lambda: victim.iterations >= 2)
    done = export(f"run={run}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "victim: being written by another process" in done.stderr
    victim.process.send_signal(signal.SIGTERM)
    assert victim.process.wait(60) == 143
    got = unpack_archive(pack_run(run).path, tmp_path / "elsewhere", limit_gb=1).folder
    newest = max((got / "checkpoints").iterdir())
    resumed = Victim(got, "total_frames=1000000")
    said = f"going on from {newest}, frame {load_checkpoint(newest).values['frames']:,}"
    assert resumed.wait_for(lambda: said in resumed.said()), resumed.said()
    resumed.kill()


# Sends itself a signal at a write in the middle of packing.
STOPPED = """
import gzip, os, runpy, sys
number, at, program, *sys.argv[1:] = sys.argv[1:]
write, calls = gzip.GzipFile.write, []

def interrupted(self, data):
    calls.append(data)
    if len(calls) == int(at):
        os.kill(os.getpid(), int(number))
    return write(self, data)

gzip.GzipFile.write = interrupted
runpy.run_path(program, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("number", "code", "left"),
    [(signal.SIGTERM, 143, 0), (signal.SIGKILL, -9, 1)],
)
def test_stopped_while_packing_no_file_has_the_archive_s_name(
    carried, tmp_path, number, code, left
):
    words = [f"run={carried[0]}", f"out={tmp_path / 'a.tar.gz'}"]
    program = [sys.executable, "-c", STOPPED, str(int(number)), "20", ROOT / "pipelines/export.py"]
    done = subprocess.run([*program, *words], capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == left
    assert all(name.endswith(".unfinished") for name in names)


def test_a_full_disk_leaves_nothing_behind(carried, tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for words in (
        [f"run={carried[0]}", f"out={tmp_path / 'a.tar.gz'}"],
        [f"unpack={carried[1]}", f"into={tmp_path}"],
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        try:
            with pytest.raises(SystemExit) as ended, plain_failures():
                main(compose_config("export", words))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert ended.value.code == 5
        assert "File too large" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


def test_a_file_that_changes_while_it_is_packed_is_noticed(carried, tmp_path, monkeypatch):
    run = tmp_path / "live"
    shutil.copytree(carried[0], run, symlinks=True)
    to_bytes = ArchiveManifest.to_bytes

    def logged_meanwhile(self):
        with open(run / "metrics.jsonl", "a") as file:
            file.write("{}\n")
        return to_bytes(self)

    monkeypatch.setattr(ArchiveManifest, "to_bytes", logged_meanwhile)
    with pytest.raises(ValueError, match=r"metrics\.jsonl: changed while it was packed"):
        pack_run(run)
    assert not (tmp_path / "live.tar.gz").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["live"]


def test_too_little_room_is_said_before_anything_is_written(carried, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=200_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"MB to unpack and 0\.2 MB free"):
        unpack_archive(carried[1], tmp_path / "into", limit_gb=1)
    assert list((tmp_path / "into").iterdir()) == []
