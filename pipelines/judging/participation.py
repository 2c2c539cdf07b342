"""How much of a bar's volume the account's fills would have been."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

LARGE_FRACTION = 0.1
UNITS = ("open_exit_units", "entry_units", "exit_units")


@dataclass(frozen=True)
class Participation:
    """Fills against volume, over the bars that have a fill. Fractions of a bar's volume.

    Attributes:
        bars: with a fill.
        without_volume: of them, bars in which nobody traded: no order is filled in such a bar.
        large: of them, bars with fills above a tenth of the volume, those without volume included.
        median_fraction: over the bars with volume; None if there is none.
        largest_fraction: likewise.
    """

    bars: int
    without_volume: int
    large: int
    median_fraction: float | None
    largest_fraction: float | None

    @property
    def flagged(self) -> bool:
        """Whether any fill is more than the simulator may assume to leave the price alone."""
        return self.large > 0

    @property
    def sentence(self) -> str:
        """What is to be said of it; empty if nothing is."""
        if not self.flagged:
            return ""
        return (
            f"In {self.large:,} of {self.bars:,} bars with a fill it was more than "
            f"{100 * LARGE_FRACTION:.0f} % of the volume{self._idle}: such orders move the price, "
            "and the result assumes that they do not."
        )

    @property
    def _idle(self) -> str:
        return f" ({self.without_volume:,} had none)" if self.without_volume else ""


def participation(rows: pd.DataFrame) -> Participation:
    """Compare what was bought and sold in each bar with the bar's volume.

    Args:
        rows: of a trace, with the columns of fills and `volume`, both in base units.
    """
    units = sum(rows[name].fillna(0.0).abs().to_numpy() for name in UNITS)
    filled = np.flatnonzero(units)
    units, volume = np.asarray(units)[filled], rows["volume"].to_numpy()[filled]
    traded = volume > 0.0
    fraction = units[traded] / volume[traded]
    idle = int((~traded).sum())
    return Participation(
        bars=len(filled),
        without_volume=idle,
        large=idle + int((fraction > LARGE_FRACTION).sum()),
        median_fraction=float(np.median(fraction)) if len(fraction) else None,
        largest_fraction=float(fraction.max()) if len(fraction) else None,
    )
