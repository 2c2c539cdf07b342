"""The interquartile mean over seeds, and how far other seeds might have moved it.

Agarwal et al. 2021, Deep reinforcement learning at the edge of the statistical precipice, arXiv
2108.13264.
"""

from collections.abc import Sequence

import numpy as np


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half; a value that straddles its edge counts in part."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    edges = np.linspace(0.0, 1.0, len(ordered) + 1)
    inside = np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25)
    weight = np.clip(inside, 0.0, None)
    finite = np.where(weight > 0.0, ordered, 0.0)
    return float((weight * finite).sum() / weight.sum())


def interval(values: Sequence[float], draws: int = 2_000) -> tuple[float, float]:
    """95 % bootstrap interval of the interquartile mean; of a single value, that value twice.

    The same whatever the order of the values.
    """
    rng = np.random.Generator(np.random.PCG64(0))
    picked = rng.choice(np.sort(np.asarray(values, dtype=np.float64)), (draws, len(values)))
    means = np.sort([interquartile_mean(row) for row in picked])
    return float(means[int(0.025 * draws)]), float(means[int(0.975 * draws)])
