"""The page of a benchmark: one HTML file with its tables and its figure, which needs no network."""

import json
import math
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from pipelines.page_figure import figure_script
from pipelines.page_template import fill_page, script_json
from pipelines.source import short_revision

_TEMPLATE = Path(__file__).with_name("benchmark_page.html")


def write_page(
    path: Path, title: str, about: str, result: dict[str, Any], chart: go.Figure
) -> None:
    """Write the page.

    Args:
        path: the file, replaced if it exists.
        title: what was measured.
        about: how to read it, in a few sentences; the machine is added.
        result: what was measured, as in its JSON: ``machine`` and ``rows`` are read.
        chart: the figure.
    """
    machine = result["machine"]
    where = f"Commit {short_revision(machine['commit'])}, torch {machine['torch']}, "
    where += f"{machine['gpu'] or ''} {machine['processor']}, {machine['threads']} threads."
    fields = {
        "title": escape(title),
        "about": escape(f"{about} {where}"),
        "tables": "".join(_tables(result["rows"])),
        "figure": script_json(json.loads(chart.to_json())),
        "result": script_json(_plain(result)),
        "draw": figure_script(),
    }
    path.write_text(fill_page(_TEMPLATE, fields), "utf-8")


def as_json(result: Any) -> str:
    """What was measured, as JSON that a person can read too."""
    return json.dumps(_plain(result), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    """Values for JSON: a number that is none, as of what never happened, is null."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
    """A cell of a table for a person: three digits, or all before the point."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if value == float("inf"):
        return "never"
    return f"{value:,.0f}" if abs(value) >= 100.0 else f"{value:.3g}"
