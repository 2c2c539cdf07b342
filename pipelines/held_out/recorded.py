"""The actions of a trace, played again on the bars: its accounts must come out, bit for bit.

A trace that does not give its own equity again was written by another simulator, on other bars, or
has been edited since.
"""

import copy
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tensordict import TensorDict
from torch import Tensor

from envs.bar_table import BarTable
from envs.checks import read_json
from envs.config import EnvConfig
from envs.ledger import FILLS, HEADS, REASONS
from envs.market import MarketEnv
from envs.trace_beside import path_beside, require_unchanged
from envs.trace_reader import read_trace
from envs.trace_schema import MARKET
from pipelines.held_out.baselines import FLAT

# Episodes that are played at a time, a bound on the memory.
_LANES = 2_048
_REASONS = ("open_exit_reason", "exit_reason")


@dataclass(frozen=True)
class Recording:
    """The episodes of a trace.

    Attributes:
        name: of the file.
        rows: of the trace, episode by episode, each in the order of its steps.
        cfg: the simulator's parameters that it was played under.
        bounds: int64 [episodes, 2], the bar that an episode's first action was chosen on, and the
            bar of its last row.
        length: int64 [episodes], rows of each.
    """

    name: str
    rows: pd.DataFrame
    cfg: EnvConfig
    bounds: Tensor
    length: np.ndarray

    @classmethod
    def read(cls, path: Path, table: BarTable) -> "Recording":
        """Read a trace and the JSON file beside it.

        Raises:
            FileNotFoundError: if one of them is missing.
            ValueError: if the file is no trace, or the bars are not the ones it was played on.
        """
        path.stat()  # of a name that is mistyped the trace is what a person knows
        about = read_json(path_beside(path))
        require_unchanged(path, about)
        known = about["data"]["sha256"]
        if known and table.meta.source_sha256 != known:
            raise ValueError(
                f"{path}: played on {about['data']['file']} with sha256 {known[:12]}..., and "
                f"{table.meta.source_name} has {table.meta.source_sha256[:12]}..."
            )
        cfg = EnvConfig(**{f.name: about["simulator"][f.name] for f in fields(EnvConfig)})
        rows = read_trace(path).sort_values(["lane", "episode", "step"], kind="stable")
        rows = rows.reset_index(drop=True)
        if rows.empty:
            raise ValueError(f"{path}: no rows: there is nothing to play again")
        begins = rows[["lane", "episode"]].diff().fillna(1).ne(0).any(axis=1).to_numpy()
        starts = np.flatnonzero(begins)
        late = rows["step"].to_numpy()[starts] != 0
        if late.any():
            row = rows.loc[starts[late][0]]
            raise ValueError(
                f"{path}: the first row of lane {row['lane']}, episode {row['episode']} is step "
                f"{row['step']}: an episode can only be played again from its step 0"
            )
        length = np.diff(np.append(starts, len(rows)))
        return cls(path.name, rows, cfg, _bounds(rows, starts, length, table, path), length)

    def actions(self, part: slice) -> dict[str, Tensor]:
        """The indices of each head, int64 [episodes, T]; flat after an episode's end."""
        length = self.length[part]
        first = int(self.length[: part.start].sum())
        episode = np.repeat(np.arange(len(length)), length)
        step = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        filled = {}
        for head in HEADS:
            filled[head] = np.full((len(length), length.max()), FLAT if head == HEADS[0] else 0)
            values = self.rows[head].to_numpy()[first : first + length.sum()]
            filled[head][episode, step] = values
        return {head: torch.from_numpy(values) for head, values in filled.items()}


