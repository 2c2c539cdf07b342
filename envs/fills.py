"""The one place where money moves, and the prices at which it does.

All functions are pure and elementwise over lanes, in float64.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

# A value within this fraction of a grid step lies on the grid; an exact touch of a price counts.
GRID_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Grid:
    """A price or size grid of width `step`.

    A step whose inverse is a whole number (0.1, 1e-8) is divided by that inverse, so that a grid
    value is the double nearest to its decimal, as a price file has it: 3 * 0.1 is not 0.3.
    """

    step: float
    # Steps in one unit if that is a whole number, else None.
    inverse: float | None = field(init=False)

    def __post_init__(self) -> None:
        inverse = round(1.0 / self.step)
        whole = inverse and math.isclose(inverse * self.step, 1.0, rel_tol=1e-9)
        object.__setattr__(self, "inverse", inverse if whole else None)

    def toward(self, value: Tensor, direction: Tensor | float) -> Tensor:
        """Round `value` to the grid: up where `direction` is +1, down where it is -1."""
        inverse = self.inverse
        count = value * inverse if inverse else value / self.step
        count = direction * torch.ceil(direction * count - GRID_TOLERANCE)
        return count / inverse if inverse else count * self.step


@dataclass
class Book:
    """Cash and position of every lane in the course of one bar, and what its fills cost.

    Shapes: all ``[paths, accounts]``, float64. `slippage_cost` is ``units * (price - reference)``
    summed over fills: positive when the fills were worse than their references.
    """

    cash: Tensor
    position: Tensor
    fee: Tensor
    slippage_cost: Tensor

    @classmethod
    def carried(cls, cash: Tensor, position: Tensor) -> "Book":
        """The book at the start of a bar."""
        return cls(cash, position, torch.zeros_like(cash), torch.zeros_like(cash))

    def fill(
        self, units: Tensor, price: Tensor, reference: Tensor, fee_rate: Tensor | float
    ) -> None:
        """Buy (`units` > 0) or sell (< 0) at `price`; every fill of the simulator comes here.

        Lanes with 0 units are left exactly as they are; their price must still be finite.
        """
        fee = units.abs() * price * fee_rate
        self.cash = self.cash - units * price - fee
        self.position = self.position + units
        self.fee = self.fee + fee
        self.slippage_cost = self.slippage_cost + units * (price - reference)


def fill_price(reference: Tensor, side: Tensor, slippage: float, grid: Grid) -> Tensor:
    """Price of a market order: `reference` moved against the account, then rounded against it.

    Args:
        reference: open or close, stop or liquidation price.
        side: +1 to buy, -1 to sell.
        slippage: fraction of the price; 0 gives the reference itself, unrounded.
        grid: the tick grid.
    """
    if slippage == 0.0:
        return reference.expand_as(side)
    return grid.toward(reference * (1.0 + side * slippage), side)


def liquidation_price(cash: Tensor, position: Tensor, side: Tensor, margin_rate: float) -> Tensor:
    """Price at which equity equals the maintenance margin: cash + q*x = m*|q|*x (cross margin).

    At or below 0, hence never reached, for a long paid in full; not a number when flat.
    """
    return -cash / (position * (1.0 - side * margin_rate))


def bankruptcy_price(cash: Tensor, position: Tensor, side: Tensor, fee_rate: float) -> Tensor:
    """Price at which closing leaves equity 0 after the fee; not a number when flat."""
    return -cash / (position * (1.0 - side * fee_rate))
