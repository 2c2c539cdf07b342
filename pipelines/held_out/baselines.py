"""What a policy must beat: accounts that need no learning, on the same bars at the same costs.

Flat, random and always-short are policies: callables that write ``action`` into the environment's
TensorDict. Buy-and-hold is not, since the environment's bracket would stop it out.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from envs.bar_table import BarTable
from envs.checks import require
from envs.config import BPS, EnvConfig
from envs.fills import Book, Grid, fill_price
from pipelines.held_out.rollout import Policy, Rollout, chain, final_equity, play_parts, play_tiles
from pipelines.judging.metrics import COLUMNS, Metrics, in_order, measure

# By the names that results have for them; the rule of the verdict holds a policy against these.
BASELINES = ("flat", "buy_and_hold", "random", "always_short")
SHORT, FLAT = 0, 1
RANDOM_ACCOUNTS = 32
# Random accounts that are played at a time, a bound on the memory.
_MAX_LANES = 2048


def measure_baselines(
    table: BarTable,
    cfg: EnvConfig,
    bounds: Tensor,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> tuple[dict[str, Metrics], tuple[float, float]]:
    """Results of flat, buy-and-hold, random and always-short over the same tiles.

    Random is the account of median return among `RANDOM_ACCOUNTS`.

    Args:
        table: the market.
        cfg: the simulator's parameters.
        bounds: int64 [tiles, 2], first and last bar of every tile.
        device: where the environment lives.
        seed: of the random accounts.

    Returns:
        Metrics by name, and the 5 % and 95 % quantiles of the random accounts' returns.
    """

    def metrics(rollout: Rollout) -> Metrics:
        return measure(in_order(rollout.rows(table, cfg)), cfg)

    def play(policy: Policy) -> Rollout:
        return play_tiles(table, cfg, bounds, policy, max_lanes=_MAX_LANES, device=device)

    random, interval = play_random(table, cfg, bounds, device=device, seed=seed)
    return {
        "flat": metrics(play(flat_policy(cfg))),
        "buy_and_hold": measure(in_order(buy_and_hold(table, cfg, bounds)), cfg),
        "random": metrics(random),
        "always_short": metrics(play(always_short_policy(cfg))),
    }, interval


def play_random(
    table: BarTable,
    cfg: EnvConfig,
    bounds: Tensor,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> tuple[Rollout, tuple[float, float]]:
    """The account of median return among `RANDOM_ACCOUNTS` that draw every action uniformly.

    All of them are played twice, some tiles at a time: for their returns, and for the steps of the
    one. The steps of all, of a year of minutes, would be gigabytes.

    Args:
        table: the market.
        cfg: the simulator's parameters.
        bounds: int64 [tiles, 2], first and last bar of every tile.
        device: where the environment lives.
        seed: of the actions.

    Returns:
        The account, and the 5 % and 95 % quantiles of all returns.
    """

    def play() -> Iterator[Rollout]:
        policy = RandomPolicy(cfg.num_actions, seed, device)
        return play_parts(
            table, cfg, bounds, policy, accounts=RANDOM_ACCOUNTS, max_lanes=_MAX_LANES,
            device=device,
        )  # fmt: skip

    final = torch.cat([final_equity(rollout) for rollout in play()])
    middle, interval = middle_account(chain(final, cfg.initial_cash).numpy())
    return Rollout.join([rollout.of(middle) for rollout in play()]), interval


def middle_account(returns: np.ndarray) -> tuple[int, tuple[float, float]]:
    """The account of median return, and the 5 % and 95 % quantiles of the returns [accounts]."""
    low, high = np.quantile(returns, [0.05, 0.95])
    return int(np.argsort(returns, kind="stable")[len(returns) // 2]), (float(low), float(high))


class ConstantPolicy:
    """The same action in every lane at every step.

    Args:
        action: index of each head.
    """

    def __init__(self, action: dict[str, int]) -> None:
        self.action = action

    def __call__(self, state: TensorDictBase) -> TensorDictBase:
        """Write the action into `state`."""
        shape, device = state.batch_size, state.device
        heads = {
            head: torch.full(shape, index, dtype=torch.int64, device=device)
            for head, index in self.action.items()
        }
        return state.set("action", TensorDict(heads, shape, device=device))


class RandomPolicy:
    """Every head drawn uniformly and independently, anew at every step.

    Args:
        num_actions: categories of each head.
        seed: of the generator.
        device: of the states it will see.
    """

    def __init__(
        self, num_actions: dict[str, int], seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self.num_actions = num_actions
        self.rng = torch.Generator(device=device).manual_seed(seed)

    def __call__(self, state: TensorDictBase) -> TensorDictBase:
        """Write an action into `state`."""
        shape, device = state.batch_size, self.rng.device
        heads = {
            head: torch.randint(count, shape, generator=self.rng, device=device)
            for head, count in self.num_actions.items()
        }
        return state.set("action", TensorDict(heads, shape, device=device))


def flat_policy(cfg: EnvConfig) -> ConstantPolicy:
    """Never hold anything."""
    return ConstantPolicy({**dict.fromkeys(cfg.num_actions, 0), "direction": FLAT})


def always_short_policy(cfg: EnvConfig) -> ConstantPolicy:
    """Short at every step: risk multiple 1, the widest stop, no take-profit.

    Where the buckets lack them, the nearest multiple and the furthest target stand in.
    """
    return ConstantPolicy({"direction": SHORT, **plain_order(cfg)})


def plain_order(cfg: EnvConfig) -> dict[str, int]:
    """Size and bracket that decide least: risk multiple 1, the widest stop, no take-profit.

    Where the buckets lack them, the nearest multiple and the furthest target stand in.

    Returns:
        Index of each head but the direction.
    """
    size = min(range(len(cfg.risk_multiples)), key=lambda i: abs(cfg.risk_multiples[i] - 1.0))
    targets = [target or float("inf") for target in cfg.take_profit_r]
    return {
        "size": size,
        "stop_loss": cfg.stop_steps - 1,
        "take_profit": targets.index(max(targets)),
    }


def buy_and_hold(table: BarTable, cfg: EnvConfig, bounds: Tensor) -> pd.DataFrame:
    """Rows of an account that buys and holds while there are bars.

    All cash is spent, at leverage 1, at the open of the first bar, and all is sold at the close of
    the last: both orders with slippage and the taker fee, rounded to tick and lot. Where tiles
    follow each other the position is kept; where bars are missing between two of them it is sold
    before and bought anew after. A policy cannot be held against what happened in a hole, in which
    nobody was asked: a market that fell there would make everyone else look wise. The account is
    spot: no bracket, no margin, no funding, no limit of `max_units` or `max_participation`.

    Args:
        table: the market.
        cfg: cash, costs, tick and lot.
        bounds: int64 [tiles, 2], first and last bar of every tile.

    Returns:
        The columns that `pipelines.judging.metrics` reads, one row a bar of the tiles; an episode
        is a stretch without a hole, which starts with the initial cash.

    Raises:
        ValueError: if the initial cash does not buy a lot.
    """
    held = [
        _hold(table, cfg, first, last).assign(episode=episode)
        for episode, (first, last) in enumerate(stretches(bounds))
    ]
    return pd.concat(held, ignore_index=True)


def stretches(bounds: Tensor) -> list[tuple[int, int]]:
    """First and last bar of every stretch of tiles that follow each other without a hole.

    Args:
        bounds: int64 [tiles, 2], in the order of time.
    """
    joined: list[tuple[int, int]] = []
    for first, last in bounds.tolist():
        if joined and joined[-1][1] == first:
            first = joined.pop()[0]
        joined.append((first, last))
    return joined


def _hold(table: BarTable, cfg: EnvConfig, first: int, last: int) -> pd.DataFrame:
    """Rows of one stretch: bought at its first open after bar `first`, sold at its last close."""
    bars = torch.arange(first + 1, last + 1)
    open_, close = table.ohlcv[bars[0], 0].cpu(), table.ohlcv[bars, 3].cpu()
    taker = torch.tensor(cfg.taker_fee_bps * BPS, dtype=torch.float64)
    cash = torch.tensor(cfg.initial_cash, dtype=torch.float64)
    bought, sold = _price(open_, 1.0, cfg), _price(close[-1], -1.0, cfg)
    units = Grid(cfg.lot_size).toward(cash / (bought * (1.0 + taker)), -1.0)
    require(bool(units > 0), "env.initial_cash", cfg.initial_cash, "enough to buy one lot")

    entry = Book.carried(cash, torch.zeros_like(cash))
    entry.fill(units, bought, open_, taker)
    exit_ = Book.carried(entry.cash, entry.position)
    exit_.fill(-units, sold, close[-1], taker)

    held = torch.full_like(close, float(units))
    held[-1] = exit_.position
    equity = entry.cash + entry.position * close
    equity[-1] = exit_.cash
    rows = _idle_rows(table, bars).assign(position=held.numpy(), equity=equity.numpy())
    begin, end = rows.index[0], rows.index[-1]
    rows.loc[begin, ["entry_units", "entry_fill_price"]] = [float(units), float(bought)]
    rows.loc[end, ["exit_units", "exit_price"]] = [-float(units), float(sold)]
    rows.loc[end, "exit_reason"] = "end"
    for row, book in ((begin, entry), (end, exit_)):
        rows.loc[row, "fee"] += float(book.fee)
        rows.loc[row, "slippage_cost"] += float(book.slippage_cost)
    return rows


def _price(reference: Tensor, side: float, cfg: EnvConfig) -> Tensor:
    """Fill price of a market order."""
    ticks = Grid(cfg.tick_size)
    return fill_price(reference, torch.tensor(side).double(), cfg.slippage_bps * BPS, ticks)


def _idle_rows(table: BarTable, bars: Tensor) -> pd.DataFrame:
    """Rows of one lane in which nothing happens: no fills, no costs, no position."""
    rows = pd.DataFrame(np.nan, index=range(len(bars)), columns=list(COLUMNS))
    rows = rows.assign(lane=0, episode=0, open_exit_reason="", exit_reason="", terminated=False)
    rows["timestamp"] = pd.to_datetime(table.timestamp[bars].cpu().numpy(), utc=True)
    rows["close"] = table.ohlcv[bars, 3].cpu().numpy()
    return rows.assign(fee=0.0, slippage_cost=0.0, funding=0.0, position=0.0)
