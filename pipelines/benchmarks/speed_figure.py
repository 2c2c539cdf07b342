"""The charts of the speed suite: throughput by lanes and sharing, and what time grows with."""

from collections.abc import Iterable
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pipelines.benchmarks.learning_figure import COLOURS

_DASHES = ("solid", "dash", "dot", "dashdot")
_MEMORY = "peak memory, MiB"


def draw_speed(rows: list[dict[str, Any]]) -> go.Figure:
    """Frames a second of every network against lanes, then a panel for each table of growth."""
    cells = [row for row in rows if "network" in row]
    growth = _group(row for row in rows if "network" not in row)
    columns = [name for name in cells[0] if name.endswith("frames/s")] if cells else []
    titles = [*columns, *(f"growing: {names[0]}" for names in growth)]
    figure = make_subplots(
        len(titles), 1, subplot_titles=titles, vertical_spacing=0.3 / len(titles)
    )
    for place, column in enumerate(columns, start=1):
        _draw_cells(figure, cells, column, place)
    for place, (names, points) in enumerate(growth.items(), start=len(columns) + 1):
        _draw_growth(figure, names, points, place)
    figure.update_layout(
        height=320 * len(titles) + 80,
        margin={"l": 60, "r": 16, "t": 90, "b": 40},
        template="plotly_white",
        legend={"orientation": "h", "y": 1.0, "yanchor": "top", "yref": "container"},
    )
    return figure


def _draw_cells(figure: go.Figure, cells: list[dict[str, Any]], column: str, place: int) -> None:
    """A line for each network and sharing."""
    networks = list(dict.fromkeys(cell["network"] for cell in cells))
    sharing = sorted({cell["accounts"] for cell in cells})
    for network in networks:
        for accounts in sharing:
            line = [c for c in cells if (c["network"], c["accounts"]) == (network, accounts)]
            name = f"{network}, K = {accounts}"
            style = {
                "color": COLOURS[networks.index(network) % len(COLOURS)],
                "dash": _DASHES[sharing.index(accounts) % len(_DASHES)],
            }
            figure.add_scatter(
                x=[cell["lanes"] for cell in line],
                y=[cell[column] for cell in line],
                name=name,
                legendgroup=name,
                showlegend=place == 1 and bool(line),
                mode="lines+markers",
                line=style,
                hovertemplate=f"{name}<br>%{{x:,}} lanes: %{{y:,.0f}} frames/s<extra></extra>",
                row=place,
                col=1,
            )
    figure.update_xaxes(type="log", title="lanes", row=place, col=1)
    figure.update_yaxes(type="log", title="frames/s", row=place, col=1)


def _draw_growth(
    figure: go.Figure, names: tuple[str, ...], points: list[dict[str, Any]], place: int
) -> None:
    """Every column of a table against its first, each as a share of its first value."""
    grown, *measured = names
    key = f"legend{place + 1}"
    for i, name in enumerate(measured):
        figure.add_scatter(
            x=[point[grown] for point in points],
            y=[point[name] / points[0][name] for point in points],
            text=[f"{point[name]:,.4g}" for point in points],
            name=name,
            legend=key,
            mode="lines+markers",
            line={
                "color": COLOURS[i % len(COLOURS)],
                "dash": "dot" if name == _MEMORY else "solid",
            },
            hovertemplate=f"{name}: %{{text}}<br>{grown} %{{x:,}}<extra></extra>",
            row=place,
            col=1,
        )
    top = figure.layout[f"yaxis{place if place > 1 else ''}"].domain[1]
    figure.layout[key] = {"x": 0.01, "y": top, "yanchor": "top", "bgcolor": "rgba(0,0,0,0)"}
    figure.update_xaxes(type="log", title=grown, row=place, col=1)
    figure.update_yaxes(type="log", title="times the first", row=place, col=1)


def _group(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """Rows by their columns."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append(row)
    return groups
