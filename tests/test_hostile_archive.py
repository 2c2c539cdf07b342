"""Archives that nobody packed here: nothing of them is written, and the reason is said."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.exporting.run_files import is_run_file
from pipelines.exporting.tar_headers import END, make_header, padding, read_header
from pipelines.exporting.unpack import unpack_archive, verify_archive

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
