"""What held-out returns say of a policy: every number that the verdict looks at.

The rule is in ``docs/verdict.md``. Sharpe ratios are a year's, after costs.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipelines.judging.bootstrap import (
    DRAWS,
    Interval,
    block_length,
    draw_periods,
    redrawn_sharpes,
    sharpe_interval,
)
from pipelines.judging.interquartile import interquartile_mean, interval
from pipelines.judging.overfitting import BLOCKS, overfitting
from pipelines.judging.period_returns import PeriodReturns
from pipelines.judging.sharpe import (
    SharpeEstimate,
    beyond_tries,
    deviation,
)
from pipelines.judging.superior_ability import excess_returns, superior_ability

EDGE_LEVEL = 0.98
NO_EDGE_LEVEL = 0.95
_LEAST_PERIODS = 4  # under which there is no Sharpe ratio


@dataclass(frozen=True)
class Evidence:
    """What is judged, and what it is judged against.

    Attributes:
        returns: of all accounts over the same periods.
        seeds: columns of `returns` that are judged together, one a seed.
        baselines: columns of the accounts that need no learning.
        trades: of a seed, on average.
        trials: how many candidates the judged one was chosen from, itself included.
        earlier_openings: how often these bars had been looked at before.
        rivals: columns of other trials, where their returns are at hand.
    """

    returns: PeriodReturns
    seeds: Sequence[str]
    baselines: Sequence[str]
    trades: float
    trials: int = 1
    earlier_openings: int = 0
    rivals: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class Against:
    """The policy against one baseline.

    Attributes:
        baseline: its name.
        baseline_return_fraction: what it returned.
        p_value: of Hansen's test that the policy is not superior.
        sharpe: of what is left when the part that follows the baseline is taken out.
        sharpe_high: upper end of its one-sided 95 % interval.
        standard_error: of `sharpe`, as that of the policy's own.
        deflated: probability that `sharpe` is more than the luck of all tries.
    """

    baseline: str
    baseline_return_fraction: float
    p_value: float
    sharpe: float
    sharpe_high: float
    standard_error: float
    deflated: float

    def beyond(self, trials: int) -> "Against":
        """The same, chosen from so many tries."""
        return dataclasses.replace(
            self, deflated=_deflated(self.sharpe, self.standard_error, trials)
        )


@dataclass(frozen=True)
class Findings:
    """The numbers. Those of an account that never moved are 0, and 1 for a p-value.

    Attributes:
        days: played.
        periods: aggregated returns.
        period_hours: their length.
        trades: of a seed, on average.
        moved: whether the account did anything.
        total_return_fraction: of the account that holds an equal share of each seed.
        sharpe: its Sharpe ratio.
        sharpe_low: lower end of the ratio's one-sided 98 % interval.
        sharpe_high: upper end of its one-sided 95 % interval.
        standard_error: of the ratio, the larger of the formula's and the bootstrap's.
        block_periods: mean length of the bootstrap's blocks.
        probabilistic: probability that the true ratio is above 0.
        deflated: the same above what the best of `trials` tries has by luck.
        trials: candidates it was chosen from.
        earlier_openings: of these bars.
        against: the baselines.
        seed_sharpes: of each seed alone.
        seeds_sharpe: their interquartile mean.
        seeds_low: lower end of its 95 % interval over seeds.
        seeds_high: upper end.
        overfitting: probability of backtest overfitting among the trials at hand; None: too few
            trials or periods.
    """

    days: float
    periods: int
    period_hours: float
    trades: float
    moved: bool
    total_return_fraction: float
    sharpe: float
    sharpe_low: float
    sharpe_high: float
    standard_error: float
    block_periods: float
    probabilistic: float
    deflated: float
    trials: int
    earlier_openings: int
    against: list[Against]
    seed_sharpes: list[float]
    seeds_sharpe: float
    seeds_low: float
    seeds_high: float
    overfitting: float | None


def find(evidence: Evidence, *, draws: int = DRAWS, seed: int = 0) -> Findings:
    """Look at the evidence.

    Args:
        evidence: what is judged.
        draws: of the bootstrap.
        seed: of the draws; the same seed finds the same numbers.

    Raises:
        ValueError: if there is no seed or no baseline, or a return is no finite number.
    """
    if not evidence.seeds or not evidence.baselines:
        raise ValueError("a verdict needs the returns of at least one seed and one baseline")
    returns = evidence.returns
    returns.require_finite([*evidence.seeds, *evidence.baselines, *evidence.rivals])
    policy = returns.values[list(evidence.seeds)].mean(axis=1).to_numpy()
    sharpes = [annual_sharpe(returns.of(name), returns.per_year) for name in evidence.seeds]
    low, high = interval(sharpes)
    tested = _Tested.of(evidence, policy, draws, seed)
    return Findings(
        days=returns.days,
        periods=len(policy),
        period_hours=returns.period_s / 3600.0,
        trades=evidence.trades,
        moved=deviation(policy) > 0.0,
        total_return_fraction=float(np.prod(1.0 + policy) - 1.0),
        sharpe=tested.edge.estimate,
        sharpe_low=tested.edge.low,
        sharpe_high=tested.no_edge.high,
        standard_error=tested.standard_error,
        block_periods=tested.block,
        probabilistic=tested.probabilistic,
        deflated=tested.deflated,
        trials=evidence.trials,
        earlier_openings=evidence.earlier_openings,
        against=tested.against,
        seed_sharpes=sharpes,
        seeds_sharpe=interquartile_mean(sharpes),
        seeds_low=low,
        seeds_high=high,
        overfitting=_overfitting(evidence, policy),
    )


def recount(findings: Findings, trials: int) -> Findings:
    """The same findings of a candidate that was chosen from so many, when more have been tried.

    Args:
        findings: with any number of trials.
        trials: as the registry counts them now, its own included.
    """
    return dataclasses.replace(
        findings,
        trials=trials,
        deflated=_deflated(findings.sharpe, findings.standard_error, trials),
        against=[against.beyond(trials) for against in findings.against],
    )


def _deflated(sharpe: float, standard_error: float, trials: int) -> float:
    """Probability of more than the luck of so many tries; 0 for returns that do not vary."""
    return beyond_tries(sharpe / standard_error, trials) if standard_error > 0.0 else 0.0


@dataclass(frozen=True)
class _Tested:
    """What the bootstrap says of the policy's returns."""

    edge: Interval
    no_edge: Interval
    standard_error: float
    block: float
    probabilistic: float
    deflated: float
    against: list[Against]

    @classmethod
    def of(cls, evidence: Evidence, policy: np.ndarray, draws: int, seed: int) -> "_Tested":
        per_year = evidence.returns.per_year
        if len(policy) < _LEAST_PERIODS or deviation(policy) == 0.0:
            nothing = Interval(0.0, 0.0, 0.0, EDGE_LEVEL)
            against = [
                Against(name, _total(evidence.returns.of(name)), 1.0, 0.0, 0.0, 0.0, 0.0)
                for name in evidence.baselines
            ]
            return cls(nothing, nothing, 0.0, 1.0, 0.0, 0.0, against)
        block = block_length(policy)
        drawn = draw_periods(len(policy), block, draws=draws, seed=seed)
        redrawn = redrawn_sharpes(policy, drawn)
        edge = sharpe_interval(policy, redrawn, per_year, EDGE_LEVEL)
        error = _error(policy, redrawn) * math.sqrt(per_year)
        return cls(
            edge=edge,
            no_edge=sharpe_interval(policy, redrawn, per_year, NO_EDGE_LEVEL),
            standard_error=error,
            block=block,
            probabilistic=_deflated(edge.estimate, error, 1),
            deflated=_deflated(edge.estimate, error, evidence.trials),
            against=_compare(evidence, policy, block, drawn, seed),
        )


