"""A file that only grows: what is noticed when it is cut, changed, lost, or written by many."""

import contextlib
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.judging import chained_file
from pipelines.judging.chained_file import BrokenChainError, ChainedFile

ROOT = Path(__file__).resolve().parents[1]


def grow(file, *values):
    with file.growing() as lines:
        for value in values:
            file.append(lines, {"value": value})
    return file


@pytest.fixture
def file(tmp_path):
    """A file of five lines."""
    return grow(ChainedFile(tmp_path / "deep" / "lines.jsonl"), *"abcde")


def cut_lines(file, keep):
    file.path.write_bytes(b"".join(file.path.read_bytes().splitlines(keepends=True)[:keep]))


def test_lines_come_back_as_they_were_written(file):
    lines = file.read()
    assert [line.values["value"] for line in lines] == list("abcde")
    assert [line.number for line in lines] == [1, 2, 3, 4, 5]
    assert len({line.sha256 for line in lines}) == 5


def test_there_are_none_before_the_first(tmp_path):
    assert ChainedFile(tmp_path / "none.jsonl").read() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [1, 3, 5])
@pytest.mark.parametrize("field", ["value", "previous", "sha256"])
def test_a_changed_value_is_named_by_its_line(file, number, field):
    lines = file.path.read_text().splitlines()
    values = json.loads(lines[number - 1])
    values[field] = "f" * 64
    lines[number - 1] = json.dumps(values, sort_keys=True)
    file.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(BrokenChainError, match=f"line {number} was changed"):
        file.read()


def test_a_line_that_was_hashed_anew_breaks_the_next_one(file):
    lines = file.path.read_text().splitlines()
    values = json.loads(lines[1])
    values["value"] = "forged"
    del values["sha256"]
    values["sha256"] = chained_file._hash(values)
    lines[1] = json.dumps(values, sort_keys=True)
    file.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(BrokenChainError, match="line 3 does not follow the line before it"):
        file.read()


@pytest.mark.parametrize("taken", [1, 2, 4])
def test_a_line_taken_out_breaks_the_next_one(file, taken):
    lines = file.path.read_text().splitlines(keepends=True)
    del lines[taken - 1]
    file.path.write_text("".join(lines))
    with pytest.raises(BrokenChainError, match=f"line {taken} does not follow"):
        file.read()


@pytest.mark.parametrize("keep", [0, 1, 4])
def test_an_end_that_was_cut_off_is_missed(file, keep):
    cut_lines(file, keep)
    with pytest.raises(BrokenChainError, match=f"line {keep + 1} is missing: the file had 5"):
        file.read()


def test_a_last_line_cut_short_is_missed(file):
    file.path.write_bytes(file.path.read_bytes()[:-10])
    with pytest.raises(BrokenChainError, match="line 5 is missing"):
        file.read()


def test_a_lost_file_is_missed(file):
    file.path.unlink()
    with pytest.raises(BrokenChainError, match="gone, with the 5 lines it had"):
        file.read()
    with pytest.raises(BrokenChainError, match="gone"):
        grow(file, "f")
    assert not file.path.exists()


def test_a_lost_or_damaged_head_is_missed(file):
    blob = file.head.read_bytes()
    file.head.write_bytes(blob[:7])
    with pytest.raises(BrokenChainError, match="head: cannot be read"):
        file.read()
    file.head.unlink()
    with pytest.raises(BrokenChainError, match="head: gone"):
        file.read()
    file.head.write_bytes(blob)
    assert len(file.read()) == 5


def test_another_last_line_of_the_same_number_is_missed(file, tmp_path):
    other = grow(ChainedFile(tmp_path / "other.jsonl"), *"abcdX")
    file.path.write_bytes(other.path.read_bytes())
    with pytest.raises(BrokenChainError, match="line 5 is not the one that was written"):
        file.read()


