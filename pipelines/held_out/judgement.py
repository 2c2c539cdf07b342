"""From a candidate whose bars are opened to its verdict: all is played, measured and judged."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.held_out.baselines import BASELINES, buy_and_hold
from pipelines.held_out.candidate import SPLIT, Candidate
from pipelines.held_out.cost_curve import order_cost_bps
from pipelines.held_out.doubts import (
    coarse_tick,
    coverage,
    other_bars,
    other_markets,
    run_notes,
    uncounted,
)
from pipelines.held_out.evaluate_config import DRAWS
from pipelines.held_out.evaluation import Costs, Evaluation, SeedResult
from pipelines.held_out.foresight import bound_foresight
from pipelines.held_out.held_out_baselines import Account, play_baselines, share_account
from pipelines.held_out.joined_account import join
from pipelines.held_out.matched_random import play_matched_random
from pipelines.held_out.opened_bars import Opened
from pipelines.held_out.played_seed import PlayedSeed, curves_at_costs, name_traces, play_seed
from pipelines.held_out.result import POLICY, Replayed
from pipelines.held_out.risk_matched import risk_matched
from pipelines.judging.bootstrap import Interval
from pipelines.judging.break_even import COST_MULTIPLES, break_even
from pipelines.judging.findings import Evidence, Findings, annual_sharpe, find
from pipelines.judging.intervals import intervals
from pipelines.judging.metrics import in_order
from pipelines.judging.participation import participation
from pipelines.judging.period_returns import PeriodReturns, aggregate, growth_curve
from pipelines.judging.verdict import judge
from pipelines.source import git_revision


@dataclass(frozen=True)
class Settings:
    """How to judge.

    Attributes:
        draws: random accounts with the policy's own trades.
        seed: of these. The bootstrap has a fixed one: who may draw it anew draws until it fits.
        rivals: folders of evaluations of other candidates on the same bars.
    """

    draws: int = DRAWS
    seed: int = 0
    rivals: tuple[str, ...] = ()


def judge_candidate(
    candidate: Candidate, opened: Opened, folder: Path, settings: Settings
) -> Evaluation:
    """Play everything over the held-out bars, and judge.

    Args:
        candidate: what is judged.
        opened: proof that the look is written down.
        folder: for the traces; it must exist.
        settings: how to judge.
    """
    traces = name_traces(candidate)
    played = {
        name: play_seed(parts, [folder / file for file in traces[name]])
        for name, parts in candidate.seeds.items()
    }
    seeds = {name: seed.curve for name, seed in played.items()}
    matched, random = play_matched_random(candidate, played, settings.draws, settings.seed)
    accounts = play_baselines(candidate)
    # Curves of everything, over the same periods; shares in several seeds are made of these.
    fixed = {name: account.curve for name, account in accounts.items()}
    returns = aggregate({**seeds, **fixed}, candidate.table.meta.interval_s)
    policy = join(seeds, returns)
    chance = join(random, returns)
    matched_hold, share = risk_matched(fixed["buy_and_hold"], policy)
    shares = {"matched_random": chance, "risk_matched_hold": matched_hold}
    everyone = {
        POLICY: _policy_account(candidate, policy, played),
        **{name: accounts[name] for name in BASELINES},
        **{name: share_account(candidate, curve) for name, curve in shares.items()},
        **{name: accounts[name] for name in ("momentum", "mean_reversion")},
    }
    returns = aggregate({**seeds, **fixed, **shares}, candidate.table.meta.interval_s)
    findings = find(_evidence(returns, played, opened))
    costs = _costs(candidate, played)
    fills = participation(pd.concat([seed.fills for seed in played.values()]))
    notes = [*run_notes(candidate), *coverage(candidate, findings.sharpe)]
    notes += [*other_markets(candidate), *other_bars(opened.looks)]
    notes += uncounted(at_home=opened.at_home, begun=opened.looks.begun, beside=opened.beside)
    notes += [costs.break_even.sentence, matched.sentence] if findings.moved else []
    notes += coarse_tick(candidate) if findings.moved else []
    notes += [fills.sentence] if fills.flagged else []
    return Evaluation(
        verdict=judge(findings, notes),
        bars=_describe_bars(candidate),
        accounts=everyone,
        seeds=_seed_results(candidate, played, findings),
        folds=_fold_table(candidate, played),
        costs=costs,
        participation=fills,
        random=matched,
        risk_share=share,
        foresight=bound_foresight(candidate, float(policy.iloc[-1])),
        looks=opened.looks,
        receipt=opened.receipt,
        registry=os.path.relpath(opened.registry, folder),
        about=_about(candidate, settings),
        returns=returns,
        sharpes=_sharpes(returns, list(played), list(everyone)),
        intervals=_intervals(returns, list(played)),
    )


def _sharpes(returns: PeriodReturns, seeds: list[str], names: list[str]) -> dict[str, float]:
    """Of every account over the periods that were tested, for a year."""
    values = returns.values
    policy = values[seeds].mean(axis=1)
    columns = {name: policy if name == POLICY else values[name] for name in names}
    return {
        name: annual_sharpe(column.to_numpy(), returns.per_year) for name, column in columns.items()
    }


def _intervals(returns: PeriodReturns, seeds: list[str]) -> dict[str, Interval]:
    """Of the account that holds an equal share of each seed."""
    judged = returns.values[seeds].mean(axis=1).to_frame(POLICY)
    return intervals(dataclasses.replace(returns, values=judged), POLICY)


def _policy_account(
    candidate: Candidate, curve: pd.Series, played: Mapping[str, PlayedSeed]
) -> Account:
    account = share_account(candidate, curve)
    if len(played) > 1:
        return account
    (only,) = played.values()
    return dataclasses.replace(account, trades=only.performance.trades)


def _evidence(returns: PeriodReturns, played: Mapping[str, PlayedSeed], opened: Opened) -> Evidence:
    """What the rule of ``docs/verdict.md`` looks at."""
    values = returns.values.assign(**opened.rivals)
    rivals = tuple(opened.rivals)
    return Evidence(
        dataclasses.replace(returns, values=values),
        seeds=list(played),
        baselines=list(BASELINES),
        trades=float(np.mean([seed.performance.trades.trades for seed in played.values()])),
        trials=max(opened.looks.trials, 1 + len(rivals)),
        earlier_openings=opened.looks.earlier,
        rivals=rivals,
    )


def _costs(candidate: Candidate, played: Mapping[str, PlayedSeed]) -> Costs:
    """The judged account under multiples of the costs."""
    curves = {name: curves_at_costs(candidate.seeds[name], seed) for name, seed in played.items()}
    totals = {}
    for multiple in COST_MULTIPLES:
        own = {name: at[multiple] for name, at in curves.items()}
        joint = join(own, aggregate(own, candidate.table.meta.interval_s))
        totals[multiple] = float(joint.iloc[-1] - 1.0)
    bps = order_cost_bps(candidate.env)
    return Costs(totals, bps, break_even(totals, bps))


def _describe_bars(candidate: Candidate) -> Replayed:
    hold = in_order(buy_and_hold(candidate.table, candidate.env, candidate.bounds))
    return Replayed.describe(
        hold, candidate.table.meta, run=candidate.name, split=SPLIT, tiles=len(candidate.bounds)
    )


def _seed_results(
    candidate: Candidate, played: Mapping[str, PlayedSeed], findings: Findings
) -> list[SeedResult]:
    return [
        SeedResult(
            name=name,
            runs=[part.run.name for part in candidate.seeds[name]],
            checkpoints=[
                {"iteration": part.checkpoint.name, "sha256": part.checkpoint_sha256}
                for part in candidate.seeds[name]
            ],
            performance=seed.performance,
            sharpe=sharpe,
            traces=[path.name for path in seed.traces],
        )
        for (name, seed), sharpe in zip(played.items(), findings.seed_sharpes, strict=True)
    ]


def _fold_table(candidate: Candidate, played: Mapping[str, PlayedSeed]) -> list[dict[str, Any]]:
    cash = candidate.env.initial_cash
    return [
        fold
        | {
            "returns": {name: seed.part_returns[i] for name, seed in played.items()},
            "buy_and_hold": float(
                growth_curve(in_order(buy_and_hold(part.table, part.cfg, part.bounds)), cash).iloc[
                    -1
                ]
                - 1.0
            ),
        }
        for i, (fold, part) in enumerate(zip(candidate.folds, candidate.parts, strict=False))
    ]


def _about(candidate: Candidate, settings: Settings) -> dict[str, Any]:
    part = candidate.parts[0]
    return {
        "name": candidate.name,
        "config": dataclasses.asdict(part.trained),
        "config_sha256": candidate.config_sha256,
        "checkpoint_sha256": candidate.checkpoint_sha256,
        "settings": dataclasses.asdict(settings),
        "git_revision": git_revision(),
        "cost_multiples": list(COST_MULTIPLES),
    }
