"""A run packed, verified and unpacked: the same bytes, all of them, nothing else, or a refusal."""

import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import carried_run
from pipelines.benchmarks.faults_run import Victim
from pipelines.checkpoint import load_checkpoint
from pipelines.config import compose_config
from pipelines.export import main
from pipelines.exporting.archive_manifest import ArchiveManifest
from pipelines.exporting.pack import pack_run
from pipelines.exporting.run_files import Choice, is_run_file
from pipelines.exporting.tar_headers import END, make_header, padding, read_header
from pipelines.exporting.unpack import unpack_archive, verify_archive
from pipelines.folder_lock import lock_folder
from pipelines.refusal import plain_failures
from random_walk import write_bars

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run, and its archive."""
    root = tmp_path_factory.mktemp("export")
    run = carried_run.make_run(root / "mine", write_bars(root / "bars.parquet"))
    return run, pack_run(run).path


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def export(*words, **options):
    command = [sys.executable, str(ROOT / "pipelines" / "export.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_an_archive_holds_the_run_and_nothing_else_of_its_folder(finished, tmp_path):
    run, archive = finished
    got = unpack_archive(archive, tmp_path, limit_gb=1).folder
    assert got == tmp_path / "mine"
    there, here = contents(run), contents(got)
    manifest = json.loads(here.pop("manifest.json"))
    kept_out = {*carried_run.STRANGE, ".lock"}
    kept_out |= {name for name in there if name.startswith("wandb/")}
    assert here == {name: blob for name, blob in there.items() if name not in kept_out}
    assert carried_run.SECRET.encode() not in gzip.decompress(archive.read_bytes())
    for name, blob in here.items():
        known = manifest["files"][name]
        assert (known["size"], known["sha256"]) == (len(blob), hashlib.sha256(blob).hexdigest())
    newest = load_checkpoint(run / "checkpoints" / "000000003").manifest
    for key in ("config_sha256", "git_revision", "versions"):
        assert manifest[key] == newest[key]
    assert (manifest["run"], manifest["checkpoint"]) == ("mine", "000000003")


def test_the_same_run_gives_the_same_bytes_wherever_and_whenever_it_is_packed(finished, tmp_path):
    archive = finished[1]
    got = unpack_archive(archive, tmp_path, limit_gb=1).folder
    for path in got.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    done = export(f"run={got}", f"out={tmp_path / 'again.tar.gz'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.tar.gz").read_bytes() == archive.read_bytes()


def test_an_archive_is_verified(finished, capsys):
    main(compose_config("export", [f"verify={finished[1]}"]))
    assert "every byte is as it was packed" in capsys.readouterr().out


def test_every_tar_reads_it(finished, tmp_path):
    archive = finished[1]
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
def test_checkpoints_are_chosen(finished, tmp_path, choice, kept):
    packed = pack_run(finished[0], tmp_path / "a.tar.gz", choice)
    found = {name.split("/")[1] for name in packed.manifest.files if name.startswith("checkpoints")}
    assert sorted(found) == kept
    assert packed.manifest.about["checkpoint"] == kept[-1]
    assert packed.manifest.about["chosen"]["checkpoints"] == choice.checkpoints


def test_traces_stay_and_wandb_comes_where_that_is_asked_for(finished, tmp_path, capsys):
    out = tmp_path / "a.tar.gz"
    words = [f"run={finished[0]}", f"out={out}", "traces=false", "wandb=true"]
    main(compose_config("export", words))
    names = set(verify_archive(out).files)
    assert not [name for name in names if "_actions." in name]
    assert "wandb/offline-run-20250101_000000-abc/run-abc.wandb" in names
    assert "wandb/latest-run" not in names
    printed = capsys.readouterr().out
    assert "left there, no files of a run: .env, " in printed
    assert str(out) in printed


def test_a_damaged_checkpoint_is_left_and_the_one_before_it_is_the_newest(finished, tmp_path):
    run = tmp_path / "hurt"
    shutil.copytree(finished[0], run, symlinks=True)
    (run / "checkpoints" / "000000003" / "model.safetensors").write_bytes(b"x")
    manifest = pack_run(run).manifest
    assert not [name for name in manifest.files if "000000003" in name]
    assert manifest.about["checkpoint"] == "000000002"
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(FileNotFoundError, match="no checkpoint here"):
        pack_run(run, tmp_path / "b.tar.gz")
    assert not (tmp_path / "b.tar.gz").exists()


def test_nothing_is_overwritten(finished, tmp_path):
    run, archive = finished
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
    with pytest.raises(FileExistsError):
        unpack_archive(archive, tmp_path / "to", limit_gb=1)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_run_that_somebody_writes_to_is_refused(finished, tmp_path, capsys):
    run = tmp_path / "busy"
    shutil.copytree(finished[0], run, symlinks=True)
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
    finished, tmp_path, number, code, left
):
    words = [f"run={finished[0]}", f"out={tmp_path / 'a.tar.gz'}"]
    program = [sys.executable, "-c", STOPPED, str(int(number)), "20", ROOT / "pipelines/export.py"]
    done = subprocess.run([*program, *words], capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == left
    assert all(name.endswith(".unfinished") for name in names)


def test_a_full_disk_leaves_nothing_behind(finished, tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for words in (
        [f"run={finished[0]}", f"out={tmp_path / 'a.tar.gz'}"],
        [f"unpack={finished[1]}", f"into={tmp_path}"],
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


def test_a_file_that_changes_while_it_is_packed_is_noticed(finished, tmp_path, monkeypatch):
    run = tmp_path / "live"
    shutil.copytree(finished[0], run, symlinks=True)
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


# Archives that nobody packed here.

BLOB = b"{}\n"


def entry(blob=BLOB, **changes):
    return {"size": len(blob), "sha256": hashlib.sha256(blob).hexdigest()} | changes


def forge(path, *, files=None, members=None, run="mine", inner=None, end=END, **changes):
    """An archive of any shape; by default a right one of a single file."""
    files = {"config.json": entry()} if files is None else files
    members = [(make_header("mine/config.json", len(BLOB)), BLOB)] if members is None else members
    text = json.dumps({"format": 1, "run": run, "files": files} | changes).encode()
    parts = [
        make_header(f"{inner or run}/manifest.json", len(text)),
        text,
        bytes(padding(len(text))),
    ]
    for header, blob in members:
        parts += [header, blob, bytes(padding(len(blob)))]
    path.write_bytes(gzip.compress(b"".join([*parts, end])))
    return path


def special(kind, **attributes):
    """The header of something that is no plain file, under the name of one."""
    info = tarfile.TarInfo("mine/config.json")
    info.type = kind
    for name, value in attributes.items():
        setattr(info, name, value)
    return [(info.tobuf(tarfile.USTAR_FORMAT), b"")]


def pax(path):
    """What tarfile writes by itself for a long name."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("mine/" + "x" * 300)
        info.size = len(BLOB)
        tar.addfile(info, io.BytesIO(BLOB))
    path.write_bytes(gzip.compress(file.getvalue()))