def test_a_writer_that_was_killed_leaves_no_trace(file):
    with open(file.path, "ab") as torn:
        torn.write(b'{"value": "ha')
    assert len(file.read()) == 5
    grow(file, "f")
    assert [line.values["value"] for line in file.read()] == list("abcdef")


def test_a_writer_that_was_killed_before_the_head_was_written_has_written(file):
    head = file.head.read_bytes()
    grow(file, "f")
    file.head.write_bytes(head)
    assert len(file.read()) == 6
    grow(file, "g")
    assert json.loads(file.head.read_bytes())["lines"] == 7


def test_the_first_line_needs_no_head(file):
    cut_lines(file, 1)
    file.head.unlink()
    assert len(file.read()) == 1


def test_a_full_disk_leaves_the_file_as_it_was(file, monkeypatch):
    before = file.path.read_bytes()

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left") as refused:
        grow(file, "f")
    monkeypatch.undo()
    assert refused.value.filename == str(file.path)
    assert file.path.read_bytes() == before
    assert len(grow(file, "f").read()) == 6


def test_many_lines_are_written_at_once_or_not_at_all(file, monkeypatch):
    before, many = file.path.read_bytes(), [{"value": value} for value in "fgh"]
    syncs, sync = [], os.fsync

    def refuse(descriptor):
        if file.path.read_bytes() != before:
            syncs.append(file.path.read_bytes())
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patched, file.growing() as lines:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="No space left"):
            file.extend(lines, many)
        assert len(lines) == 5
    assert [blob.count(b"\n") for blob in syncs] == [8]
    assert file.path.read_bytes() == before
    one_by_one = ChainedFile(file.path.with_name("other.jsonl"))
    grow(one_by_one, *"abcdefgh")
    with file.growing() as lines:
        file.extend(lines, many)
        file.extend(lines, [])
    assert file.read() == lines == one_by_one.read()


def test_what_is_no_number_is_refused_before_anything_is_written(file):
    with pytest.raises(ValueError, match="JSON"):
        grow(file, float("nan"))
    assert len(file.read()) == 5


@given(st.integers(0, 10**6), st.integers(1, 255))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_byte_can_be_changed_unnoticed(file, where, change):
    original = file.path.read_bytes()
    values = [line.values for line in file.read()]
    blob = bytearray(original)
    blob[where % len(blob)] ^= change
    file.path.write_bytes(bytes(blob))
    with contextlib.suppress(BrokenChainError):
        # A space for another is read, and means the same.
        assert [line.values for line in file.read()] == values
    file.path.write_bytes(original)


WRITER = """
import sys
from pipelines.judging.chained_file import ChainedFile
file = ChainedFile(sys.argv[1])
for i in range(12):
    with file.growing() as lines:
        file.append(lines, {"value": sys.argv[2] + str(i)})
"""


@pytest.mark.parametrize(
    "piece",
    [b'{"sha256": "a", "previous": "b", "value": NaN}', b"[" * 100_000, b"\xff\xfe", b'"x"'],
)
def test_a_line_of_no_kind_is_named_whatever_it_holds(file, piece):
    lines = file.path.read_bytes().split(b"\n")
    lines[2] = piece
    file.path.write_bytes(b"\n".join(lines))
    with pytest.raises(BrokenChainError, match="line 3 is not a line of this file"):
        file.read()


def test_many_writers_lose_nothing(tmp_path):
    path = tmp_path / "shared.jsonl"
    words = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*words, name], cwd=ROOT) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    found = sorted(line.values["value"] for line in ChainedFile(path).read())
    assert found == sorted(f"{name}{i}" for name in "abc" for i in range(12))


def test_a_lock_that_is_kept_is_said_so(file, monkeypatch):
    monkeypatch.setattr(chained_file, "_LOCK_SECONDS", 0.05)
    with file.growing(), pytest.raises(BlockingIOError, match="locked by another process"):
        grow(ChainedFile(file.path), "f")
