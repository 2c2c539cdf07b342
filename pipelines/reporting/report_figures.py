"""The smaller figures of a report: trades, hours, choices, costs, seeds."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from pipelines.number_text import duration
from pipelines.reporting.report_figure import LOOKS, Figure, axis, heading, layout
from pipelines.reporting.report_trades import (
    HEADS,
    SeedTrades,
    by_group,
    holding_steps,
    return_steps,
)

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SIDES = {-1: "short", 0: "flat", 1: "long"}
_MIX_TITLES = ("direction", "size, x risk", "stop, bps", "target, x stop")
_COUNT = "%{y:,} trades"


def draw_returns(trades: pd.DataFrame) -> Figure:
    """Histogram of the returns of trades; gains and losses in colours of their own."""
    returns = trades["return_fraction"].to_numpy()
    edges, counts = return_steps(returns)
    middle = (edges[1:] + edges[:-1]) / 2.0
    words = [f"{100 * a:,.3g} to {100 * b:,.3g} %" for a, b in pairwise(edges)]
    title = "return of a trade after fees"
    lower, higher = returns.min() < edges[0], returns.max() > edges[-1]
    if lower:
        words[0] = f"under {100 * edges[1]:,.3g} %"
    if higher:
        words[-1] = f"over {100 * edges[-2]:,.3g} %"
    if lower or higher:
        title += ";<br>the outermost bars take all beyond"
    return {
        "data": [
            {
                "type": "bar",
                "x": middle.tolist(),
                "y": counts.tolist(),
                "width": float(edges[1] - edges[0]) * 0.94,
                "text": words,
                "textposition": "none",
                "marker": {"color": ["--gain" if m > 0 else "--loss" for m in middle]},
                "hovertemplate": f"%{{text}}<br>{_COUNT}<extra></extra>",
            }
        ],
        "layout": layout(
            280,
            xaxis=axis(title, tickformat=",.3~%", nticks=8),
            yaxis=axis("trades", tickformat=",d", nticks=6),
        ),
    }


def draw_holding(trades: pd.DataFrame, interval_s: float) -> Figure:
    """How long positions were held, in steps that double."""
    longest, counts = holding_steps(trades["bars_held"].to_numpy())
    names = [f"≤ {duration(interval_s * bars, 2)}" for bars in longest.tolist()]
    return {
        "data": [_bars(names, counts.tolist(), "--policy", f"%{{x}}<br>{_COUNT}<extra></extra>")],
        "layout": layout(
            280,
            xaxis=axis("held for", type="category", tickangle="auto"),
            yaxis=axis("trades", tickformat=",d", nticks=6),
        ),
    }


def _bars(x: list[Any], y: list[Any], color: str, hover: str) -> Figure:
    return {"type": "bar", "x": x, "y": y, "marker": {"color": color}, "hovertemplate": hover}


def draw_hours(trades: pd.DataFrame) -> Figure:
    """Mean return by the hour of the entry, UTC, with its 95 % interval."""
    hours = trades["entry_time"].dt.hour.to_numpy()
    names = [f"{hour:02d}" for hour in range(24)]
    return _means(by_group(trades, hours, 24), names, "hour of the entry, UTC")


def draw_weekdays(trades: pd.DataFrame) -> Figure:
    """Mean return by the weekday of the entry, UTC, with its 95 % interval."""
    days = trades["entry_time"].dt.day_of_week.to_numpy()
    return _means(by_group(trades, days, 7), list(DAYS), "weekday of the entry, UTC")


def _means(groups: pd.DataFrame, names: list[str], title: str) -> Figure:
    half = [None if np.isnan(value) else value for value in groups["half_width"]]
    mean = [None if np.isnan(value) else value for value in groups["mean"]]
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "markers",
                "x": names,
                "y": mean,
                "customdata": groups["trades"].tolist(),
                "error_y": {"array": half, "color": "--quiet", "thickness": 1.4, "width": 3},
                "marker": {"color": "--policy", "size": 8},
                "hovertemplate": "%{x}: %{y:.3%}<br>%{customdata:,} trades<extra></extra>",
            }
        ],
        "layout": layout(
            260,
            xaxis=axis(title, type="category", categoryorder="array", categoryarray=names),
            yaxis=axis("mean return", tickformat=",.3~%", nticks=6, rangemode="tozero"),
        ),
    }


def draw_mix(seeds: Sequence[SeedTrades]) -> dict[str, Figure]:
    """How often each value of each head was chosen, all seeds together: a figure a head.

    Heads that were never asked, as no position was opened, have none.
    """
    figures = {}
    for head, title in zip(HEADS, _MIX_TITLES, strict=True):
        counts = pd.concat([seed.choices[head] for seed in seeds]).groupby(level=0).sum()
        if not len(counts):  # nothing was opened
            continue
        share = counts / counts.sum()
        names = [_SIDES[int(v)] if head == HEADS[0] else _value(head, v) for v in counts.index]
        figures[f"mix_{head}"] = {
            "data": [_bars(names, share.tolist(), "--policy", "%{x}: %{y:.1%}<extra></extra>")],
            "layout": layout(
                220,
                xaxis=axis(title, type="category"),
                yaxis=axis(tickformat=",.0%", nticks=4, rangemode="tozero"),
            ),
        }
    return figures


def _value(head: str, value: float) -> str:
    return "none" if head == HEADS[3] and value == 0.0 else f"{value:g}"


def draw_costs(costs: Mapping[str, Any]) -> Figure:
    """Total return under multiples of the costs, with the break-even."""
    multiples = [float(multiple) for multiple in costs["returns"]]
    returns = list(costs["returns"].values())
    bps = [multiple * float(costs["order_cost_bps"]) for multiple in multiples]
    found = costs["break_even"]
    shapes, notes = [], []
    if found["multiple"] > 0.0 and not found["earns_beyond"]:
        line = {"color": "--quiet", "dash": "dot", "width": 1.5}
        at = {"type": "line", "x0": found["multiple"], "x1": found["multiple"], "yref": "paper"}
        shapes.append(at | {"y0": 0, "y1": 1, "line": line})
        notes.append(
            heading(f"break-even {found['cost_bps']:.3g} bps", 0.94)
            | {"xref": "x", "x": found["multiple"], "xanchor": "left", "xshift": 4}
        )
    return {
        "data": [
            {
                "x": multiples,
                "y": returns,
                "customdata": bps,
                "mode": "lines+markers",
                "line": {"color": LOOKS["policy"][0], "width": 2.2},
                "marker": {"size": 8},
                "hovertemplate": "x%{x:g} (%{customdata:.3~g} bps): %{y:+,.2%}<extra></extra>",
            }
        ],
        "layout": layout(
            280,
            shapes=shapes,
            annotations=notes,
            xaxis=axis(
                "multiple of the costs that were charged",
                tickvals=multiples,
                ticktext=[f"x{multiple:g}" for multiple in multiples],
            ),
            yaxis=axis("total return", tickformat=",.3~%", zeroline=True, zerolinewidth=1.5),
        ),
    }