def named(*names):
    return {
        "files": {name: entry() for name in names},
        "members": [(make_header(f"mine/{name}", len(BLOB)), BLOB) for name in names],
    }


HOSTILE = {
    "a way out": (named("../out.json"), "not a file of a run"),
    "a way out inside": (named("bars/../../../out.npy"), "not a file of a run"),
    "an absolute name": (named("/out.json"), "not a file of a run"),
    "a drive": (named("C:/config.json"), "not a file of a run"),
    "a backslash": (named("bars\\..\\..\\x.npy"), "not a file of a run"),
    "a hidden file": (named(".bashrc"), "not a file of a run"),
    "a hidden folder": (named("wandb/run-a/.ssh/authorized_keys"), "not a file of a run"),
    "code": (named("checkpoints/000000001/evil.py"), "not a file of a run"),
    "a control character": (named("x\x1b[2J_actions.csv"), "not a file of a run"),
    "a folder and a file": (named("config.json", "config.json/x_actions.csv"), "file of a run"),
    "a name that leads elsewhere": (
        {"members": [(make_header("../config.json", len(BLOB)), BLOB)]}, "where 'config.json'"),
    "another file": (
        {"members": [(make_header("mine/metrics.jsonl", len(BLOB)), BLOB)]}, "where 'config.json'"),
    "the folder of compiled code": (
        {"run": ".compiled", "members": [(make_header(".compiled/config.json", 3), BLOB)]},
        "no dot in front"),
    "a run named ..": ({"run": "..", "members": []}, "no dot in front"),
    "a run that is a path": ({"run": "a/b", "inner": "a"}, "no / or"),
    "a run that is a formula": ({"run": "=1+1"}, "printable text"),
    "the manifest of another run": ({"inner": "other"}, "with the manifest of 'mine'"),
    "a link": ({"members": special(tarfile.SYMTYPE, linkname="/etc/passwd")}, "not a plain file"),
    "a hard link": ({"members": special(tarfile.LNKTYPE, linkname="x")}, "not a plain file"),
    "a device": ({"members": special(tarfile.CHRTYPE, devmajor=1)}, "not a plain file"),
    "a pipe": ({"members": special(tarfile.FIFOTYPE)}, "not a plain file"),
    "a folder": ({"members": special(tarfile.DIRTYPE)}, "not a plain file"),
    "a long header": ({"members": special(tarfile.XHDTYPE)}, "not a plain file"),
    "a wrong hash": ({"files": {"config.json": entry(b"()\n")}}, r"config\.json is damaged"),
    "a longer file": ({"files": {"config.json": entry(size=2)}}, "3 bytes long, not 2"),
    "a missing file": ({"members": []}, "no tar archive"),
    "one more file": (
        {"members": [(make_header(f"mine/{n}.json", 3), BLOB) for n in ("config", "x_actions")]},
        "zeros"),
    "something after the end": ({"end": END + b"x"}, "something after its end"),
    "zeros without end": ({"end": END + bytes(10_000)}, "something after its end"),
    "no end": ({"end": END[:512]}, "cut off"),
    "another format": ({"format": 2}, "format 2, not 1"),
    "more than the limit": ({"files": {"config.json": entry(size=10**12)}}, "more than limit_gb=1"),
    "a negative size": ({"files": {"config.json": entry(size=-1)}}, "size -1"),
    "a size that is none": ({"files": {"config.json": entry(size=True)}}, "size True"),
    "a hash that is none": ({"files": {"config.json": entry(sha256="x")}}, "sha256 'x'"),
    "files that are none": ({"files": [1]}, "not the manifest"),
    "an entry that is none": ({"files": {"config.json": None}}, "not the manifest"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path, name):
    shape, match = HOSTILE[name]
    archive = forge(tmp_path / "x.tar.gz", **shape)
    with pytest.raises(ValueError, match=match) as refused:
        unpack_archive(archive, tmp_path / "into", limit_gb=1)
    assert "x.tar.gz" in str(refused.value)
    left = [path for path in tmp_path.rglob("*") if path.name != "into"]
    assert left == [archive]
    if name != "more than the limit":
        with pytest.raises(ValueError, match=match):
            verify_archive(archive)


def test_the_forger_can_write_a_right_one(tmp_path):
    got = unpack_archive(forge(tmp_path / "x.tar.gz"), tmp_path / "into", limit_gb=1).folder
    assert (got / "config.json").read_bytes() == BLOB


def test_what_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "x.tar.gz"
    with pytest.raises(FileNotFoundError, match=r"x\.tar\.gz: no such file"):
        verify_archive(path)
    for blob in (b"", b"PK\3\4", gzip.compress(b""), gzip.compress(bytes(1024)), b"x" * 2000):
        path.write_bytes(blob)
        with pytest.raises(ValueError, match=r"x\.tar\.gz: "):
            verify_archive(path)
    pax(path)
    with pytest.raises(ValueError, match="not a plain file"):
        verify_archive(path)
    deep = (b"[" * 100_000, b"]" * 100_000)
    header = make_header("mine/manifest.json", 200_000)
    path.write_bytes(gzip.compress(header + b"".join(deep) + bytes(padding(200_000)) + END))
    with pytest.raises(ValueError, match="not the manifest"):
        verify_archive(path)
    path.write_bytes(gzip.compress(make_header("mine/manifest.json", 10**9)))
    with pytest.raises(ValueError, match="a manifest of 1,000,000,000 bytes"):
        verify_archive(path)


def _means(packed):
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error):
        return None


