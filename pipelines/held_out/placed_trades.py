"""The trades of a policy placed at other times: dealt to other tiles, in another order there."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from envs.config import EnvConfig
from envs.ledger import HEADS
from pipelines.held_out.baselines import FLAT
from pipelines.held_out.technical_rules import held_side
from pipelines.judging.metrics import completed_trades

_NEVER = 2**62  # a bar that no tile comes to


@dataclass(frozen=True)
class Trades:
    """What a policy did, without the when. N trades in the order of their tiles.

    Attributes:
        tile: int64 [N], number of the tile, from 0.
        bars: int64 [N], bars that the trade was held in, a part of one counts as one.
        action: int64 [N, heads], the action that opened it.
    """

    tile: np.ndarray
    bars: np.ndarray
    action: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame, cfg: EnvConfig) -> "Trades":
        """The trades of a trace from `pipelines.judging.metrics.in_order`."""
        trades = completed_trades(rows, cfg).sort_values("entry_row")
        action = rows[list(HEADS)].to_numpy()[trades["entry_row"]]
        tile, bars = (trades[name].to_numpy(np.int64) for name in ("tile", "bars_held"))
        return cls(tile, bars, action.astype(np.int64).reshape(-1, len(HEADS)))

    def __len__(self) -> int:
        return len(self.tile)


class PlacedTradesPolicy:
    """Makes given trades at given bars.

    A trade that ends before its time, by its bracket, is not made again. One that directly follows
    another of the same side ends that one a bar sooner: else they would be one.

    Args:
        start: int64 [paths, accounts, n + 1], the bars on whose close the trades of an account are
            ordered, ascending; `_NEVER` after the last.
        number: int64, same shape, which trade that is.
        trades: the trades.
        device: where the states live.
    """

    def __init__(
        self, start: Tensor, number: Tensor, trades: Trades, device: torch.device | str = "cpu"
    ) -> None:
        self.start, self.number = start.to(device), number.to(device)
        self.bars = torch.tensor(trades.bars, device=device)
        self.action = torch.tensor(trades.action, device=device)
        self.at = torch.zeros_like(self.start[..., :1])  # the trade that comes next
        self.current = torch.zeros_like(self.at)
        self.until = torch.full_like(self.at, -1)  # the bar on whose close it is over

    def __call__(self, state: TensorDictBase) -> TensorDictBase:
        """Write the action into `state`; call it once for every bar of the tiles, in order."""
        bar = state["bar"]
        begins = self.start.gather(-1, self.at) == bar
        self.current = torch.where(begins, self.number.gather(-1, self.at), self.current)
        self.until = torch.where(begins, bar + self.bars[self.current], self.until)
        self.at = self.at + begins.long()
        action = self.action[self.current[..., 0]]
        side = action[..., 0] - FLAT
        makes_way = self.start.gather(-1, self.at) == bar + 1
        makes_way &= self.action[self.number.gather(-1, self.at), 0] == action[..., :1]
        goes_on = held_side(state)[..., None] * side[..., None] > 0
        wanted = begins | (goes_on & ~makes_way & (bar < self.until))
        heads = dict(zip(HEADS, action.unbind(-1), strict=True))
        heads[HEADS[0]] = torch.where(wanted[..., 0], heads[HEADS[0]], FLAT)
        shape = state.batch_size
        return state.set("action", TensorDict(heads, shape, device=state.device))


def place(
    trades: Trades,
    bounds: Tensor,
    tiles: np.ndarray,
    *,
    accounts: range,
    seed: int,
    device: torch.device | str = "cpu",
) -> PlacedTradesPolicy:
    """Deal what was done in each tile to the tiles of its length, and draw the times there.

    A tile that is alone of its length keeps its own trades.

    Args:
        trades: of all tiles.
        bounds: int64 [all tiles, 2].
        tiles: numbers of the tiles to act in.
        accounts: which of the seed's accounts live there.
        seed: of the dealing and of the times.
        device: where the policy will act.
    """
    own = _Padded.of(trades, len(bounds))
    length = (bounds[:, 1] - bounds[:, 0]).numpy()
    dealt = _deal(length, tiles, accounts.stop, seed)
    width = own.number.shape[1]
    start = np.full((len(tiles), len(accounts), width + 1), _NEVER)
    number = np.zeros_like(start)
    for i, tile in enumerate(tiles):
        # Of their own, so that how many accounts are drawn changes none of them.
        of_order, of_times = (np.random.default_rng([seed, int(tile), k]) for k in (0, 1))
        count = own.count[dealt[i]]
        order = _keyed(of_order.random((len(count), width)), count, width)
        chosen = np.take_along_axis(own.number[dealt[i]], order, axis=1)
        bars = np.take_along_axis(own.bars[dealt[i]], order, axis=1)
        begins = _begins(bars, count, int(length[tile]), of_times)
        begins = np.where(begins < _NEVER, begins + int(bounds[tile, 0]), _NEVER)
        start[i, :, :width] = begins[accounts.start :]
        number[i, :, :width] = chosen[accounts.start :]
    return PlacedTradesPolicy(torch.from_numpy(start), torch.from_numpy(number), trades, device)


@dataclass(frozen=True)
class _Padded:
    """Trades of each tile in a row: int64 [tiles, most of a tile], zeros after `count` [tiles]."""

    number: np.ndarray
    bars: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, trades: Trades, tiles: int) -> "_Padded":
        count = np.bincount(trades.tile, minlength=tiles)
        place = np.arange(len(trades)) - np.repeat(np.cumsum(count) - count, count)
        number = np.zeros((tiles, int(count.max(initial=0))), dtype=np.int64)
        bars = np.zeros_like(number)
        number[trades.tile, place] = np.arange(len(trades))
        bars[trades.tile, place] = trades.bars
        return cls(number, bars, count)


def _deal(length: np.ndarray, tiles: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Whose trades each of `tiles` gets: int64 [tiles, draws], numbers of tiles of its length."""
    dealt = np.empty((len(length), draws), dtype=np.int64)
    for bars in np.unique(length[tiles]):
        alike = np.flatnonzero(length == bars)
        rng = np.random.default_rng([seed, len(length), int(bars)])
        dealt[alike] = alike[rng.random((draws, len(alike))).argsort(axis=1)].T
    return dealt[tiles]


