"""Returns over days, or shorter periods where days are few: what every test looks at.

A minute's return is mostly noise of prices and fills, and half a million of them pretend to be more
evidence than there is. Periods begin at whole multiples of their length, UTC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.judging.metrics import chained_equity

DAY_S = 86_400.0
YEAR_S = 365.0 * DAY_S  # a market that never closes
# A day, then shorter periods, down to five minutes.
PERIODS_S = tuple(60.0 * minutes for minutes in (1440, 720, 480, 360, 240, 180, 120, 60, 30, 15, 5))
ENOUGH_PERIODS = 100
LEAST_BARS = 4  # in a period


@dataclass(frozen=True)
class PeriodReturns:
    """Simple returns of accounts over the same periods.

    Attributes:
        values: float64 [periods, accounts], a column an account, by the beginning of the period.
        period_s: length of a period in seconds; a hole in the data may leave less of it.
        bars: bars that the periods are made of.
        interval_s: length of a bar in seconds.
    """

    values: pd.DataFrame
    period_s: float
    bars: int
    interval_s: float

    @property
    def days(self) -> float:
        """Time that was played, holes left out."""
        return self.bars * self.interval_s / DAY_S

    @property
    def per_year(self) -> float:
        """Periods in a year of bars."""
        return len(self.values) * YEAR_S / (self.bars * self.interval_s)

    def of(self, name: str) -> np.ndarray:
        """Returns of one account, float64 [periods]."""
        return self.values[name].to_numpy()

    def require_finite(self, names: Sequence[str]) -> None:
        """Refuse what is no number: a test of it has a p-value all the same.

        Raises:
            ValueError: naming the first such account, the period and the value.
        """
        for name in names:
            bad = np.flatnonzero(~np.isfinite(self.of(name)))
            if len(bad):
                value, time = self.of(name)[bad[0]], self.values.index[bad[0]]
                raise ValueError(f"{name}: its return of {time}, {value}, is no finite number")


def growth_curve(
    rows: pd.DataFrame, initial_cash: float, times: pd.DatetimeIndex | None = None
) -> pd.Series:
    """Chained equity at each bar's close over the initial cash, by the bar's opening time.

    Args:
        rows: a trace from `pipelines.judging.metrics.in_order`.
        initial_cash: what every tile starts with.
        times: opening times of all bars that were played: where an account has no row, being
            ruined, it is what it was; None: those of the rows.
    """
    growth = chained_equity(rows, initial_cash).to_numpy() / initial_cash
    curve = pd.Series(growth, index=pd.DatetimeIndex(rows["timestamp"]))
    return curve if times is None else curve.reindex(times).ffill()


def aggregate(curves: Mapping[str, pd.Series], interval_s: float) -> PeriodReturns:
    """Returns over the longest periods of which there are enough.

    Days, if there are `ENOUGH_PERIODS` of them, else the longest of `PERIODS_S` that gives as many;
    if none does, the shortest that holds `LEAST_BARS`. Bars of over six hours stay as they are.

    Args:
        curves: growth of each account, by the bars' opening times; from `growth_curve`. An account
            without a row at a bar, being ruined, is what it was at its last.
        interval_s: length of a bar in seconds.

    Raises:
        ValueError: if there is no curve or no bar.
    """
    if not curves or not any(len(curve) for curve in curves.values()):
        raise ValueError("no bars were played: there are no returns to test")
    growth = (
        pd.concat(list(curves.values()), axis="columns", keys=list(curves), sort=True)
        .ffill()
        .fillna(1.0)
    )
    starts, period_s = _cut(pd.DatetimeIndex(growth.index), interval_s)
    closes = growth.groupby(starts).last()
    before = closes.shift(fill_value=1.0)
    # What is lost whole stays lost: 0 to 0 is no return.
    returns = (closes / before.where(before > 0.0, 1.0) - 1.0).where(before > 0.0, 0.0)
    return PeriodReturns(returns, period_s, len(growth), interval_s)


def _cut(times: pd.DatetimeIndex, interval_s: float) -> tuple[pd.DatetimeIndex, float]:
    """The period that each bar belongs to, and their length in seconds."""
    starts, period_s = times, interval_s
    for candidate_s in PERIODS_S:
        if candidate_s < LEAST_BARS * interval_s:
            break
        starts, period_s = times.floor(pd.Timedelta(seconds=candidate_s)), candidate_s
        if starts.nunique() >= ENOUGH_PERIODS:
            break
    return starts, period_s
