"""Archives from another machine: a folder behind a stand-in for ssh, and a real rsync."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from pipelines.config import compose_config
from pipelines.export import main
from pipelines.exporting.fetch import fetch_archive
from pipelines.exporting.unpack import verify_archive
from pipelines.refusal import plain_failures
from pipelines.source_error import SourceError

# Runs the command that ssh would run elsewhere, after its options and the host. Of what comes back
# so many bytes pass as the file `limit` says. Written down: the words, and the bytes that passed.
SSH = """#!{python}
import os, select, subprocess, sys
from pathlib import Path

notes, words = Path("{notes}"), sys.argv[1:]
(notes / "words").write_text(" ".join(words))
while words[0].startswith("-"):
    words = words[2:]
left = int((notes / "limit").read_text())
there = subprocess.Popen(
    ["sh", "-c", " ".join(words[1:])], cwd="{there}", stdin=0, stdout=subprocess.PIPE
)
sent = 0
while left > sent and (data := os.read(there.stdout.fileno(), min(65536, left - sent))):
    while data:
        select.select([], [1], [])
        try:
            passed = os.write(1, data)
        except BlockingIOError:
            continue
        sent, data = sent + passed, data[passed:]
(notes / "sent").write_text(str(sent))
there.kill()
sys.exit(there.wait() if sent < left else 255)
"""


@pytest.fixture
def packed(carried):
    """The archive, where there is a program to fetch it with."""
    if shutil.which("rsync") is None or os.name != "posix":
        pytest.skip("no rsync here")
    return carried[1]


@pytest.fixture
def ssh(packed, tmp_path, monkeypatch):
    """The folder in which the stand-in keeps its notes; the archive is ``there/mine.tar.gz``."""
    there, notes = tmp_path / "there", tmp_path / "notes"
    (there / "runs").mkdir(parents=True)
    notes.mkdir()
    shutil.copy(packed, there / "runs" / "mine.tar.gz")
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(SSH.format(python=sys.executable, notes=notes, there=there))
    program.chmod(0o755)
    (notes / "limit").write_text("1000000000")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return notes


def test_an_archive_comes_whole_and_is_verified(packed, ssh, tmp_path, capsys):
    words = ["fetch=me@pod:runs/mine.tar.gz", f"into={tmp_path / 'home'}", "port=2222"]
    main(compose_config("export", words))
    got = tmp_path / "home" / "mine.tar.gz"
    assert got.read_bytes() == packed.read_bytes()
    assert [path.name for path in got.parent.iterdir()] == ["mine.tar.gz"]
    assert str(got) in capsys.readouterr().out
    told = (ssh / "words").read_text()
    assert "-p 2222 " in told
    assert "ServerAliveInterval" in told
    with pytest.raises(FileExistsError, match=r"mine\.tar\.gz: is there already"):
        fetch_archive("me@pod:runs/mine.tar.gz", tmp_path / "home")


def test_a_broken_connection_keeps_what_came_and_goes_on(packed, ssh, tmp_path):
    whole = packed.read_bytes()
    (ssh / "limit").write_text(str(len(whole) * 3 // 4))
    with pytest.raises(SourceError, match=r"bytes are kept in .*the same command goes on"):
        fetch_archive("pod:runs/mine.tar.gz", tmp_path / "home")
    (part,) = (tmp_path / "home").iterdir()
    assert part.name == ".mine.tar.gz.part"
    came = part.stat().st_size
    assert len(whole) // 4 < came < len(whole)
    (ssh / "limit").write_text("1000000000")
    path, manifest = fetch_archive("pod:runs/mine.tar.gz", tmp_path / "home")
    assert path.read_bytes() == whole
    assert manifest == verify_archive(packed)
    assert int((ssh / "sent").read_text()) < len(whole) - came // 2, "it began anew"
    assert list((tmp_path / "home").iterdir()) == [path]


def test_an_archive_that_is_damaged_over_there_is_not_kept(ssh, tmp_path):
    there = tmp_path / "there" / "runs" / "mine.tar.gz"
    hurt = bytearray(there.read_bytes())
    hurt[len(hurt) // 2] ^= 1
    there.write_bytes(hurt)
    with pytest.raises(ValueError, match=r"pod:runs/mine\.tar\.gz is damaged; pack it again"):
        fetch_archive("pod:runs/mine.tar.gz", tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []


def test_a_file_that_is_not_there_is_said_with_the_code_of_the_network(ssh, tmp_path, capsys):
    words = ["fetch=pod:runs/other.tar.gz", f"into={tmp_path / 'home'}"]
    with pytest.raises(SystemExit) as ended, plain_failures():
        main(compose_config("export", words))
    assert ended.value.code == 6
    assert "rsync ended with 23" in capsys.readouterr().err


@pytest.mark.parametrize(
    "source",
    [
        "-oProxyCommand=touch x:a.tar.gz",
        "pod:-e.tar.gz",
        "pod:a;touch x.tar.gz",
        "pod:$(touch x).tar.gz",
        "pod:a b.tar.gz",
        "pod:'a'.tar.gz",
        "pod::module/a.tar.gz",
        "rsync://pod/a.tar.gz",
        "me@-pod:a.tar.gz",
        "pod:runs",
        "a.tar.gz",
        "pod:a.tar.gz\n",
    ],
)
def test_a_source_that_would_be_something_else_is_refused(tmp_path, source):
    with pytest.raises(ValueError, match=r"\[USER@\]HOST:PATH"):
        fetch_archive(source, tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_without_rsync_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="rsync is not installed here"):
        fetch_archive("pod:a.tar.gz", Path(tmp_path))
