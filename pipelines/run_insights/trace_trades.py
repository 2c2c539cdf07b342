"""The trades of one lane: those in a range, the largest, the next one, why they were closed."""

import numpy as np
import pandas as pd

from envs.checks import require_one_of
from pipelines.run_insights.trace_queries import Part

# Columns that a table is sorted by, and whether the smallest comes first.
ORDERS = {"time": ("entry_frame", True), "best": ("profit", False), "worst": ("profit", True)}


def open_within(trades: pd.DataFrame, part: Part) -> pd.DataFrame:
    """Those of `TraceQueries.trades` that were open in a range of frames."""
    inside = (trades["exit_frame"] >= part.first) & (trades["entry_frame"] <= part.last)
    return trades[inside]


def largest(trades: pd.DataFrame, most: int) -> pd.DataFrame:
    """Those that gained or lost most, in the order of time."""
    if len(trades) <= most:
        return trades
    sizes = trades["profit"].abs().to_numpy()
    return trades.iloc[np.sort(np.argsort(-sizes, kind="stable")[:most])]


def page_of(trades: pd.DataFrame, order: str, page: int, rows: int) -> pd.DataFrame:
    """One page of a table of trades.

    Args:
        trades: in the order of time.
        order: one of `ORDERS`.
        page: from 0.
        rows: of a page.

    Raises:
        ValueError: for another order.
    """
    require_one_of("order", order, list(ORDERS))
    column, rising = ORDERS[order]
    values = trades[column].to_numpy()
    places = np.argsort(values if rising else -values, kind="stable")
    return trades.iloc[places[page * rows : (page + 1) * rows]]


def entered_at(trades: pd.DataFrame, frame: int | None) -> pd.Series | None:
    """The trade that was entered in a frame."""
    found = trades[trades["entry_frame"] == (-1 if frame is None else frame)]
    return None if found.empty else found.iloc[0]


def neighbours(trades: pd.DataFrame, frame: int) -> tuple[pd.Series | None, pd.Series | None]:
    """The last trade that was entered before a frame, and the first one after it."""
    entries = trades["entry_frame"].to_numpy()
    before, after = (
        np.searchsorted(entries, frame, "left"),
        np.searchsorted(entries, frame, "right"),
    )
    return (
        trades.iloc[before - 1] if before else None,
        trades.iloc[after] if after < len(trades) else None,
    )


def by_reason(trades: pd.DataFrame) -> pd.DataFrame:
    """Columns `exit_reason`, `trades` and `profit` (their sum), the most frequent first."""
    found = trades.groupby("exit_reason", sort=False)["profit"].agg(["size", "sum"]).reset_index()
    found.columns = pd.Index(["exit_reason", "trades", "profit"])
    return found.sort_values("trades", ascending=False, kind="stable")