def test_every_damage_is_noticed(finished, tmp_path):
    good = finished[1].read_bytes()
    known, path = verify_archive(finished[1]), tmp_path / "x.tar.gz"
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


def test_too_little_room_is_said_before_anything_is_written(finished, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=200_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"MB to unpack and 0\.2 MB free"):
        unpack_archive(finished[1], tmp_path / "into", limit_gb=1)
    assert list((tmp_path / "into").iterdir()) == []


PIECES = st.sampled_from(["..", ".", "", "bars", "wandb", "run-x", "a_actions.csv", "x.npy", "\\"])


@given(st.one_of(st.text(), st.lists(PIECES, max_size=5).map("/".join)))
def test_a_file_of_a_run_has_no_way_out(path):
    if is_run_file(path):
        inside = Path("/run").joinpath(path)
        assert ".." not in inside.parts
        assert str(inside) == f"/run/{path}"
        assert not any(part.startswith(".") for part in inside.parts)


@given(st.integers(0, 2**40), st.text("abc/", min_size=1, max_size=240))
def test_a_header_reads_back_or_is_refused(size, name):
    try:
        header = make_header(name, size)
    except ValueError:
        assert len(name) > 100
        return
    assert len(header) == 512
    found, length = read_header(header)
    assert (found.strip("/"), length) == (name.strip("/"), size)


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


def test_an_unpacked_run_is_replayed_and_judged(finished, tmp_path):
    got = unpack_archive(finished[1], tmp_path, limit_gb=1).folder
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
    assert evaluation["verdict"]["word"] in ("edge", "no edge", "not enough data")
    manifest = pack_run(got).manifest
    assert {"result.json", "replay.html", "replay_actions.csv"} < set(manifest.files)
    assert {"evaluation/report.html", "evaluation/mine_actions.csv"} < set(manifest.files)