def _bounds(
    rows: pd.DataFrame, starts: np.ndarray, length: np.ndarray, table: BarTable, path: Path
) -> Tensor:
    """Where the episodes lie in the table; one that was not truncated has bars to go."""
    times = rows["timestamp"].dt.as_unit("ns").astype("int64").to_numpy()
    bar, found = _find(times, rows["asset"].to_numpy(), table)
    if not found.all():
        row = rows.loc[int(np.argmin(found))]
        raise ValueError(
            f"{path}: lane {row['lane']}, episode {row['episode']}, step {row['step']} was played "
            f"in the bar of {row['timestamp']}, which {table.meta.source_name} does not have"
        )
    _require_prices(rows, table.ohlcv.numpy()[bar], path)
    ends = starts + length - 1
    open_ended = ~rows["truncated"].to_numpy()[ends]
    return torch.from_numpy(np.stack([bar[starts] - 1, bar[ends] + open_ended], -1))


def _require_prices(rows: pd.DataFrame, ohlcv: np.ndarray, path: Path) -> None:
    """Refuse a trace whose prices are not those of its bars.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, values in zip(MARKET, ohlcv.T, strict=True):
        same = rows[name].to_numpy() == values
        if not same.all():
            at = int(np.argmin(same))
            row = rows.loc[at]
            raise ValueError(
                f"{path}: lane {row['lane']}, episode {row['episode']}, step {row['step']} has "
                f"{name} = {row[name]!r}, the bar {values[at].item()!r}"
            )


def _find(times: np.ndarray, assets: np.ndarray, table: BarTable) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a table that open at `times`, of several markets those of the one that is named.

    Returns:
        int64 [rows] and bool [rows], whether there is such a bar.
    """
    bar, found = np.zeros_like(times), np.zeros(len(times), dtype=bool)
    several = table.meta.assets is not None
    spans = [part.rows for part in table.meta.assets or ()] or [(0, len(table))]
    for name, (first, end) in zip(table.asset_names, spans, strict=True):
        own = assets == name if several else np.ones(len(times), dtype=bool)
        known = table.timestamp[first:end].numpy()
        at = np.searchsorted(known, times[own])
        bar[own] = first + at
        found[own] = known[at.clip(max=len(known) - 1)] == times[own]
    return bar, found


@torch.no_grad()
def play_recording(recording: Recording, table: BarTable, cfg: EnvConfig) -> np.ndarray:
    """What the simulator makes of the recorded actions.

    Args:
        recording: the actions.
        table: the bars.
        cfg: the parameters; the recording's own, or others to see what these change.

    Returns:
        The columns of `envs.ledger.FILLS` for every row of the recording, float64 [rows, 20].
    """
    parts = []
    alone = copy.copy(cfg)  # costs may lie beyond the limits, which `replace` would check
    alone.accounts = 1
    for begin in range(0, len(recording.length), _LANES):
        part = slice(begin, begin + _LANES)
        actions, bounds = recording.actions(part), recording.bounds[part]
        env = MarketEnv(table, alone, starts=bounds)
        state, fills = env.reset(), []
        for step in range(next(iter(actions.values())).shape[1]):
            chosen = {head: values[:, step, None] for head, values in actions.items()}
            state["action"] = TensorDict(chosen, env.batch_size)
            played, state = env.step_and_maybe_reset(state)
            fills.append(played["next", "fills"][:, 0])
        length = torch.from_numpy(recording.length[part])
        alive = torch.arange(len(fills)) < length[:, None]
        parts.append(torch.stack(fills, 1)[alive].numpy())
    return np.concatenate(parts)


def first_difference(recording: Recording, fills: np.ndarray) -> str | None:
    """The first row whose numbers are not those of the simulator, in words; None if all are.

    Args:
        recording: the trace.
        fills: from `play_recording`.
    """
    for name, now in zip(FILLS, fills.T, strict=True):
        then = recording.rows[name]
        if name in _REASONS:
            then = then.map(REASONS.index).astype(float)
        same = (then.to_numpy() == now) | (then.isna().to_numpy() & np.isnan(now))
        if not same.all():
            at = int(np.argmin(same))
            row = recording.rows.loc[at]
            return (
                f"lane {row['lane']}, episode {row['episode']}, step {row['step']}: the trace has "
                f"{name} = {row[name]!r}, the simulator {now[at].item()!r}"
            )
    return None
