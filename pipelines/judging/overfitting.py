"""Was choosing among the trials worth anything? The probability of backtest overfitting.

Bailey, Borwein, López de Prado and Zhu 2017, The probability of backtest overfitting, Journal of
Computational Finance 20(4): combinatorially symmetric cross-validation.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

BLOCKS = 16
_HALVES_AT_ONCE = 2_000  # bounds the memory
# A variance under this share of the mean square is rounding: the returns are all the same.
_FLAT = 1e-12


@dataclass(frozen=True)
class Overfitting:
    """What becomes of the best of one half of the time in the other half.

    Attributes:
        probability: share of the halves whose best trial is no better than the median in the rest.
        logits: float64 [halves], log(rank / (1 - rank)) of that trial in the rest, with a rank of 0
            for the worst and 1 for the best; 0 at the median, negative below.
    """

    probability: float
    logits: np.ndarray


def overfitting(returns: np.ndarray, blocks: int = BLOCKS) -> Overfitting:
    """Probability that the trial with the best Sharpe ratio is no better than the median elsewhere.

    Time is cut into `blocks` of equal length, a rest at its end is left out. Every half of the
    blocks is once what is chosen on, and its complement what the choice is tried on. A trial that
    did not move has a ratio of 0; equal trials share their ranks, and the first of them is chosen.

    Args:
        returns: float64 [T, N], of N trials over the same periods.
        blocks: an even number.

    Raises:
        ValueError: for fewer than two trials, fewer than two periods a block, an odd number of
            blocks, or returns that are not finite.
    """
    periods, trials = returns.shape
    length = periods // max(blocks, 1)
    if blocks % 2 or blocks < 2 or length < 2 or trials < 2:
        raise ValueError(
            f"{trials} trials over {periods} periods cannot be cut into {blocks} blocks: at least "
            "2 trials, an even number of blocks, and 2 periods in each are needed"
        )
    if not np.isfinite(returns).all():
        raise ValueError("returns of the trials are not finite")
    sums, squares = _block_sums(returns[: length * blocks], blocks)
    halves = np.array(list(combinations(range(blocks), blocks // 2)))
    ranks = np.concatenate(
        [
            _ranks(rows, sums, squares, length * blocks // 2)
            for rows in np.array_split(halves, 1 + len(halves) // _HALVES_AT_ONCE)
        ]
    )
    logits = np.log(ranks / (1.0 - ranks))
    return Overfitting(float((logits <= 0.0).mean()), logits)


def _block_sums(returns: np.ndarray, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of returns and of their squares in each block, both [blocks, N]."""
    cut = returns.reshape(blocks, -1, returns.shape[1])
    return cut.sum(1), (cut**2).sum(1)


def _ranks(halves: np.ndarray, sums: np.ndarray, squares: np.ndarray, count: int) -> np.ndarray:
    """Relative rank, in the other half, of the best trial of each half: float64 [halves].

    Args:
        halves: int64 [halves, blocks / 2], the blocks that are chosen on.
        sums: of the returns by block, [blocks, N].
        squares: of their squares.
        count: periods in a half.
    """
    chosen, square = sums[halves].sum(1), squares[halves].sum(1)
    best = _sharpes(chosen, square, count).argmax(1)
    tried = _sharpes(sums.sum(0) - chosen, squares.sum(0) - square, count)
    own = np.take_along_axis(tried, best[:, None], 1)
    # An average rank: those below count whole, equals, itself among them, half.
    rank = (tried < own).sum(1) + ((tried == own).sum(1) + 1) / 2.0
    return rank / (tried.shape[1] + 1)


def _sharpes(total: np.ndarray, square: np.ndarray, count: int) -> np.ndarray:
    """Sharpe ratios from sums over `count` returns and over their squares."""
    mean = total / count
    variance = (square / count - mean**2) * count / (count - 1)
    moves = variance > _FLAT * square / count
    return np.where(moves, mean / np.sqrt(np.where(moves, variance, 1.0)), 0.0)
