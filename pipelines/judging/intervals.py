"""How sure the figures of an account are: intervals from its returns drawn again in blocks."""

import math

import numpy as np

from pipelines.judging.bootstrap import (
    DRAWS,
    Interval,
    block_length,
    draw_periods,
    redrawn_sharpes,
    sharpe_interval,
)
from pipelines.judging.period_returns import PeriodReturns
from pipelines.judging.sharpe import deviation

LEVEL = 0.975  # at either end: what is called a 95 % interval
_LARGEST_LOSS = -0.999999  # of a period: what is more counts as this
_LEAST_PERIODS = 4


def intervals(returns: PeriodReturns, name: str) -> dict[str, Interval]:
    """95 % intervals of an account's figures, by the names of `pipelines.judging.performance`.

    ``cagr_fraction`` and ``sharpe`` have basic intervals, the first that of the mean log return;
    ``volatility_fraction`` and ``max_drawdown_fraction`` those between the quantiles of the redrawn
    histories. That of the drawdown says what the same returns could have done in another order.

    Args:
        returns: over periods. The figures are of these, not of the bars within them: a drawdown
            that a day has made good by its close is not seen.
        name: of the account.

    Returns:
        Nothing for fewer than 4 periods, or an account that never moved.
    """
    own = returns.of(name)
    if len(own) < _LEAST_PERIODS or deviation(own) == 0.0:
        return {}
    drawn = draw_periods(len(own), block_length(own), draws=DRAWS)
    logs = np.log1p(np.maximum(own, _LARGEST_LOSS))
    year = returns.per_year
    spreads = np.array([own[rows].std(ddof=1) for rows in drawn]) * math.sqrt(year)
    falls = np.array([_drawdown(logs[rows]) for rows in drawn])
    return {
        "cagr_fraction": _growth(logs, drawn, year),
        "volatility_fraction": _between(deviation(own) * math.sqrt(year), spreads),
        "sharpe": sharpe_interval(own, redrawn_sharpes(own, drawn), year, LEVEL),
        "max_drawdown_fraction": _between(_drawdown(logs), falls),
    }


def _growth(logs: np.ndarray, drawn: np.ndarray, per_year: float) -> Interval:
    """Basic, of the mean log return; as a year's growth, a fraction."""
    mean = float(logs.mean())
    low, high = np.quantile([logs[rows].mean() for rows in drawn], [1.0 - LEVEL, LEVEL])
    return Interval(
        _yearly(mean, per_year),
        _yearly(2.0 * mean - float(high), per_year),
        _yearly(2.0 * mean - float(low), per_year),
        LEVEL,
    )


def _yearly(log_return: float, per_year: float) -> float:
    """Growth of a year, at most what a float can hold."""
    return math.expm1(min(log_return * per_year, 700.0))


def _between(estimate: float, redrawn: np.ndarray) -> Interval:
    low, high = np.quantile(redrawn, [1.0 - LEVEL, LEVEL])
    return Interval(estimate, float(low), float(high), LEVEL)


def _drawdown(logs: np.ndarray) -> float:
    """Largest fall from an earlier peak, a fraction."""
    growth = logs.cumsum()
    peaks = np.maximum.accumulate(np.maximum(growth, 0.0))
    return float(max(0.0, -np.expm1((growth - peaks).min())))  # not -0.0
