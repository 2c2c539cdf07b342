"""Figures of an account: what its equity did, and what its trades did.

Everything is annualised from the length of a bar, in a market that never closes. A figure that is
not defined, such as the Sharpe ratio of an account that never moved, is None.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from envs.config import EnvConfig
from pipelines.judging.metrics import completed_trades, measure
from pipelines.judging.period_returns import DAY_S, YEAR_S, growth_curve
from pipelines.judging.sharpe import deviation


@dataclass(frozen=True)
class EquityFigures:
    """Of a series of equity. Ratios are for a year, after costs and over a rate of zero."""

    total_return_fraction: float
    cagr_fraction: float | None  # a year's compound growth; None: more than a float can hold
    volatility_fraction: float  # standard deviation of a year's return
    sharpe: float | None  # mean over standard deviation
    sortino: float | None  # mean over the root of the mean square of the losses
    calmar: float | None  # CAGR over the largest drawdown
    max_drawdown_fraction: float
    longest_drawdown_days: float  # under an earlier peak, played time only
    bars: int
    days: float


@dataclass(frozen=True)
class TradeFigures:
    """Of positions opened and closed, and of what was held and paid. Money in quote currency.

    `gross_profit` is what the account would have earned on the same fills without fees, slippage
    and funding; the shares of it are None if it is not above 0.
    """

    trades: int
    hit_rate_fraction: float | None  # trades that earned after costs
    profit_factor: float | None  # earned by them over lost by the others; None: nothing was lost
    mean_holding_hours: float | None
    median_holding_hours: float | None
    exposure_fraction: float  # bars at whose close a position was held
    turnover: float  # notional of all fills, in multiples of the initial cash
    turnover_a_day: float
    gross_profit: float
    fees: float
    costs: float  # fees, slippage and funding
    fees_of_gross_fraction: float | None
    costs_of_gross_fraction: float | None


@dataclass(frozen=True)
class Performance:
    """Everything that is known of one account."""

    equity: EquityFigures
    trades: TradeFigures


def performance(
    rows: pd.DataFrame,
    cfg: EnvConfig,
    interval_s: float,
    times: pd.DatetimeIndex | None = None,
) -> Performance:
    """Figures of the account whose trace is `rows`.

    Args:
        rows: from `pipelines.judging.metrics.in_order`.
        cfg: the simulator's parameters.
        interval_s: length of a bar in seconds.
        times: opening times of all bars that were played, of which a ruined account lacks some;
            None: those of the rows.
    """
    curve = growth_curve(rows, cfg.initial_cash, times).to_numpy()
    trades = _trade_figures(rows, cfg, interval_s, bars=len(curve))
    return Performance(equity_figures(curve, interval_s), trades)


def equity_figures(growth: np.ndarray, interval_s: float) -> EquityFigures:
    """Figures of a series of equity.

    With ``r_t`` the simple returns, the first from 1, and ``P`` bars a year:
    ``sharpe = sqrt(P) * mean(r) / std(r)`` with n - 1 in the standard deviation,
    ``sortino = sqrt(P) * mean(r) / sqrt(mean(min(r, 0)^2))``, ``cagr = growth_T ^ (P / T) - 1``.

    Args:
        growth: equity at the close of each of T bars over the equity before the first, float64 [T].
        interval_s: length of a bar in seconds.

    Raises:
        ValueError: without a bar.
    """
    if len(growth) == 0:
        raise ValueError("no bars were played: there is nothing to measure")
    returns = bar_returns(growth)
    per_year = YEAR_S / interval_s
    mean, spread = float(returns.mean()), deviation(returns)
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    cagr = _compound(float(growth[-1]), per_year / len(growth))
    peaks = np.maximum.accumulate(np.concatenate([[1.0], growth]))[1:]
    drawdown = float((1.0 - growth / peaks).max())
    return EquityFigures(
        total_return_fraction=float(growth[-1] - 1.0),
        cagr_fraction=cagr,
        volatility_fraction=spread * math.sqrt(per_year),
        sharpe=_over(mean * math.sqrt(per_year), spread),
        sortino=_over(mean * math.sqrt(per_year), downside),
        calmar=None if cagr is None else _over(cagr, drawdown),
        max_drawdown_fraction=drawdown,
        longest_drawdown_days=_longest_run(growth < peaks) * interval_s / DAY_S,
        bars=len(growth),
        days=len(growth) * interval_s / DAY_S,
    )


def bar_returns(growth: np.ndarray) -> np.ndarray:
    """Simple returns from bar to bar, the first from 1; what is lost whole stays lost.

    Args:
        growth: at the close of every bar, float64 [T].
    """
    before = np.concatenate([[1.0], growth[:-1]])
    lost = before <= 0.0
    return np.where(lost, 0.0, growth / np.where(lost, 1.0, before) - 1.0)


def _compound(growth: float, times: float) -> float | None:
    try:
        return growth**times - 1.0
    except OverflowError:
        return None


def _over(value: float, by: float) -> float | None:
    """None for a ratio that is not defined, or is more than a float can hold."""
    ratio = value / by if by > 0.0 else math.inf
    return ratio if math.isfinite(ratio) else None


def _longest_run(flags: np.ndarray) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _trade_figures(
    rows: pd.DataFrame, cfg: EnvConfig, interval_s: float, bars: int
) -> TradeFigures:
    found, trades = measure(rows, cfg), completed_trades(rows, cfg)
    profit, hours = trades["profit"], trades["bars_held"] * interval_s / 3600.0
    some = len(trades) > 0
    costs = found.fees + found.slippage_cost + found.funding
    final = rows.groupby("tile")["equity"].last()
    gross = float((final - cfg.initial_cash).sum()) + costs
    return TradeFigures(
        trades=found.trades,
        hit_rate_fraction=found.hit_rate,
        profit_factor=_over(float(profit[profit > 0].sum()), -float(profit[profit < 0].sum())),
        mean_holding_hours=float(hours.mean()) if some else None,
        median_holding_hours=float(hours.median()) if some else None,
        exposure_fraction=found.exposure * found.bars / bars,
        turnover=found.turnover,
        turnover_a_day=found.turnover * DAY_S / (bars * interval_s),
        gross_profit=gross,
        fees=found.fees,
        costs=costs,
        fees_of_gross_fraction=_over(found.fees, gross),
        costs_of_gross_fraction=_over(costs, gross),
    )
