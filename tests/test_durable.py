"""Folders that are replaced: the old one or the new one is there, whenever the process dies."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envs import durable
from envs.durable import put_back, replace_folder, sweep_unfinished, write_folder

ROOT = Path(__file__).parents[1]
OLD, NEW = {"a": b"old", "gone": b"x"}, {"a": b"new", "b": b"y" * 3_000_000}
# Replaces a folder, and dies at the call before which it was told to die: a sync, or a removal.
KILLED = """
import os, shutil, sys
from pathlib import Path
from envs.durable import replace_folder

left = int(sys.argv[2])
def dying(call):
    def instead(*args, **words):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return call(*args, **words)
    return instead
os.fsync, shutil.rmtree = dying(os.fsync), dying(shutil.rmtree)
replace_folder(Path(sys.argv[1]), {"a": b"new", "b": b"y" * 3_000_000})
"""


def read(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "bars", OLD)
    return tmp_path / "bars"


def test_a_kill_leaves_the_old_folder_or_the_new_one(folder):
    seen = set()
    for calls in range(20):
        command = [sys.executable, "-c", KILLED, str(folder), str(calls)]
        done = subprocess.run(command, cwd=ROOT, check=False)
        there = read(folder)
        assert there in (OLD, NEW), calls
        seen.add("new" if there == NEW else "old")
        if done.returncode == 0:
            break
        assert done.returncode == 9
        if there == NEW:  # which would be left as it is
            durable.remove_folder(folder)
            write_folder(folder, OLD)
    assert done.returncode == 0
    assert seen == {"old", "new"}
    sweep_unfinished(folder.parent)
    assert list(folder.parent.iterdir()) == [folder]


def test_a_full_disk_leaves_what_was_there(folder, monkeypatch):
    def refuse(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        replace_folder(folder, NEW)
    assert read(folder) == OLD
    assert list(folder.parent.iterdir()) == [folder]


def test_a_folder_that_cannot_get_its_name_leaves_what_was_there(folder, monkeypatch):
    rename = Path.rename

    def refuse(path, target):
        if target == folder and path.name.endswith(durable.UNFINISHED):
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        replace_folder(folder, NEW)
    assert read(folder) == OLD
    assert list(folder.parent.iterdir()) == [folder]


def test_the_same_folder_is_left_as_it_is_and_needs_no_room(folder, monkeypatch):
    replace_folder(folder, NEW)
    monkeypatch.setattr(durable, "write_folder", None)
    replace_folder(folder, NEW)
    assert read(folder) == NEW


@pytest.mark.parametrize("change", ["longer", "other", "one more", "a link", "a folder"])
def test_a_folder_that_is_not_quite_the_same_is_replaced(folder, tmp_path, change):
    replace_folder(folder, NEW)
    last = bytearray(NEW["b"])
    last[-1] ^= 1
    if change == "longer":
        (folder / "b").write_bytes(NEW["b"] + b"y")
    elif change == "other":
        (folder / "b").write_bytes(last)
    elif change == "one more":
        (folder / "c").touch()
    else:
        (folder / "a").unlink()
    if change == "a link":
        (tmp_path / "elsewhere").write_bytes(NEW["a"])
        (folder / "a").symlink_to(tmp_path / "elsewhere")
    elif change == "a folder":
        (folder / "a").mkdir()
    replace_folder(folder, NEW)
    assert read(folder) == NEW
    assert not (folder / "a").is_symlink()


def test_a_folder_that_is_not_there_is_made(tmp_path):
    replace_folder(tmp_path / "runs" / "bars", NEW)
    assert read(tmp_path / "runs" / "bars") == NEW


# Replaces a folder, and dies when the old one has lost its name and the new one has not got it.
KILLED_BETWEEN = """
import os, sys
from pathlib import Path
from envs.durable import replace_folder

folder, rename = Path(sys.argv[1]), Path.rename
def dying(path, target):
    rename(path, target)
    if path == folder:
        os._exit(9)
Path.rename = dying
replace_folder(folder, {"a": b"new"})
"""


def test_a_folder_that_a_kill_left_without_its_name_gets_it_back(folder):
    command = [sys.executable, "-c", KILLED_BETWEEN, str(folder)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 9
    assert not folder.exists()
    put_back(folder)
    assert read(folder) == OLD
    put_back(folder)  # there is nothing to be done
    assert read(folder) == OLD
    sweep_unfinished(folder.parent)
    assert list(folder.parent.iterdir()) == [folder]


def test_what_was_to_be_removed_takes_the_name_of_nobody(folder):
    left = durable._doomed(folder)
    shutil.copytree(folder, left)
    put_back(folder)  # which has its name
    put_back(folder.with_name("bar"))
    put_back(folder.with_name("bars.1"))
    assert sorted(folder.parent.iterdir()) == sorted([left, folder])
    folder.rename(durable._doomed(folder))
    put_back(folder)  # nobody knows which of two it was
    assert not folder.exists()
