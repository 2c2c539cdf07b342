"""The page of the learning suite: curves of every market, and the table."""

import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

_TEMPLATE = Path(__file__).with_name("learning_page.html")
COLOURS = ("#2563eb", "#059669", "#d97706", "#9333ea", "#dc2626")


def write_learning_page(path: Path, result: dict[str, Any]) -> None:
    """Write one HTML file that needs no network.

    Args:
        path: the file, replaced if it exists.
        result: what ``suite=learning`` measured, as in its JSON.
    """
    runs = result["runs"]
    machine = result["machine"]
    about = f"{len(runs)} runs, commit {machine['commit'][:12]}, torch {machine['torch']}, "
    about += f"{machine['processor']}, one thread a run"
    fields = {
        "about": escape(about),
        "tables": "".join(_tables(result["rows"])),
        "figure": _inert(draw_curves(runs).to_json()),
        "result": _inert(json.dumps(result)),
        "plotly": get_plotlyjs(),
    }
    path.write_text(Template(_TEMPLATE.read_text("utf-8")).substitute(fields), "utf-8")


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


def _inert(text: str) -> str:
    """JSON that no HTML parser mistakes for markup."""
    return text.replace("<", "\\u003c")


def _tables(rows: list[dict[str, Any]]) -> list[str]:
    """One table for each set of columns."""
    kinds: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(tuple(row), []).append(row)
    return [_table(columns, group) for columns, group in kinds.items()]


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{escape(cell_text(row[column]))}</td>" for column in columns)
        + "</tr>"
        for row in rows
    )
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def cell_text(value: Any) -> str:
    """A cell of a table for a person: whole thousands in full, the rest to three digits."""
    if not isinstance(value, float):
        return str(value)
    if value == float("inf"):
        return "never"
    return f"{value:,.0f}" if abs(value) >= 1000.0 else f"{value:.3g}"
