"""The traces of the runs under a folder: found by name, indexed in the background, asked."""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from envs.durable import make_writable
from pipelines.run_folder import RunFolder
from pipelines.run_insights.run_files import find_folders
from pipelines.run_insights.trace_index import (
    PIECE_BYTES,
    TraceIndex,
    cache_folder,
    index_trace,
    is_lost,
)
from pipelines.run_insights.trace_queries import TraceQueries

_PATTERNS = ("*_actions.csv", "*_actions.parquet")
_FIRST = ("replay", "train")
# A trace that grows is read on at most so often.
_FRESH_S = 10.0


@dataclass
class _Entry:
    """What is known of one trace; written under the store's lock."""

    index: TraceIndex | None = None
    error: str = ""
    busy: bool = False
    checked: float = -_FRESH_S


class TraceStore:
    """Finds traces and keeps their indices.

    A name is never joined to a path: it must be one of those that were found in the folder, links
    left out, so that no name leads out of it.

    Args:
        root: folder of all runs.
        cache: folder of the indices, made if there is none.
    """

    def __init__(self, root: Path, cache: Path) -> None:
        self.root, self._cache = root, cache
        make_writable(cache)
        self.queries = TraceQueries(cache)
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._lock = threading.Lock()
        self._one_at_a_time = threading.Lock()

    def run_folder(self, run: str) -> Path:
        """The folder of a run, or of an evaluation of several.

        Raises:
            ValueError: if there is no such run.
        """
        folders = [path for kind in find_folders(self.root) for path in kind]
        found = {path.relative_to(self.root).as_posix(): path for path in folders}
        if run not in found:
            raise ValueError(f"there is no run {run!r} in {self.root.name or self.root}")
        return found[run]

    def traces(self, run: str) -> dict[str, Path]:
        """The traces of a run by file name, those of the replay and of the training first."""
        folder = self.run_folder(run)
        places = [folder, *RunFolder(folder).replays(), *RunFolder(folder).evaluations()]
        found = {
            path.relative_to(folder).as_posix(): path
            for place in places
            for pattern in _PATTERNS
            for path in place.glob(pattern)
            if path.is_file() and not path.is_symlink()
        }
        names = sorted(found, key=lambda name: (_rank(name), name))
        return {name: found[name] for name in names}

    def path(self, run: str, trace: str) -> Path:
        """The file of a trace.

        Raises:
            ValueError: if the run has no such trace.
        """
        found = self.traces(run)
        if trace not in found:
            raise ValueError(f"the run {run} has no trace {trace!r}; it has: {', '.join(found)}")
        return found[trace]

    def index(self, run: str, trace: str) -> tuple[TraceIndex | None, float]:
        """The index of a trace, or None and the fraction of it that has been read.

        Reading begins in the background; of a trace that has grown the older index is given.

        Raises:
            ValueError: if there is no such trace, or it is damaged.
        """
        path = self.path(run, trace)
        with self._lock:
            entry = self._entries.setdefault((run, trace), _Entry())
            if entry.index is not None and not all(map(os.path.isfile, entry.index.files)):
                entry.index, entry.checked = None, -_FRESH_S  # the cache may be removed at any time
            stale = time.monotonic() - entry.checked > _FRESH_S
            if not entry.busy and stale and not _is_whole(path, entry.index):
                entry.busy = True
                words = (entry, path, cache_folder(self._cache, run, trace))
                threading.Thread(target=self._make, args=words, daemon=True).start()
            if entry.index is None and entry.error and not entry.busy:
                raise ValueError(entry.error)
            known = entry.index
        return known, 1.0 if known else self._progress(run, trace, path)

    def wait(self, run: str, trace: str, seconds: float) -> None:
        """Wait until a trace is indexed up to its end, or has failed, or the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with self._lock:
                entry = self._entries.get((run, trace))
                if entry is None or not entry.busy:
                    return
            time.sleep(0.02)

    def is_lost(self, run: str, trace: str, index: TraceIndex) -> bool:
        """Whether an index that could not be asked is gone, or damaged: it is made anew then."""
        lost = is_lost(index)
        with self._lock:
            entry = self._entries[(run, trace)]
            if entry.busy or entry.index is not index:
                return True
            if lost:
                entry.index, entry.checked = None, -_FRESH_S
        return lost

    def _make(self, entry: _Entry, path: Path, folder: Path) -> None:
        index, error = None, ""
        try:
            with self._one_at_a_time:
                index = index_trace(path, folder)
        except Exception as failure:  # whatever it is: a page would wait for this thread for ever
            words = str(failure) or type(failure).__name__
            error = words.replace(str(self.root), self.root.name)
        with self._lock:
            entry.index, entry.error = index, error
            entry.busy, entry.checked = False, time.monotonic()

    def _progress(self, run: str, trace: str, path: Path) -> float:
        pieces = cache_folder(self._cache, run, trace).glob("piece-*.parquet")
        read = PIECE_BYTES * sum(1 for _ in pieces)
        return min(0.99, read / max(path.stat().st_size, 1))


def _is_whole(path: Path, index: TraceIndex | None) -> bool:
    """Whether a trace is as it was when its end was read."""
    stat = path.stat()
    return index is not None and (index.source_bytes, index.source_time) == (
        stat.st_size,
        stat.st_mtime_ns,
    )


def _rank(name: str) -> int:
    return next((i for i, word in enumerate(_FIRST) if name.startswith(word)), len(_FIRST))
