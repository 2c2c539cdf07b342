"""Prices and units in full, whatever a coin costs: it may be 60,000 or 0.000027."""

from decimal import Decimal

import numpy as np

# How Plotly writes a number in full: 48,966.67 and not 48.96667k, 0.00000027 and not 2.7e-7.
IN_FULL = ",.10~r"
UNITS_IN_FULL = "+,.6~r"
# Whole numbers of the smallest price step that a price may be: sums of two stay within 32 bits.
_LARGEST = 2**29


def price_decimals(prices: np.ndarray) -> int:
    """Decimals that give prices exactly, or as near as 32 bits come to prices without a grid."""
    largest = float(np.abs(prices).max(initial=0.0))
    most = 0
    while most < 12 and largest * 10.0 ** (most + 1) < _LARGEST:
        most += 1
    for decimals in range(most):
        scaled = prices * 10.0**decimals
        if np.all(np.abs(scaled - np.rint(scaled)) <= 1e-9 * np.maximum(np.abs(scaled), 1.0)):
            return decimals
    return most


def units_text(units: float) -> str:
    """Units with their sign, to six digits, in full: +3,649,640,000 and not +3.64964e+09."""
    return f"{Decimal(f'{units:.6g}'):+,f}"
