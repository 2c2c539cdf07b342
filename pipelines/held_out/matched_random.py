"""Luck with the policy's own trades: all that it did, at times that it did not choose.

A uniformly random account trades far more than any policy and dies of its costs, so that to beat it
says nothing. These accounts make the trades of the policy, side, size, bracket and length in bars.
What the policy did in one tile happens in another one, as long as it, in another order at other
times. To shuffle it within its own tile would be no luck: who buys after a fall would have bought
before that very fall.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import LEDGER
from envs.market import MarketEnv
from pipelines.held_out.baselines import flat_policy
from pipelines.held_out.candidate import Candidate
from pipelines.held_out.placed_trades import PlacedTradesPolicy, Trades, place
from pipelines.held_out.played_seed import PlayedSeed
from pipelines.held_out.rollout import Rollout, chain, evaluation_config, play_tiles, tile_times
from pipelines.judging.metrics import in_order
from pipelines.judging.period_returns import growth_curve

# Lanes that are played at a time, a bound on the memory.
_LANES = 65_536
_CASH, _BARS_HELD = LEDGER.index("cash"), LEDGER.index("bars_held")


@dataclass(frozen=True)
class MatchedRandom:
    """The policy among accounts that make its trades at other times.

    With several seeds an account is the mean of one for each seed, and so is the policy.

    Attributes:
        draws: accounts.
        policy_return_fraction: mean of the seeds' total returns.
        median_return_fraction: of the accounts.
        low_return_fraction: their 5 % quantile.
        high_return_fraction: their 95 % quantile.
        better_than_fraction: share of the accounts that the policy earned more than.
        p_value: (1 + accounts that earned as much or more) / (1 + draws): how often timing without
            any skill does as well.
        trades: positions opened by an account, mean, of a seed.
        policy_trades: by the policy, mean of the seeds.
        exposure_fraction: bars with a position, mean, of a seed.
        policy_exposure_fraction: of the policy, mean of the seeds.
    """

    draws: int
    policy_return_fraction: float
    median_return_fraction: float
    low_return_fraction: float
    high_return_fraction: float
    better_than_fraction: float
    p_value: float
    trades: float
    policy_trades: float
    exposure_fraction: float
    policy_exposure_fraction: float

    @property
    def sentence(self) -> str:
        """What that means."""
        return (
            "Its own trades at times that it did not choose earned less in "
            f"{100 * self.better_than_fraction:.1f} % of {self.draws:,} draws "
            f"(p {self.p_value:.3f})."
        )


def play_matched_random(
    candidate: Candidate, played: Mapping[str, PlayedSeed], draws: int, seed: int
) -> tuple[MatchedRandom, dict[str, pd.Series]]:
    """Play the trades of every seed at other times.

    Args:
        candidate: bars and costs.
        played: what each seed did.
        draws: accounts.
        seed: of the times.

    Returns:
        The policy among them, and the curves of the account of median return, one a seed.
    """
    table, cfg, bounds = candidate.table, candidate.env, candidate.bounds
    drawn = [
        draw_accounts(
            table, cfg, bounds, own.trades, draws=draws, seed=seed + i, device=candidate.device
        )
        for i, own in enumerate(played.values())
    ]
    figures = [own.performance for own in played.values()]
    returns = np.mean([found.returns for found in drawn], axis=0)
    policy = float(np.mean([own.equity.total_return_fraction for own in figures]))
    low, median, high = np.quantile(returns, [0.05, 0.5, 0.95])
    middle = int(np.argsort(returns, kind="stable")[draws // 2])
    matched = MatchedRandom(
        draws=draws,
        policy_return_fraction=policy,
        median_return_fraction=float(median),
        low_return_fraction=float(low),
        high_return_fraction=float(high),
        better_than_fraction=float((returns < policy).mean()),
        p_value=float((1 + (returns >= policy).sum()) / (1 + draws)),
        trades=float(np.mean([found.trades for found in drawn])),
        policy_trades=float(np.mean([own.trades.trades for own in figures])),
        exposure_fraction=float(np.mean([found.exposure_fraction for found in drawn])),
        policy_exposure_fraction=float(np.mean([own.trades.exposure_fraction for own in figures])),
    )
    curves = {
        name: _random_curve(candidate, own.trades, middle, seed + i)
        for i, (name, own) in enumerate(played.items())
    }
    return matched, curves


def _random_curve(candidate: Candidate, trades: Trades, account: int, seed: int) -> pd.Series:
    table, cfg, bounds = candidate.table, candidate.env, candidate.bounds
    if len(trades):
        rollout = play_account(
            table, cfg, bounds, trades, account=account, seed=seed, device=candidate.device
        )
    else:
        rollout = play_tiles(table, cfg, bounds, flat_policy(cfg), device=candidate.device)
    times = tile_times(table, bounds)
    return growth_curve(in_order(rollout.rows(table, cfg)), cfg.initial_cash, times)


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
    busy = _tiles_with_trades(trades, bounds)
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


def _tiles_with_trades(trades: Trades, bounds: Tensor) -> np.ndarray:
    """Tiles that trades may be dealt to."""
    length = (bounds[:, 1] - bounds[:, 0]).numpy()
    return np.flatnonzero(np.isin(length, length[trades.tile]))


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
