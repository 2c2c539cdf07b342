"""Accounts that need no learning, on the bars of an evaluation: curves and figures."""

from dataclasses import dataclass

import pandas as pd

from pipelines.held_out.baselines import always_short_policy, buy_and_hold, flat_policy, play_random
from pipelines.held_out.candidate import Candidate
from pipelines.held_out.rollout import Policy, play_tiles, tile_times
from pipelines.held_out.technical_rules import RulePolicy, mean_reversion, momentum
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
        "momentum": RulePolicy(momentum, table, cfg),
        "mean_reversion": RulePolicy(mean_reversion, table, cfg),
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
