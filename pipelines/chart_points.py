"""From the rows of a trace to the points of a chart: fewer bars, lines that stop at gaps."""

import numpy as np
import pandas as pd

# A gap that is longer than this fraction of the traded time is cut out of the time axis.
CUT_GAP_FRACTION = 0.05


def merge_bars(rows: pd.DataFrame, every: int) -> pd.DataFrame:
    """Merge each `every` consecutive bars into one; a gap ends a merged bar early.

    Args:
        rows: with a column `stretch`, which numbers the unbroken runs of bars.
        every: bars in a merged bar, at least 1.
    """
    number = rows.groupby("stretch").cumcount() // every
    return (
        rows.groupby([rows["stretch"], number.rename("number")], sort=False)
        .agg(
            timestamp=("timestamp", "first"),
            open=("open", "first"),
            high=("high", "max"),
            low=("low", "min"),
            close=("close", "last"),
            position=("position", "last"),
            equity=("chained", "last"),
            drawdown=("chained_drawdown", "max"),
        )
        .reset_index()
    )


def bracket_line(
    rows: pd.DataFrame, trades: pd.DataFrame, column: str
) -> tuple[list[str | None], list[float | None]]:
    """Points of a step line along the stops or targets of `trades`, with None between two trades.

    A level is known from the close of the entry bar on. Only the points where it moves are kept, so
    that a long trade costs no more than a short one.
    """
    times: list[str | None] = []
    prices: list[float | None] = []
    stamps, levels = rows["timestamp"], rows[column].to_numpy()
    for first, last in zip(trades["entry_row"], trades["exit_row"], strict=True):
        held = levels[first:last]
        if not len(held) or np.isnan(held[0]):
            continue
        moved = first + np.flatnonzero(np.diff(held, prepend=np.nan) != 0.0)
        times += [*iso_times(stamps.iloc[[*moved, last]]), None]
        prices += [*levels[moved].tolist(), float(held[-1]), None]
    return times, prices


def broken_line(bars: pd.DataFrame, column: str) -> tuple[list[str | None], list[float | None]]:
    """Points of a line that is interrupted between two stretches of bars."""
    times: list[str | None] = []
    values: list[float | None] = []
    for _, run in bars.groupby("stretch", sort=False):
        times += [*iso_times(run["timestamp"]), None]
        values += [*run[column].tolist(), None]
    return times[:-1], values[:-1]


def long_gaps(rows: pd.DataFrame, interval_s: float) -> list[list[str]]:
    """Start and end of the gaps that would leave too little room for the bars."""
    times = rows["timestamp"]
    after = times.diff() > pd.Timedelta(seconds=CUT_GAP_FRACTION * interval_s * len(rows))
    step = pd.Timedelta(seconds=interval_s)
    starts, ends = times.shift()[after] + step, times[after] - step
    return [iso_times(pd.Series(pair)) for pair in zip(starts, ends, strict=True)]


def iso_times(times: pd.Series) -> list[str]:
    """UTC times as Plotly reads them."""
    return times.dt.strftime("%Y-%m-%dT%H:%M:%S").tolist()
