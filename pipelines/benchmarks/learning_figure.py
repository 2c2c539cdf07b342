"""The curves of the learning suite."""

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

COLOURS = ("#2563eb", "#059669", "#d97706", "#9333ea", "#dc2626")


def draw_curves(runs: list[dict[str, Any]]) -> go.Figure:
    """Share of the optimum against frames, a panel a market, a line a seed.

    On a fair market, whose optimum is 0, the growth of a tile in basis points instead.
    """
    markets = list(dict.fromkeys(run["market"] for run in runs))
    learners = list(dict.fromkeys(run["learner"] for run in runs))
    figure = make_subplots(
        len(markets), 1, subplot_titles=markets, vertical_spacing=0.28 / len(markets)
    )
    shown: set[str] = set()
    for run in runs:
        row = markets.index(run["market"]) + 1
        fair = run["optimum"] <= 0.0
        unit = 1e-4 if fair else run["optimum"]
        figure.add_scatter(
            x=run["frames"],
            y=[growth / unit for growth in run["growth"]],
            name=run["learner"],
            legendgroup=run["learner"],
            showlegend=run["learner"] not in shown,
            line={"width": 1.5, "color": COLOURS[learners.index(run["learner"]) % len(COLOURS)]},
            hovertemplate=f"{run['learner']}, seed {run['seed']}<br>%{{x:,}} frames: %{{y:.2f}}",
            row=row,
            col=1,
        )
        shown.add(run["learner"])
        figure.update_yaxes(title="bps a tile" if fair else "share of optimum", row=row, col=1)
        if not fair:
            figure.update_yaxes(range=[-0.5, 1.1], row=row, col=1)
    for row, market in enumerate(markets, start=1):
        if any(run["market"] == market and run["optimum"] > 0.0 for run in runs):
            figure.add_hline(y=1.0, line={"dash": "dot", "color": "#6b7280"}, row=row, col=1)
            figure.add_hline(y=0.9, line={"dash": "dot", "color": "#d1d5db"}, row=row, col=1)
    figure.update_xaxes(title="frames", row=len(markets), col=1)
    figure.update_layout(
        height=300 * len(markets) + 80,
        margin={"l": 60, "r": 16, "t": 60, "b": 40},
        template="plotly_white",
        legend={"orientation": "h", "y": 0.995, "yanchor": "top", "yref": "container"},
    )
    return figure
