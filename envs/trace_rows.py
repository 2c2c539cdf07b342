"""From a rollout to the rows of its trace: columns, their types, and where each comes from.

A rollout is a TensorDict [..., T] with time last; its other dimensions, flattened, are the lanes.
Rows are sorted by time, then by lane.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from tensordict import TensorDictBase
from torch import Tensor

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS, HEADS, REASONS
from envs.trace_schema import MARKET, MEANINGS, REASON_COLUMNS, SCHEMA, action_values


@dataclass(frozen=True)
class Chunk:
    """What the trace needs of one rollout, copied off any device: arrays [kept lanes, T, ...]."""

    num_lanes: int  # of the whole rollout
    lane: np.ndarray  # int64 [kept lanes], numbers within the whole rollout
    next_bar: np.ndarray  # int64, pointer to the bar in which the action executed
    fills: np.ndarray  # float64 [..., len(FILLS)]
    terminated: np.ndarray
    truncated: np.ndarray
    actions: dict[str, np.ndarray]  # int64 indices, by head
    log_prob: np.ndarray | None
    state_value: np.ndarray | None
    alive: np.ndarray  # bool, the rows to keep

    @classmethod
    def copy(cls, batch: TensorDictBase, kept: list[int] | None, alive: Tensor | None) -> "Chunk":
        """Copy the lanes `kept` (None: all) of a rollout, so that its buffers may be reused.

        Raises:
            KeyError: if the rollout lacks a key.
        """
        num_lanes, steps = batch.batch_size[:-1].numel(), batch.batch_size[-1]
        lane = torch.arange(num_lanes) if kept is None else torch.tensor(kept, dtype=torch.int64)

        def array(tensor: Tensor, *last: int) -> np.ndarray:
            rows = tensor.detach().reshape(num_lanes, steps, *last)
            rows = rows if kept is None else rows[lane.to(rows.device)]
            return rows.to("cpu", copy=True).numpy()

        following = batch.get("next")
        value = batch.get("state_value", None)
        log_prob = _joint_log_prob(batch)
        everything = torch.ones(num_lanes, steps, dtype=torch.bool)
        return cls(
            num_lanes=num_lanes,
            lane=lane.numpy(),
            next_bar=array(_get(following, "bar")),
            fills=array(_get(following, "fills"), len(FILLS)),
            terminated=array(_get(following, "terminated")),
            truncated=array(_get(following, "truncated")),
            actions={head: array(_get(batch.get("action"), head)) for head in HEADS},
            log_prob=None if log_prob is None else array(log_prob),
            state_value=None if value is None else array(value),
            alive=array(everything if alive is None else alive),
        )


class RowMaker:
    """Turns chunks into Arrow tables and counts frames, episodes and steps across them.

    Args:
        table: the market that pointers point into.
        cfg: the meaning of the actions.
        texts: ``run_id``, ``split`` and ``asset``, the same in every row; of a table of several
            markets, a row has the name of its own.
    """

    def __init__(self, table: BarTable, cfg: EnvConfig, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._timestamp = table.timestamp.cpu().numpy()
        self._ohlcv = table.ohlcv.cpu().numpy()
        parts = table.meta.assets or []
        self._asset_names = [part.asset for part in parts]
        self._asset_ends = np.array([part.rows[1] for part in parts])
        self._meanings = [np.array(values) for values in action_values(cfg).values()]
        self._next_frame = 0
        self._episode: np.ndarray | None = None
        self._step: np.ndarray | None = None

    @property
    def counters(self) -> dict[str, np.ndarray]:
        """Where the counting stands, int64 arrays by name; `resume` takes it."""
        arrays = {"next_frame": np.array([self._next_frame])}
        if self._episode is not None and self._step is not None:
            arrays |= {"episode": self._episode, "step": self._step}
        return arrays

    def resume(self, counters: Mapping[str, np.ndarray]) -> None:
        """Go on counting where another one stood."""
        self._next_frame = int(counters["next_frame"][0])
        self._episode, self._step = counters.get("episode"), counters.get("step")

    def table(self, chunk: Chunk) -> pa.Table:
        """The rows of a chunk, with the columns of `SCHEMA`."""
        keep = chunk.alive.T.reshape(-1)
        columns: dict[str, pa.Array] = {}

        def add(name: str, values: np.ndarray) -> None:
            """A column from values [T, kept lanes]; not a number becomes empty."""
            columns[name] = pa.array(values.reshape(-1)[keep], from_pandas=True)

        for name, values in self._counters(chunk).items():
            add(name, values)
        bar = chunk.next_bar.T
        columns["timestamp"] = pa.array(self._timestamp[bar].reshape(-1)[keep])
        for name, prices in zip(MARKET, np.moveaxis(self._ohlcv[bar], -1, 0), strict=True):
            add(name, prices)
        for head, index in chunk.actions.items():
            add(head, index.T)
        for name, head, meaning in zip(MEANINGS, HEADS, self._meanings, strict=True):
            add(name, meaning[chunk.actions[head].T])
        nothing = np.full(bar.shape, np.nan)
        add("log_prob", nothing if chunk.log_prob is None else chunk.log_prob.T)
        add("state_value", nothing if chunk.state_value is None else chunk.state_value.T)
        for name, values in zip(FILLS, chunk.fills.transpose(2, 1, 0), strict=True):
            if name in REASON_COLUMNS:
                columns[name] = _reasons(values.reshape(-1)[keep])
            else:
                add(name, values)
        add("terminated", chunk.terminated.T)
        add("truncated", chunk.truncated.T)
        rows = int(keep.sum())
        columns |= {name: pa.repeat(text, rows) for name, text in self._texts.items()}
        if self._asset_names:
            columns["asset"] = self._assets(bar.reshape(-1)[keep])
        return pa.table(
            [
                columns[name].cast(kind)
                for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True)
            ],
            schema=SCHEMA,
        )

    def _assets(self, bar: np.ndarray) -> pa.Array:
        """Names of the markets whose bars these are."""
        index = np.searchsorted(self._asset_ends, bar, side="right")
        return pa.array(self._asset_names).take(pa.array(index))

    def _counters(self, chunk: Chunk) -> dict[str, np.ndarray]:
        """Frame, lane, episode and step of every row, int64 [T, kept lanes].

        Frames count all lanes, kept or not. A lane's steps and episodes count its rows that are
        kept; the row after a terminated or truncated one is step 0 of the next episode.
        """
        lanes, steps = chunk.next_bar.shape
        if self._episode is None or self._step is None:
            self._episode = np.zeros(lanes, dtype=np.int64)
            self._step = np.zeros(lanes, dtype=np.int64)
        time = np.arange(steps)[:, None]
        frame = self._next_frame + time * chunk.num_lanes + chunk.lane
        alive = chunk.alive.T
        done = (chunk.terminated | chunk.truncated).T & alive
        # Rows before each row since the carried episode began, and the first such row of its own.
        before = self._step + np.cumsum(alive, axis=0) - alive
        first = np.zeros((steps + 1, lanes), dtype=np.int64)
        first[1:] = np.maximum.accumulate(np.where(done, before + 1, 0), axis=0)
        episode = self._episode + np.cumsum(done, axis=0) - done
        step = before - first[:-1]
        self._next_frame += steps * chunk.num_lanes
        self._episode = self._episode + done.sum(axis=0)
        self._step = self._step + alive.sum(axis=0) - first[-1]
        lane = np.broadcast_to(chunk.lane, frame.shape)
        return {"env_frame": frame, "lane": lane, "episode": episode, "step": step}


def _get(batch: TensorDictBase, key: str) -> Tensor:
    value = batch.get(key, None)
    if value is None:
        raise KeyError(f"the trace needs the key {key!r}; this rollout has {sorted(batch.keys())}")
    return value


def _joint_log_prob(batch: TensorDictBase) -> Tensor | None:
    """Log-probability of the whole action, float64; None if the rollout has none."""
    parts = [batch.get(("action", f"{head}_log_prob"), None) for head in HEADS]
    if any(part is None for part in parts):
        return None
    return torch.stack([part.double() for part in parts]).sum(0)


def _reasons(codes: np.ndarray) -> pa.Array:
    """Reason texts of codes that are indices into `REASONS`, or not a number: empty."""
    index = pa.array(np.nan_to_num(codes, nan=0.0).astype(np.int32))
    texts = pa.array([reason or None for reason in REASONS], type=pa.string())
    return texts.take(index)
