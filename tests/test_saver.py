"""The boundary that is held is what is written, once, however the training ends."""

import numpy as np
import pytest
import torch

from envs.bar_table import BarTable
from envs.trace import TraceMark
from pipelines import saver as saver_module
from pipelines.checkpoint import describe
from pipelines.checkpoint_store import CheckpointStore, load_newest
from pipelines.config import compose_config
from pipelines.non_finite_error import NonFiniteError
from pipelines.run_folder import list_checkpoints
from pipelines.saver import Saver, trace_mark, tracker_mark
from pipelines.snapshot import Snapshot
from pipelines.tracking.tracker import TrackerMark


class Tracker:
    """How far the logs have come; a full disk does not take them."""

    def __init__(self):
        self.mark, self.is_full, self.has_left = TrackerMark(0, 0, None), False, False

    def sync(self):
        """Onto the disk."""
        if self.is_full:
            raise OSError("no space left")

    def leave(self):
        """End them."""
        self.has_left = True


class Trace:
    """How far the rows have come."""

    rollouts = 0

    def mark(self, rollouts):
        """After so many rollouts."""
        return TraceMark(100 * rollouts, {"episode": np.array([rollouts, 7])})


@pytest.fixture(scope="module")
def about():
    table = BarTable.from_arrays(np.full((100, 5), 100.0))
    return describe(compose_config("ppo_transformer", ["model=tiny"]), table)


@pytest.fixture
def parts(tmp_path, about):
    """A saver, and the logs and the trace that it takes along."""
    tracker, trace = Tracker(), Trace()
    store = CheckpointStore(tmp_path / "checkpoints", about)
    return Saver(store, tracker, trace, every_s=0.0), tracker, trace


def boundary(iteration):
    weight = torch.full((2,), float(iteration))
    return Snapshot(iteration, {"model": {"weight": weight}}, {"iteration": iteration})


def reach(parts, iteration, **options):
    """Come to the end of an iteration."""
    saver, tracker, trace = parts
    tracker.mark, trace.rollouts = TrackerMark(8 * iteration, iteration, "id"), iteration
    saver.hold(boundary(iteration), **options)


def written(saver):
    return [int(path.name) for path in list_checkpoints(saver.store.folder)]


def test_the_last_boundary_is_written_once_with_logs_and_rows_as_they_were_then(parts):
    saver, tracker, trace = parts
    assert saver.save() is None
    reach(parts, 1)
    reach(parts, 2)
    tracker.mark, trace.rollouts = TrackerMark(17, 3, "id"), 3  # half an iteration further
    path = saver.save(score=0.25)
    assert written(saver) == [2]
    assert saver.save() is None
    checkpoint = load_newest(saver.store.folder)
    assert checkpoint.folder == path
    assert checkpoint.model["weight"].tolist() == [2.0, 2.0]
    assert (checkpoint.values["iteration"], checkpoint.values["score"]) == (2, 0.25)
    assert tracker_mark(checkpoint) == TrackerMark(16, 2, "id")
    mark = trace_mark(checkpoint)
    assert (mark.size, mark.counters["episode"].tolist()) == (200, [2, 7])
    reach(parts, 3)
    assert saver.save_and_tell() == f"checkpoint: {saver.store.folder / '000000003'}"
    assert written(saver) == [2, 3]


def test_what_came_from_the_disk_is_not_written_again(parts):
    saver, _, _ = parts
    reach(parts, 4, on_disk=True)
    assert saver.save_and_tell() is None
    reach(parts, 5)
    assert saver.save() is not None
    assert written(saver) == [5]


def test_without_a_trace_there_is_no_mark_of_one(parts):
    saver, tracker, _ = parts
    alone = Saver(saver.store, tracker, None, every_s=0.0)
    alone.hold(boundary(1))
    alone.save()
    assert trace_mark(load_newest(saver.store.folder)) is None


def test_a_checkpoint_is_due_so_many_seconds_after_the_one_before(parts, monkeypatch):
    saver, now = parts[0], [1_000.0]
    monkeypatch.setattr(saver_module.time, "monotonic", lambda: now[0])
    timed, hasty = (Saver(saver.store, *parts[1:], every_s=every_s) for every_s in (60.0, 0.0))
    due = []
    for second, iteration in ((1_059.0, 0), (1_060.0, 1), (1_119.0, 0), (1_120.0, 0)):
        now[0] = second
        due.append(timed.is_due)
        if iteration:
            timed.hold(boundary(iteration))
            timed.save()
    assert due == [False, True, False, True]
    assert hasty.is_due  # at every iteration


def test_a_training_that_fails_leaves_its_boundary_and_its_own_error(parts, tmp_path):
    saver, tracker, _ = parts
    reach(parts, 1)
    error = NonFiniteError("a reward", {"reward": torch.tensor([torch.nan])})
    with pytest.raises(NonFiniteError) as caught, saver.saved_on_error(tmp_path / "debug"):
        raise error
    (kept,) = (tmp_path / "debug").iterdir()
    assert caught.value.__notes__ == [
        f"the tensors around it: {kept}",
        f"checkpoint: {saver.store.folder / '000000001'}",
    ]
    reach(parts, 2)
    saver.save()
    reach(parts, 3)
    tracker.is_full = True
    with pytest.raises(KeyError) as caught, saver.saved_on_error(tmp_path / "debug"):
        raise KeyError("a fault")
    assert caught.value.__notes__ == [
        "and no checkpoint could be written: no space left",
        f"the newest one: {saver.store.folder / '000000002'}",
    ]
    tracker.is_full = False  # what could not be written is not taken for written
    assert saver.save() is not None
    assert written(saver) == [1, 2, 3]


def test_who_leaves_ends_the_logs_even_if_the_disk_takes_no_checkpoint(parts):
    saver, tracker, _ = parts
    reach(parts, 1)
    tracker.is_full = True
    with pytest.raises(OSError, match="no space"):
        saver.leave()
    assert tracker.has_left
    assert written(saver) == []
