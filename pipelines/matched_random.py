"""Luck with the policy's own trades: each at another time of its tile, all else as it was.

A uniformly random account trades far more than any policy and dies of its costs, so that to beat it
says nothing. These accounts make the trades of the policy, side, size, bracket and length in bars,
in another order at other times of the same tile; what they lack is the policy's timing alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from envs.config import EnvConfig
from envs.ledger import HEADS, LEDGER
from envs.market import MarketEnv
from envs.table import BarTable
from pipelines.baselines import FLAT
from pipelines.metrics import completed_trades
from pipelines.rollout import Rollout, chain, evaluation_config, play_tiles
from pipelines.technical_rule import held_side

# Lanes that are played at a time, a bound on the memory.
_LANES = 65_536
_NEVER = 2**62  # a bar that no tile comes to
_CASH, _BARS_HELD = LEDGER.index("cash"), LEDGER.index("bars_held")


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
        """The trades of a trace from `pipelines.metrics.in_order`."""
        trades = completed_trades(rows, cfg).sort_values("entry_row")
        action = rows[list(HEADS)].to_numpy()[trades["entry_row"]]
        tile, bars = (trades[name].to_numpy(np.int64) for name in ("tile", "bars_held"))
        return cls(tile, bars, action.astype(np.int64).reshape(-1, len(HEADS)))

    def __len__(self) -> int:
        return len(self.tile)


@dataclass(frozen=True)
class Draws:
    """What the random accounts came to.

    Attributes:
        returns: float64 [draws], total return of each, chained over the tiles.
        trades: positions opened, mean of the accounts.
        exposure_fraction: of bars at whose close a position is held, mean of the accounts.
    """

    returns: np.ndarray
    trades: float
    exposure_fraction: float


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


def draw_accounts(
    table: BarTable,
    cfg: EnvConfig,
    bounds: Tensor,
    trades: Trades,
    *,
    draws: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Draws:
    """Play random accounts that make a policy's trades at other times.

    Args:
        table: the market.
        cfg: the simulator's parameters.
        bounds: int64 [tiles, 2], the tiles that the policy was played on, in the order of time.
        trades: what it did there.
        draws: accounts.
        seed: of the times; account ``k`` of a seed is the same however many are drawn with it.
        device: where the environment lives.
    """
    busy = np.unique(trades.tile)
    growth = torch.full((len(bounds), draws), cfg.initial_cash, dtype=torch.float64)
    opened, held = 0, 0
    for part in _chunks(busy, draws):
        policy = place(trades, bounds, part, accounts=range(draws), seed=seed, device=device)
        final, entries, bars = _play(table, cfg, bounds[part], policy, device)
        growth[part] = final
        opened, held = opened + entries, held + bars
    bars = int((bounds[:, 1] - bounds[:, 0]).sum())
    returns = chain(growth, cfg.initial_cash).numpy()
    return Draws(returns, opened / draws, held / draws / bars)


def play_account(
    table: BarTable,
    cfg: EnvConfig,
    bounds: Tensor,
    trades: Trades,
    *,
    account: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Rollout:
    """One of the accounts of `draw_accounts`, with everything that it does."""
    tiles, only = np.arange(len(bounds)), range(account, account + 1)
    policy = place(trades, bounds, tiles, accounts=only, seed=seed, device=device)
    return play_tiles(table, cfg, bounds, policy, max_lanes=len(bounds), device=device)


def place(
    trades: Trades,
    bounds: Tensor,
    tiles: np.ndarray,
    *,
    accounts: range,
    seed: int,
    device: torch.device | str = "cpu",
) -> PlacedTradesPolicy:
    """Draw times for the trades of some tiles: every order, and every split of the bars between.

    Args:
        trades: of all tiles.
        bounds: int64 [all tiles, 2].
        tiles: numbers of the tiles to place.
        accounts: which of the seed's accounts live there.
        seed: of the times.
        device: where the policy will act.
    """
    of_tile = [np.flatnonzero(trades.tile == tile) for tile in tiles]
    width = max((len(own) for own in of_tile), default=0) + 1
    start = np.full((len(tiles), len(accounts), width), _NEVER)
    number = np.zeros_like(start)
    for i, (tile, own) in enumerate(zip(tiles, of_tile, strict=True)):
        if not len(own):
            continue
        first, last = bounds[tile].tolist()
        order = own[_ranks(accounts.stop, len(own), [seed, int(tile), 0])]
        begins = first + _begins(trades.bars[order], last - first, [seed, int(tile), 1])
        start[i, :, : len(own)] = begins[accounts.start :]
        number[i, :, : len(own)] = order[accounts.start :]
    return PlacedTradesPolicy(torch.from_numpy(start), torch.from_numpy(number), trades, device)


def _ranks(draws: int, count: int, seed: list[int]) -> np.ndarray:
    """A random order in each row: int64 [draws, count]."""
    return np.random.default_rng(seed).random((draws, count)).argsort(axis=1)


def _begins(bars: np.ndarray, length: int, seed: list[int]) -> np.ndarray:
    """Steps at which trades of these lengths [draws, n] begin within `length` steps.

    Of the idle bars and the trades, in one row, the places of the trades are drawn: every way to
    spread the idle bars over the n + 1 places between and beside the trades is equally likely.
    """
    draws, count = bars.shape
    idle = length - int(bars[0].sum())
    places = np.sort(_ranks(draws, idle + count, seed)[:, :count], axis=1)
    return places - np.arange(count) + np.cumsum(bars, axis=1) - bars


def _chunks(tiles: np.ndarray, draws: int) -> Iterator[np.ndarray]:
    size = max(1, _LANES // draws)
    return (tiles[begin : begin + size] for begin in range(0, len(tiles), size))


@torch.no_grad()
def _play(
    table: BarTable,
    cfg: EnvConfig,
    bounds: Tensor,
    policy: PlacedTradesPolicy,
    device: torch.device | str,
) -> tuple[Tensor, int, int]:
    """Cash of every account at the end of every tile [tiles, draws]; entries; bars with a position.

    A tile ends flat, by its end or in ruin, and nothing of a step is kept but these numbers.
    """
    cfg = evaluation_config(cfg, len(bounds), policy.start.shape[1])
    env = MarketEnv(table, cfg, starts=bounds, record_fills=False, device=device)
    state = env.reset()
    final = torch.zeros(env.batch_size, dtype=torch.float64, device=device)
    alive = torch.ones_like(final, dtype=torch.bool)
    entries = held = torch.zeros((), dtype=torch.int64, device=device)
    for _ in range(int((bounds[:, 1] - bounds[:, 0]).max())):
        played, state = env.step_and_maybe_reset(policy(state))
        after = played["next"]
        done, ledger = after["done"][..., 0], after["ledger"]
        final = torch.where(alive & done, ledger[..., _CASH], final)
        opened = played["next", "head_used"][..., 1] & alive
        entries = entries + opened.sum()
        held = held + ((ledger[..., _BARS_HELD] > 0) & alive).sum()
        alive = alive & ~done
    return final.cpu(), int(entries), int(held)
