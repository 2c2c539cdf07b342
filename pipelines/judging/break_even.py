"""At which costs a policy would have earned nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

COST_MULTIPLES = (0.0, 0.5, 1.0, 2.0, 4.0)
# What is more counts as this: of what is left beyond it a float64 has no digits.
_LARGEST_LOSS = -1.0 + 1e-14


@dataclass(frozen=True)
class BreakEven:
    """Where growth meets zero on a curve of results under multiples of the costs.

    Attributes:
        multiple: of the costs; the largest that was tried, if it earned there too, and 0 if it
            earned nothing without costs.
        cost_bps: the same of an order, per side.
        earns_beyond: the true figure is higher: it still earned at the largest multiple tried.
    """

    multiple: float
    cost_bps: float
    earns_beyond: bool

    @property
    def sentence(self) -> str:
        """What that means."""
        if self.multiple == 0.0:
            return "It does not earn even without costs."
        if self.cost_bps == 0.0:
            return "Its orders cost nothing here: what it earns at any costs, nobody has tried."
        if self.earns_beyond:
            return f"It still earns at {self.multiple:g} times the costs ({self.cost_bps:.3g} bps)."
        ate = "The costs eat what it earns" if self.multiple < 1.0 else "It earns after costs"
        at = f"{self.cost_bps:.3g} bps, {self.multiple:.3g} times the costs"
        return f"{ate}: break-even is at {at}."


def break_even(returns: Mapping[float, float], cost_bps: float) -> BreakEven:
    """The multiple of the costs at which log growth first meets zero, between those tried linearly.

    Args:
        returns: total return, a fraction, by the multiple of all costs that it was replayed under;
            `COST_MULTIPLES` are those of a report.
        cost_bps: what an order costs at multiple 1: fee and slippage of one side, in bps of the
            notional.

    Raises:
        ValueError: without a result at no costs and at another multiple, or for one that is
            negative.
    """
    tried = sorted(returns)
    if len(tried) < 2 or tried[0] != 0.0:
        raise ValueError(f"results under {tried} times the costs: 0 and one more are needed")
    growth = [math.log1p(max(returns[multiple], _LARGEST_LOSS)) for multiple in tried]
    if growth[0] <= 0.0:
        return BreakEven(0.0, 0.0, earns_beyond=False)
    for i in range(1, len(tried)):
        if growth[i] <= 0.0:
            share = growth[i - 1] / (growth[i - 1] - growth[i])
            multiple = tried[i - 1] + share * (tried[i] - tried[i - 1])
            return BreakEven(multiple, multiple * cost_bps, earns_beyond=False)
    return BreakEven(tried[-1], tried[-1] * cost_bps, earns_beyond=True)