def _keyed(keys: np.ndarray, count: np.ndarray, first: int) -> np.ndarray:
    """Columns of the `first` smallest keys in each row, of which only `count` [rows] may count."""
    keys = np.where(np.arange(keys.shape[1]) < count[:, None], keys, np.inf)
    return keys.argsort(axis=1, kind="stable")[:, :first]


def _begins(
    bars: np.ndarray, count: np.ndarray, length: int, rng: np.random.Generator
) -> np.ndarray:
    """Steps at which trades begin within `length` steps: int64 [draws, n], `_NEVER` after `count`.

    Of the idle bars and the trades, in one row, the places of the trades are drawn: every way to
    spread the idle bars over the places between and beside the trades is equally likely.

    Args:
        bars: int64 [draws, n], of each trade in its order, 0 after `count` [draws].
        count: trades of each draw.
        length: steps of the tile.
        rng: of the places.
    """
    draws, width = bars.shape
    room = length - bars.sum(axis=1) + count
    drawn = np.zeros((draws, width), dtype=np.int64)  # a short tile may have fewer steps than that
    drawn[:, :length] = _keyed(rng.random((draws, length)), room, width)
    real = np.arange(width) < count[:, None]
    places = np.sort(np.where(real, drawn, length), axis=1)
    begins = places - np.arange(width) + np.cumsum(bars, axis=1) - bars
    return np.where(real, begins, _NEVER)
