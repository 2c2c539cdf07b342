"""Every account that needs no learning, on the bars of an evaluation: curves and figures."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.held_out.baselines import always_short_policy, buy_and_hold, flat_policy, play_random
from pipelines.held_out.candidate import Candidate
from pipelines.held_out.foresight import foresight_growth
from pipelines.held_out.matched_random import draw_accounts, play_account
from pipelines.held_out.mean_reversion import MeanReversionPolicy
from pipelines.held_out.momentum import MomentumPolicy
from pipelines.held_out.placed_trades import Trades
from pipelines.held_out.played_seed import PlayedSeed
from pipelines.held_out.rollout import Policy, play_tiles, tile_times
from pipelines.judging.metrics import in_order
from pipelines.judging.performance import EquityFigures, TradeFigures, equity_figures, performance
from pipelines.judging.period_returns import growth_curve


@dataclass(frozen=True)
class Account:
    """One account: its growth at the close of every bar, and its figures.

    `trades` is None for an account that is a share of others.
    """

    curve: pd.Series
    equity: EquityFigures
    trades: TradeFigures | None


def play_baselines(candidate: Candidate) -> dict[str, Account]:
    """Flat, buy-and-hold, random, always-short, momentum and mean reversion.

    Random is the account of median return of those that draw every action uniformly, with the same
    seed for everybody: who may draw it anew can wait for a weak one to be held against.

    Args:
        candidate: bars and costs.
    """
    table, cfg, bounds = candidate.table, candidate.env, candidate.bounds
    rules: dict[str, Policy] = {
        "flat": flat_policy(cfg),
        "always_short": always_short_policy(cfg),
        "momentum": MomentumPolicy(table, cfg),
        "mean_reversion": MeanReversionPolicy(table, cfg),
    }
    found = {"buy_and_hold": _account(candidate, buy_and_hold(table, cfg, bounds))}
    random, _ = play_random(table, cfg, bounds, device=candidate.device, seed=0)
    found["random"] = _account(candidate, random.rows(table, cfg))
    for name, rule in rules.items():
        rollout = play_tiles(table, cfg, bounds, rule, max_lanes=2_048, device=candidate.device)
        found[name] = _account(candidate, rollout.rows(table, cfg))
    return found


def _account(candidate: Candidate, trace: pd.DataFrame) -> Account:
    rows, cfg, table = in_order(trace), candidate.env, candidate.table
    times = tile_times(table, candidate.bounds)
    figures = performance(rows, cfg, table.meta.interval_s, times)
    curve = growth_curve(rows, cfg.initial_cash, times)
    return Account(curve, figures.equity, figures.trades)


def share_account(candidate: Candidate, curve: pd.Series) -> Account:
    """An account of which there is a curve and no trades."""
    figures = equity_figures(curve.to_numpy(), candidate.table.meta.interval_s)
    return Account(curve, figures, None)


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
class Foresight:
    """More than anybody can win on these bars, knowing all of them: `pipelines.held_out.foresight`.

    Attributes:
        log_growth: the bound on the log of final over initial equity, over all tiles; None: more
            than a float can hold.
        policy_log_growth: the policy's; None if it lost everything.
        share_fraction: the latter over the former.
    """

    log_growth: float | None
    policy_log_growth: float | None
    share_fraction: float | None


def bound_foresight(candidate: Candidate, policy_growth: float) -> Foresight:
    """The policy's growth, a multiple of what it began with, beside the bound."""
    growth = foresight_growth(candidate.table, candidate.env, candidate.bounds)
    bound = float(np.log(growth).sum())
    own = float(np.log(policy_growth)) if policy_growth > 0.0 else None
    known = bool(np.isfinite(bound))
    share = own / bound if known and own is not None and bound > 0.0 else None
    return Foresight(bound if known else None, own, share)
