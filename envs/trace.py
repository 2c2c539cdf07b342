"""The trace: one row a step and lane, enough to re-simulate a run with nothing but its price file.

`TraceWriter` takes whole rollouts and writes their rows on a thread of its own;
`envs.trace_reader.read_trace` gives the rows back, every number bit for bit. The columns are those
of ``docs/simulator.md``.
"""

import json
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from tensordict import TensorDictBase
from torch import Tensor

from envs.bar_table import BarTable
from envs.checks import require, require_cell
from envs.config import EnvConfig
from envs.durable import write_file
from envs.trace_beside import about_trace, find_changes, path_beside
from envs.trace_files import CsvFile
from envs.trace_rows import Chunk, RowMaker
from envs.trace_schema import SCHEMA

# Rollouts that may wait for the thread before `write` does.
_QUEUE_LENGTH = 2
# Marks that are kept: of those that wait, of the one being written, and some before it.
_MARKS = _QUEUE_LENGTH + 6


@dataclass(frozen=True)
class TraceMark:
    """How far a trace has come after a number of rollouts: enough to go on with it there.

    Attributes:
        size: bytes of the file.
        counters: of frames, episodes and steps, int64 arrays.
        is_cut: its episodes do not go on: the next row of a lane is the first of another one.
    """

    size: int
    counters: dict[str, np.ndarray]
    is_cut: bool = False

    def cut(self) -> "TraceMark":
        """The same, where the episodes that are running are left and others begin."""
        counters = dict(self.counters)
        if "step" in counters:
            counters["episode"] = counters["episode"] + (counters["step"] > 0)
            counters["step"] = np.zeros_like(counters["step"])
        return TraceMark(self.size, counters, is_cut=True)


class TraceWriter:
    """Appends rollouts to one trace file, away from the thread that trains.

    The file holds whole lines at any time, also when the disk is full. A file of the same name is
    replaced; `pack_trace` makes a smaller one of it in the end. Beside it lies ``<stem>.json``:
    every parameter of the simulator, name and hash of the data file, the bar interval; and under
    ``changed`` the frames from which on they were others than before, or at which episodes were
    left where they stood, if the run was changed.

    Args:
        path: ``*.csv``.
        table: the market that the rollouts point into.
        cfg: the simulator's parameters.
        run_id: the run's name, in every row.
        split: the split that was played, in every row.
        lanes: numbers of the lanes to keep, whole; None: all.
        resume: go on in the CSV file that is there from this mark on; what follows it is cut off.

    Raises:
        ValueError: for a suffix, or a text for the cells, that is not allowed.
        OSError: if the file cannot be written, naming it. What goes wrong in the thread is raised
            by the next `write` or by `close`.
    """

    def __init__(
        self,
        path: str | Path,
        table: BarTable,
        cfg: EnvConfig,
        *,
        run_id: str,
        split: str,
        lanes: Sequence[int] | None = None,
        resume: TraceMark | None = None,
    ) -> None:
        self.path = Path(path)
        texts = {"run_id": run_id, "split": split, "asset": table.meta.asset}
        for name, text in texts.items():
            require_cell(name, text)
        self._lanes = None if lanes is None else sorted(set(lanes))
        self._num_lanes: int | None = None
        self._rows = RowMaker(table, cfg, texts)
        require(self.path.suffix == ".csv", "trace file", str(path), "a name in .csv")
        self._file = CsvFile(self.path, SCHEMA, None if resume is None else resume.size)
        if resume is not None:
            self._rows.resume(resume.counters)
        self._marks = {0: TraceMark(self._file.size, self._rows.counters)}
        self._written = threading.Condition()
        self.rollouts = 0  # handed to `write` so far
        about = about_trace(table.meta, cfg) | texts | {"lanes": self._lanes}
        beside = path_beside(self.path)
        if resume is not None:
            frame = int(resume.counters["next_frame"][0])
            frames = find_changes(beside, about, frame, is_cut=resume.is_cut)
            about |= {"changed": frames} if frames else {}
        try:
            write_file(beside, (json.dumps(about, indent=2) + "\n").encode())
        except OSError:
            self._file.close()
            raise
        self._failure: BaseException | None = None
        self._queue: queue.Queue[Chunk | None] = queue.Queue(_QUEUE_LENGTH)
        self._thread: threading.Thread | None = threading.Thread(
            target=self._work, name=f"trace {self.path.name}", daemon=True
        )
        self._thread.start()

    def write(self, batch: TensorDictBase, alive: Tensor | None = None) -> None:
        """Append a rollout; waits only while two earlier ones are still to be written.

        Args:
            batch: [..., T], time last; the other dimensions, flattened, are the lanes. Read are
                ``bar``, ``fills``, ``terminated`` and ``truncated`` of ``next``, the four heads of
                ``action`` and, where there are any, their log-probabilities and ``state_value``.
                All is copied before this returns.
            alive: bool [..., T], the rows to keep; None: all.

        Raises:
            KeyError: if a key is missing.
            ValueError: if the number of lanes changed, a lane to keep does not exist, or the trace
                is closed.
        """
        self._raise_failure()
        if self._thread is None:
            raise ValueError(f"{self.path}: the trace is closed")
        num_lanes = batch.batch_size[:-1].numel()
        if self._num_lanes is None:
            self._num_lanes = num_lanes
            for lane in self._lanes or ():
                require(0 <= lane < num_lanes, "lanes", lane, f"from 0 to {num_lanes - 1}")
        if num_lanes != self._num_lanes:
            raise ValueError(f"{self.path}: a batch of {num_lanes} lanes after {self._num_lanes}")
        self._queue.put(Chunk.copy(batch, self._lanes, alive))
        self.rollouts += 1

    def mark(self, rollouts: int) -> TraceMark:
        """Where the file stood after so many rollouts, waiting until it does, and on the disk.

        Raises:
            KeyError: if that was too long ago.
            OSError: if rows could not be written.
        """
        with self._written:
            self._written.wait_for(lambda: self._failure or max(self._marks) >= rollouts)
            self._raise_failure()
            mark = self._marks[rollouts]
        self._file.sync()
        return mark

    def flush(self) -> None:
        """Wait until everything written so far is in the file."""
        self._queue.join()
        self._raise_failure()

    def close(self) -> None:
        """Write what is waiting and close the file; a second call does nothing."""
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join()
        self._thread = None
        self._raise_failure()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def _work(self) -> None:
        """The thread. After a failure it goes on emptying the queue: nobody waits forever."""
        while (chunk := self._queue.get()) is not None:
            with self._written:
                if self._failure is None:
                    try:
                        self._append(chunk)
                    except BaseException as error:
                        error.add_note(f"while writing {self.path}")
                        self._failure = error
                self._written.notify_all()
            self._queue.task_done()
        try:
            self._file.close()
        except BaseException as error:
            self._failure = self._failure or error

    def _append(self, chunk: Chunk) -> None:
        self._file.append(self._rows.table(chunk))
        number = max(self._marks) + 1
        self._marks[number] = TraceMark(self._file.size, self._rows.counters)
        self._marks.pop(number - _MARKS, None)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
