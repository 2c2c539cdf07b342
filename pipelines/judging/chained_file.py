"""A file of JSON lines that only grows, each line bound to the one before by a hash.

The ``sha256`` of a line is over its other values, and its ``previous`` is that of the line before:
no line can be changed, left out or put in between without breaking every one after it. What a chain
cannot show is an end that is missing, so the number of lines and the last hash stand in a file
beside it, the head.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from envs.durable import named, sync_folder

_LOCK_SECONDS = 60.0
_BEGINNING = "0" * 64


class BrokenChainError(ValueError):
    """A file was changed, cut or lost; the message names the first line that is wrong."""


@dataclass(frozen=True)
class Line:
    """One line: its number from 1, its values without hashes, its hash."""

    number: int
    values: Mapping[str, Any]
    sha256: str


class ChainedFile:
    """The lines of one file.

    Args:
        path: the file. Beside it lie ``<name>.head`` and ``<name>.lock``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.head = self.path.with_name(self.path.name + ".head")

    def read(self) -> list[Line]:
        """Every line, held to its hash and to the head; none if there never was a file.

        What follows the last line break is left out: its writer was stopped before it was told
        that the line is written.

        Raises:
            BrokenChainError: naming the first line that is wrong or missing.
        """
        head = self._read_head()  # before the lines, which may grow meanwhile
        if not self.path.exists():
            if head is not None:
                raise BrokenChainError(f"{self.path}: gone, with the {head[0]} lines it had")
            return []
        lines = self._parse(self._whole_lines())
        if head is None:
            if len(lines) > 1:
                raise BrokenChainError(
                    f"{self.head}: gone; without it nobody can tell whether {self.path.name} ends "
                    f"with line {len(lines)}"
                )
            return lines
        count, sha256 = head
        if len(lines) < count:
            raise BrokenChainError(
                f"{self.path}: line {len(lines) + 1} is missing: the file had {count} lines"
            )
        if count and lines[count - 1].sha256 != sha256:
            raise BrokenChainError(f"{self.path}: line {count} is not the one that was written")
        return lines

    @contextmanager
    def growing(self) -> Iterator[list[Line]]:
        """The lines, while nobody else may add any.

        Raises:
            BrokenChainError: as `read`.
            OSError: if others keep the file locked.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path.with_name(self.path.name + ".lock"), timeout=_LOCK_SECONDS):
                yield self.read()
        except Timeout:
            raise BlockingIOError(
                f"{self.path}: locked by another process for {_LOCK_SECONDS:g} s"
            ) from None

    def append(self, lines: list[Line], values: Mapping[str, Any]) -> None:
        """Add a line to the file, on the disk, and to `lines`; only within `growing`.

        Raises:
            OSError: if the disk refuses; the file has no half line.
        """
        self.extend(lines, [values])

    def extend(self, lines: list[Line], many: Sequence[Mapping[str, Any]]) -> None:
        """Add lines at once; only within `growing`.

        Raises:
            OSError: if the disk refuses; the file has none of them.
        """
        if not many:
            return
        added: list[Line] = []
        pieces: list[bytes] = []
        previous = lines[-1].sha256 if lines else _BEGINNING
        for number, values in enumerate(many, start=len(lines) + 1):
            bound = {**values, "previous": previous}
            previous = _hash(bound)
            added.append(Line(number, dict(values), previous))
            pieces.append(_canonical({**bound, "sha256": previous}) + b"\n")
        size = sum(len(piece) + 1 for piece in self._whole_lines())
        with named(self.path), open(self.path, "ab", buffering=0) as file:
            file.truncate(size)  # what a stopped writer left
            try:
                _write_all(file, b"".join(pieces))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
        lines += added
        self._write_head(len(lines), previous)

    def _whole_lines(self) -> list[bytes]:
        return self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []

    def _parse(self, pieces: list[bytes]) -> list[Line]:
        lines: list[Line] = []
        previous = _BEGINNING
        for number, piece in enumerate(pieces, start=1):
            line = _parse_line(piece, number, previous)
            if isinstance(line, str):
                raise BrokenChainError(f"{self.path}: line {number} {line}")
            lines.append(line)
            previous = line.sha256
        return lines

    def _read_head(self) -> tuple[int, str] | None:
        try:
            head = json.loads(self.head.read_bytes())
            return int(head["lines"]), str(head["sha256"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise BrokenChainError(f"{self.head}: cannot be read: {error}") from error

    def _write_head(self, count: int, sha256: str) -> None:
        fresh = self.head.with_name(self.head.name + ".new")
        with named(self.head), open(fresh, "wb") as file:
            file.write(_canonical({"lines": count, "sha256": sha256}) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.head)
        sync_folder(self.head.parent)


def _write_all(file: io.FileIO, blob: bytes) -> None:
    """Write to a file without a buffer, which may take a part at a time."""
    while blob:
        blob = blob[file.write(blob) :]


def _parse_line(piece: bytes, number: int, previous: str) -> Line | str:
    """The line, or what is wrong with it."""
    try:
        values = json.loads(piece)
        sha256, before = values.pop("sha256"), values.pop("previous")
        own = _hash({**values, "previous": before})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return "is not a line of this file"
    if own != sha256:
        return "was changed: its hash is that of other values"
    if before != previous:
        return "does not follow the line before it: one was changed, taken out or put in"
    return Line(number, values, sha256)


def _hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(values)).hexdigest()


def _canonical(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, allow_nan=False).encode()
