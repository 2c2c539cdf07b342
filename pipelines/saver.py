"""Keeps the last boundary between two iterations in memory, and writes it when it must last."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.trace import TraceMark, TraceWriter
from pipelines.checkpoint import Checkpoint
from pipelines.checkpoint_store import CheckpointStore
from pipelines.non_finite import keep_evidence
from pipelines.non_finite_error import NonFiniteError
from pipelines.run_folder import list_checkpoints
from pipelines.snapshot import Snapshot
from pipelines.tracking.tracker import Tracker, TrackerMark

_TRACE = "trace"


class Saver:
    """The checkpoints of a training: from its own loop, and from the thread that ends it.

    Args:
        store: where they go.
        tracker: whose logs go along.
        trace: likewise; None if there is none.
        every_s: seconds between two checkpoints on the disk; 0: one every iteration.
    """

    def __init__(
        self,
        store: CheckpointStore,
        tracker: Tracker,
        trace: TraceWriter | None,
        *,
        every_s: float,
    ) -> None:
        self.store, self.tracker, self.trace, self.every_s = store, tracker, trace, every_s
        self._lock = threading.Lock()
        self._held: tuple[Snapshot, TrackerMark, int] | None = None
        self._on_disk: int | None = None
        self._written_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether a checkpoint should be written now."""
        return time.monotonic() - self._written_at >= self.every_s

    def hold(self, snapshot: Snapshot, *, on_disk: bool = False) -> None:
        """Remember a boundary, after its rollout was handed to trace and logs.

        Args:
            snapshot: the training as it stands.
            on_disk: it came from a checkpoint of this run.
        """
        rollouts = 0 if self.trace is None else self.trace.rollouts
        self._held = (snapshot, self.tracker.mark, rollouts)
        if on_disk:
            self._on_disk = snapshot.iteration

    @contextmanager
    def saved_on_error(self, debug: Path) -> Iterator[None]:
        """Write the last boundary if the training fails; and what a `NonFiniteError` has to show.

        Args:
            debug: folder for the latter.
        """
        try:
            yield
        except Exception as error:
            # The error itself is what is to be told; a second one goes along with it.
            try:
                if isinstance(error, NonFiniteError):
                    error.add_note(f"the tensors around it: {keep_evidence(error, debug)}")
                if told := self.save_and_tell():
                    error.add_note(told)
            except Exception as second:
                error.add_note(f"and no checkpoint could be written: {second}")
                if there := list_checkpoints(self.store.folder):
                    error.add_note(f"the newest one: {there[-1]}")
            raise

    def save_and_tell(self) -> str | None:
        """Write the last boundary; what there is to say about it."""
        path = self.save()
        return None if path is None else f"checkpoint: {path}"

    def leave(self) -> str | None:
        """The same when the process ends at once, from whichever thread; the logs are ended too."""
        try:
            return self.save_and_tell()
        finally:
            self.tracker.leave()

    def save(self, score: float | None = None) -> Path | None:
        """Write the boundary that is held, unless the disk has it; its checkpoint.

        Args:
            score: how good the policy is on held-out bars, if that was measured.

        Raises:
            OSError: if the disk refuses, or has refused the rows before it.
        """
        with self._lock:
            if self._held is None or self._held[0].iteration == self._on_disk:
                return None
            snapshot, logs, rollouts = self._held
            tensors, values = dict(snapshot.tensors), dict(snapshot.values)
            if self.trace is not None:
                mark = self.trace.mark(rollouts)
                tensors[_TRACE] = {k: torch.from_numpy(v) for k, v in mark.counters.items()}
                values[_TRACE] = mark.size
            self.tracker.sync()
            values |= {"logs": logs._asdict(), "score": score}
            path = self.store.save(snapshot.iteration, tensors=tensors, values=values)
            self._on_disk = snapshot.iteration
            self._written_at = time.monotonic()
            return path


def tracker_mark(checkpoint: Checkpoint) -> TrackerMark:
    """Where the logs stood at a checkpoint."""
    return TrackerMark(**checkpoint.values["logs"])


def trace_mark(checkpoint: Checkpoint) -> TraceMark | None:
    """Where the trace stood at a checkpoint; None if there was none."""
    size: Any = checkpoint.values.get(_TRACE)
    if size is None:
        return None
    return TraceMark(size, {k: _as_array(v) for k, v in checkpoint.tensors[_TRACE].items()})


def _as_array(tensor: Tensor) -> np.ndarray:
    return tensor.numpy().copy()
