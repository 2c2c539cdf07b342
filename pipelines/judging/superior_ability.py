"""Does a policy earn what its baseline does not? Hansen's test of superior predictive ability.

Hansen 2005, A test for superior predictive ability, Journal of Business & Economic Statistics
23(4), from the package arch. Its null hypothesis: no candidate is better than the benchmark.
"""

import numpy as np

from pipelines.judging.bootstrap import DRAWS
from pipelines.judging.sharpe import deviation


def excess_returns(returns: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """What is left of returns when the part that follows a baseline is taken out.

    ``returns - beta * baseline``, with ``beta`` by least squares, where both ``beta`` and the mean
    of the baseline are above 0. A baseline that lost explains no gain, and nobody can be short of
    one that pays costs: always-short is a baseline of its own.

    Args:
        returns: float64 [T, N].
        baseline: float64 [T].
    """
    around = baseline - baseline.mean()
    square = float(around @ around)
    if deviation(baseline) == 0.0:
        return returns
    beta = around @ (returns - returns.mean(0)) / square
    beta = np.where((beta > 0.0) & (baseline.mean() > 0.0), beta, 0.0)
    return returns - baseline[:, None] * beta


def superior_ability(
    excess: np.ndarray, block: float, *, draws: int = DRAWS, seed: int = 0
) -> float:
    """p-value of the first candidate's excess over its baseline, allowing for the choice of it.

    Hansen's consistent p-value with the candidate's own statistic in the place of the largest: the
    probability that, without any superiority, the best candidate would look as good as this one.
    Every excess is counted in its own standard deviation, since arch's statistic is not studentised
    (release 8.0). 1 if the candidate never moved, or its excess is not above 0: the statistic of
    the paper ends at 0, where every draw is as large, and arch's falls below it.

    Args:
        excess: float64 [T, N], of the candidate and of the others it was chosen from.
        block: mean length of a block.
        draws: of the stationary bootstrap.
        seed: of the draws.
    """
    spread = np.array([deviation(column) for column in excess.T])
    if spread[0] == 0.0 or excess[:, 0].mean() <= 0.0:
        return 1.0
    from arch.bootstrap import SPA  # loads for seconds

    scaled = excess[:, spread > 0.0] / spread[spread > 0.0]
    # A shift of a rival's mean leaves its distribution around that mean as it is.
    lead = np.maximum(scaled.mean(0) - scaled[:, 0].mean(), 0.0)
    # arch counts losses, and takes whole numbers or fractions for the length of a block.
    generator = np.random.Generator(np.random.PCG64(seed))
    test = SPA(np.zeros(len(excess)), lead - scaled, block_size=block, reps=draws, seed=generator)
    test.compute()
    # The share of draws that are larger; as large counts too, and so does what was seen.
    return (1.0 + draws * float(test.pvalues["consistent"])) / (1.0 + draws)