def _error(returns: np.ndarray, redrawn: np.ndarray) -> float:
    """The larger of the two standard errors of the Sharpe ratio of a period."""
    return max(SharpeEstimate.of(returns).standard_error, float(redrawn.std(ddof=1)))


def _compare(
    evidence: Evidence, policy: np.ndarray, block: float, drawn: np.ndarray, seed: int
) -> list[Against]:
    """The policy against every baseline."""
    per_year = evidence.returns.per_year
    tested: dict[bytes, Against] = {}  # most baselines leave the same excess

    def test(name: str, total: float, excess: np.ndarray) -> Against:
        redrawn = redrawn_sharpes(excess[:, 0], drawn)
        left = sharpe_interval(excess[:, 0], redrawn, per_year, NO_EDGE_LEVEL)
        p_value = superior_ability(excess, block, draws=len(drawn), seed=seed)
        error = 0.0
        if deviation(excess[:, 0]) > 0.0:
            error = _error(excess[:, 0], redrawn) * math.sqrt(per_year)
        deflated = _deflated(left.estimate, error, evidence.trials)
        return Against(name, total, p_value, left.estimate, left.high, error, deflated)

    def compare(name: str) -> Against:
        baseline = evidence.returns.of(name)
        excess = excess_returns(_candidates(evidence, policy), baseline)
        key, total = excess.tobytes(), _total(baseline)
        if key not in tested:
            tested[key] = test(name, total, excess)
        return dataclasses.replace(tested[key], baseline=name, baseline_return_fraction=total)

    return [compare(name) for name in evidence.baselines]


def _candidates(evidence: Evidence, policy: np.ndarray) -> np.ndarray:
    """Returns of the judged account and of its rivals, [periods, trials at hand]."""
    rivals = [evidence.returns.of(name) for name in evidence.rivals]
    return np.stack([policy, *rivals], axis=1)


def _overfitting(evidence: Evidence, policy: np.ndarray) -> float | None:
    if not evidence.rivals or len(policy) < 4 * BLOCKS:
        return None
    return overfitting(_candidates(evidence, policy)).probability


def annual_sharpe(returns: np.ndarray, per_year: float) -> float:
    """Mean over standard deviation, for a year; 0 for returns that do not vary."""
    spread = deviation(returns)
    return float(returns.mean()) / spread * math.sqrt(per_year) if spread > 0.0 else 0.0


def _total(returns: np.ndarray) -> float:
    return float(np.prod(1.0 + returns) - 1.0)
