"""The trace: one row a step and lane, enough to re-simulate a run with nothing but its price file.

`TraceWriter` takes whole rollouts and writes their rows on a thread of its own; `read_trace` gives
the rows back, every number bit for bit. The columns are those of ``docs/simulator.md``.
"""

import dataclasses
import json
import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from tensordict import TensorDictBase
from torch import Tensor

from envs.checks import require, require_cell
from envs.config import EnvConfig
from envs.table import BarTable
from envs.trace_files import open_trace_file
from envs.trace_rows import SCHEMA, Chunk, RowMaker, to_frame

COLUMNS: tuple[str, ...] = tuple(SCHEMA.names)
# Rollouts that may wait for the thread before `write` does.
_QUEUE_LENGTH = 2


class TraceWriter:
    """Appends rollouts to one trace file, away from the thread that trains.

    A CSV file holds whole lines at any time, also when the disk is full. A file of the same name is
    replaced. Beside it lies ``<stem>.json``: every parameter of the simulator, name and hash of the
    data file, the bar interval.

    Args:
        path: ``*.csv``, or ``*.parquet``, which is readable only once closed.
        table: the market that the rollouts point into.
        cfg: the simulator's parameters.
        run_id: the run's name, in every row.
        split: the split that was played, in every row.
        first_frame: ``env_frame`` of the first row.
        lanes: numbers of the lanes to keep, whole; None: all.

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
        first_frame: int = 0,
        lanes: Sequence[int] | None = None,
    ) -> None:
        self.path = Path(path)
        texts = {"run_id": run_id, "split": split, "asset": table.meta.asset}
        for name, text in texts.items():
            require_cell(name, text)
        self._lanes = None if lanes is None else sorted(set(lanes))
        self._num_lanes: int | None = None
        self._rows = RowMaker(table, cfg, texts, first_frame)
        self._file = open_trace_file(self.path, SCHEMA)
        about = _about(table, cfg) | texts | {"lanes": self._lanes}
        self.path.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
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
            if self._failure is None:
                try:
                    self._file.append(self._rows.table(chunk))
                except BaseException as error:
                    error.add_note(f"while writing {self.path}")
                    self._failure = error
            self._queue.task_done()
        try:
            self._file.close()
        except BaseException as error:
            self._failure = self._failure or error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def read_trace(path: str | Path) -> pd.DataFrame:
    """The rows of a trace file as `to_frame` has them; floats are the very ones that were written.

    Raises:
        ValueError: for a file without the columns of a trace.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        rows = pa.parquet.read_table(path)
    else:
        types = {field.name: field.type for field in SCHEMA}
        rows = pa.csv.read_csv(path, convert_options=pa.csv.ConvertOptions(column_types=types))
    if tuple(rows.column_names) != COLUMNS:
        missing = [name for name in COLUMNS if name not in rows.column_names]
        raise ValueError(f"{path}: not a trace, or not in order; columns missing: {missing}")
    return to_frame(rows)


def _about(table: BarTable, cfg: EnvConfig) -> dict[str, object]:
    """What a reader needs besides the rows."""
    return {
        "simulator": dataclasses.asdict(cfg),
        "data": {"file": table.meta.source_name, "sha256": table.meta.source_sha256},
        "interval_s": table.meta.interval_s,
    }
