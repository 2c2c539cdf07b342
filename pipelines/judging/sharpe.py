"""The Sharpe ratio, how sure it is, and what is left of it after many tries.

Bailey and López de Prado 2012, The Sharpe ratio efficient frontier, Journal of Risk 15(2); 2014,
The deflated Sharpe ratio, Journal of Portfolio Management 40(5). All ratios here are of one period;
times the root of the periods in a year they are a year's.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

_NORMAL = NormalDist()
_EULER = 0.5772156649015329
# A spread of returns under this is rounding: equity is a float64.
ROUNDING = 1e-14


def deviation(returns: np.ndarray) -> float:
    """Standard deviation with n - 1, float64 [T] to a number; 0 where only rounding differs."""
    if len(returns) < 2 or np.ptp(returns) <= ROUNDING:
        return 0.0
    return float(returns.std(ddof=1))


@dataclass(frozen=True)
class SharpeEstimate:
    """A Sharpe ratio and what its error depends on.

    Attributes:
        ratio: mean over standard deviation, of a period.
        periods: how many returns it was estimated from.
        skewness: of the returns, 0 for a normal distribution.
        kurtosis: of the returns, 3 for a normal distribution.
    """

    ratio: float
    periods: float
    skewness: float = 0.0
    kurtosis: float = 3.0

    @classmethod
    def of(cls, returns: np.ndarray) -> "SharpeEstimate":
        """From returns, float64 [T]; skewness and kurtosis are the unbiased estimates.

        Raises:
            ValueError: for fewer than 4 returns, or returns that are all the same.
        """
        count, spread = len(returns), deviation(returns)
        if count < 4 or spread == 0.0:
            raise ValueError(f"no Sharpe ratio: {count} returns, standard deviation {spread:g}")
        z = (returns - returns.mean()) / returns.std()
        third, fourth = float((z**3).mean()), float((z**4).mean())
        skewness = third * math.sqrt(count * (count - 1)) / (count - 2)
        excess = (count + 1) * (fourth - 3.0) + 6.0
        kurtosis = 3.0 + excess * (count - 1) / ((count - 2) * (count - 3))
        return cls(float(returns.mean()) / spread, float(count), skewness, kurtosis)

    @property
    def standard_error(self) -> float:
        """``sqrt((1 - skewness * SR + (kurtosis - 1) / 4 * SR^2) / (periods - 1))``."""
        spread = 1.0 - self.skewness * self.ratio + (self.kurtosis - 1.0) / 4.0 * self.ratio**2
        # The true moments cannot make it negative, estimates of few returns can.
        return math.sqrt(max(spread, 1e-12) / (self.periods - 1.0))


def expected_maximum(trials: int) -> float:
    """About the mean of the largest of `trials` independent standard normals; 0 for one.

    ``(1 - g) * z(1 - 1/N) + g * z(1 - 1/(N e))``, ``g`` being Euler's constant and ``z`` the normal
    quantile: Bailey and López de Prado 2014, equation 1.

    Raises:
        ValueError: if `trials` is under 1.
    """
    if trials < 1:
        raise ValueError(f"trials={trials!r} is not allowed: a whole number, at least 1")
    if trials == 1:
        return 0.0
    quantile = _NORMAL.inv_cdf
    last = quantile(1.0 - 1.0 / (trials * math.e))
    return (1.0 - _EULER) * quantile(1.0 - 1.0 / trials) + _EULER * last


def beyond_tries(z: float, trials: int) -> float:
    """Probability that a true ratio is above what the best of `trials` tries has by luck.

    ``Phi(z - expected_maximum(trials))``: the deflated Sharpe ratio of Bailey and López de Prado
    2014 for tries that have no edge, whose ratios vary by one standard error. Of one try it is the
    probabilistic ratio of 2012.

    Args:
        z: the ratio over its standard error.
        trials: independent tries it was chosen from, itself included.
    """
    return _NORMAL.cdf(z - expected_maximum(trials))
