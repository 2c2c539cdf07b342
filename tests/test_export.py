"""A run packed, verified and unpacked: the same bytes, all of them, nothing else, or a refusal."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pytest

from carried_run import SECRET, STRANGE, export
from pipelines.checkpoint import load_checkpoint
from pipelines.config import compose_config
from pipelines.export import describe, main
from pipelines.exporting.archive_manifest import ArchiveManifest
from pipelines.exporting.pack import pack_run
from pipelines.exporting.run_files import Choice
from pipelines.exporting.unpack import unpack_archive, verify_archive

ROOT = Path(__file__).resolve().parents[1]


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_an_archive_holds_the_run_and_nothing_else_of_its_folder(carried, tmp_path):
    run, archive = carried
    got = unpack_archive(archive, tmp_path, limit_gb=1).folder
    assert got == tmp_path / "mine"
    there, here = contents(run), contents(got)
    manifest = json.loads(here.pop("manifest.json"))
    kept_out = {*STRANGE, ".lock"}
    kept_out |= {name for name in there if name.startswith("wandb/")}
    assert here == {name: blob for name, blob in there.items() if name not in kept_out}
    assert SECRET.encode() not in gzip.decompress(archive.read_bytes())
    for name, blob in here.items():
        known = manifest["files"][name]
        assert (known["size"], known["sha256"]) == (len(blob), hashlib.sha256(blob).hexdigest())
    newest = load_checkpoint(run / "checkpoints" / "000000003").manifest
    for key in ("config_sha256", "git_revision", "versions"):
        assert manifest[key] == newest[key]
    assert (manifest["run"], manifest["checkpoint"]) == ("mine", "000000003")


def test_the_same_run_gives_the_same_bytes_wherever_and_whenever_it_is_packed(carried, tmp_path):
    archive = carried[1]
    got = unpack_archive(archive, tmp_path, limit_gb=1).folder
    for path in got.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    done = export(f"run={got}", f"out={tmp_path / 'again.tar.gz'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.tar.gz").read_bytes() == archive.read_bytes()


def test_an_archive_is_verified(carried, capsys):
    main(compose_config("export", [f"verify={carried[1]}"]))
    assert "every byte is as it was packed" in capsys.readouterr().out


def test_every_tar_reads_it(carried, tmp_path):
    archive = carried[1]
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    assert contents(tmp_path / "mine") == contents(
        unpack_archive(archive, tmp_path / "x", limit_gb=1).folder
    )
    if tar_program := shutil.which("tar"):
        listed = subprocess.run([tar_program, "tzf", archive], capture_output=True, check=True)
        assert listed.stdout.split()[0] == b"mine/manifest.json"
        assert listed.stderr == b""


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        (Choice("all"), ["000000001", "000000002", "000000003"]),
        (Choice("last"), ["000000003"]),
        (Choice("best"), ["000000002"]),
    ],
)
def test_checkpoints_are_chosen(carried, tmp_path, choice, kept):
    packed = pack_run(carried[0], tmp_path / "a.tar.gz", choice)
    found = {name.split("/")[1] for name in packed.manifest.files if name.startswith("checkpoints")}
    assert sorted(found) == kept
    assert packed.manifest.about["checkpoint"] == kept[-1]
    assert packed.manifest.about["chosen"]["checkpoints"] == choice.checkpoints


def test_traces_stay_and_wandb_comes_where_that_is_asked_for(carried, tmp_path, capsys):
    out = tmp_path / "a.tar.gz"
    words = [f"run={carried[0]}", f"out={out}", "traces=false", "wandb=true"]
    main(compose_config("export", words))
    names = set(verify_archive(out).files)
    assert not [name for name in names if "_actions." in name]
    assert "wandb/offline-run-20250101_000000-abc/run-abc.wandb" in names
    assert "wandb/latest-run" not in names
    printed = capsys.readouterr().out
    assert "left there, no files of a run: .env, " in printed
    assert str(out) in printed


def test_a_damaged_checkpoint_is_left_and_the_one_before_it_is_the_newest(carried, tmp_path):
    run = tmp_path / "hurt"
    shutil.copytree(carried[0], run, symlinks=True)
    (run / "checkpoints" / "000000003" / "model.safetensors").write_bytes(b"x")
    manifest = pack_run(run).manifest
    assert not [name for name in manifest.files if "000000003" in name]
    assert manifest.about["checkpoint"] == "000000002"
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(FileNotFoundError, match="no checkpoint here"):
        pack_run(run, tmp_path / "b.tar.gz")
    assert not (tmp_path / "b.tar.gz").exists()


def test_nothing_is_overwritten(carried, tmp_path):
    run, archive = carried
    with pytest.raises(FileExistsError, match=r"mine\.tar\.gz: is there already"):
        pack_run(run)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").touch()
    with pytest.raises(FileExistsError, match="mine: is there already"):
        unpack_archive(archive, tmp_path, limit_gb=1)
    assert contents(tmp_path) == {"mine/precious": b""}
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "to" / "mine").parent.mkdir()
    (tmp_path / "to" / "mine").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="mine: is there already"):
        unpack_archive(archive, tmp_path / "to", limit_gb=1)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def _means(packed):
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error):
        return None


def test_every_damage_is_noticed(carried, tmp_path):
    good = carried[1].read_bytes()
    known, path = verify_archive(carried[1]), tmp_path / "x.tar.gz"
    for part in (0.01, 0.3, 0.7, 0.99):
        path.write_bytes(good[: int(part * len(good))])
        with pytest.raises(ValueError, match=r"x\.tar\.gz"):
            verify_archive(path)
    for spot in (*range(0, len(good), len(good) // 40), *range(len(good) - 12, len(good))):
        hurt = bytearray(good)
        hurt[spot] ^= 16
        path.write_bytes(hurt)
        if _means(bytes(hurt)) == _means(good):  # gzip's time, or bits that fill up a byte
            assert verify_archive(path) == known
            continue
        with pytest.raises(ValueError, match=r"x\.tar\.gz"):
            verify_archive(path)


MISTAKES = [
    ([], "nothing to do: give one of run=FOLDER"),
    (["run=a", "verify=b"], "run and verify to do"),
    (["verify=a", "out=b.tar.gz"], "out='b.tar.gz' is not allowed: null without run="),
    (["run=a", "out=b.zip"], "ending in .tar.gz"),
    (["run=a", "port=22"], "null without fetch="),
    (["fetch=a:b.tar.gz", "port=0"], "from 1 to 65535"),
    (["run=a", "checkpoints=some"], "one of all, best, last"),
    (["run=a", "hub=name"], "USER/NAME"),
    (["run=a", "hub=../x/y"], "USER/NAME"),
    (["run=a", "hub=a/b", "token=x"], "unknown key token"),
    (["unpack=a", "limit_gb=0"], "limit_gb=0"),
]


@pytest.mark.parametrize(("words", "answer"), MISTAKES)
def test_a_mistake_is_answered(words, answer):
    with pytest.raises(ValueError, match=r"allowed|to do|unknown") as refused:
        compose_config("export", words)
    assert answer in str(refused.value)


REPLAYED = """
import runpy, sys
folder, run = sys.argv[1:]
for program, word in (("replay", "episodes=4"), ("evaluate", "draws=20")):
    sys.argv = [program, run, word]
    runpy.run_path(f"{folder}/{program}.py", run_name="__main__")
"""


def test_an_unpacked_run_is_replayed_and_judged(carried, tmp_path):
    got = unpack_archive(carried[1], tmp_path, limit_gb=1).folder
    done = subprocess.run(
        [sys.executable, "-c", REPLAYED, ROOT / "pipelines", f"run={got}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "VERDICT: " in done.stdout
    assert (got / "result.json").is_file()
    evaluation = json.loads((got / "evaluation" / "evaluation.json").read_text())
    assert evaluation["verdict"]["word"] in ("no edge", "not enough data")
    manifest = pack_run(got).manifest
    assert {"result.json", "replay.html", "replay_actions.csv"} < set(manifest.files)
    assert {"evaluation/report.html", "evaluation/mine_actions.csv"} < set(manifest.files)


@pytest.mark.parametrize(
    ("revision", "shown"),
    [("0123456789abcdef" * 2 + "-dirty", "01234567-dirty"), (None, "unknown"), (7, "7")],
)
def test_an_archive_says_of_which_code_it_is_and_whether_that_was_changed(revision, shown):
    about = {"checkpoint": "000000003", "git_revision": revision}
    assert f"commit {shown}, 0 looks" in describe(ArchiveManifest("mine", about, {}, []))
