"""The page of all runs: one HTML file that needs no network, light or dark, on any width."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from pipelines.held_out.evaluation_files import EVALUATION
from pipelines.number_text import counted
from pipelines.page_template import fill_page, script_json
from pipelines.run_insights.judged import Judged
from pipelines.run_insights.learning_curves import thin
from pipelines.run_insights.run_columns import (
    JUDGED_TITLES,
    Cell,
    Column,
    columns,
    curve_names,
    judged_cells,
)
from pipelines.run_insights.run_records import RunRecord, read_all

# Points of all the curves of a chart.
MAX_POINTS = 5_000
_LEAST_POINTS = 8
# Runs that are drawn at first; the boxes before their names draw others.
_DRAWN = 8
_DIGITS = 6
_HERE = Path(__file__).parent
_REPORT, _REPLAY = "report.html", "replay.html"


def make_page(root: Path, price_per_hour: float | None, beside: Path | None) -> str:
    """The page as text.

    Args:
        root: folder of all runs.
        price_per_hour: of the machine, None without costs.
        beside: folder of the page, from which it links to the pages of the runs; None if it is
            served, when it links to the traces instead.

    Raises:
        NotADirectoryError: if `root` is none.
    """
    records, evaluations = read_all(root)
    price = "" if price_per_hour is None else f", {price_per_hour:g} an hour"
    fields = {
        "title": escape(f"All runs in {root.name or root}"),
        "about": escape(
            f"{counted(len(records), 'run')}, read {datetime.now(UTC):%Y-%m-%d %H:%M} UTC{price}"
        ),
        "table": _runs_table(records, columns(records, price_per_hour), beside),
        "evaluations": _evaluations(evaluations, beside),
        "curves": script_json(_curves(records)),
        "style": (_HERE / "assets" / "insights.css").read_text("utf-8"),
        "script": (_HERE / "runs_page.js").read_text("utf-8"),
    }
    page = fill_page(_HERE / "runs_page.html", fields)
    # Names of files, and texts of JSON, may hold what is no character.
    return page.encode("utf-8", "replace").decode("utf-8")


def _runs_table(records: Sequence[RunRecord], shown: Sequence[Column], beside: Path | None) -> str:
    if not records:
        return "<p>There is no run here yet.</p>"
    heads = [_head("run", "word"), *(_head(column.title, column.kind) for column in shown)]
    rows = []
    for index, run in enumerate(records):
        box = (
            f'<input type="checkbox" data-run="{index}" aria-label="draw {escape(run.name)}"'
            f"{' checked' if index < _DRAWN else ''}><i aria-hidden=true></i>"
        )
        name = f"{box}<span>{_run_links(run, beside)}</span>"
        key = escape(run.name)
        cells = "".join(_td(column.cell(run), column.kind) for column in shown)
        rows.append(f'<tr><th scope="row" data-key="{key}"><div>{name}</div></th>{cells}</tr>')
    return _table("all runs", heads, rows)


def _run_links(run: RunRecord, beside: Path | None) -> str:
    if beside is None:
        query = urlencode({"run": run.name}, errors="replace")
        return f'<a href="/trace/?{escape(query)}">{escape(run.name)}</a>'
    pages = [(replay.folder / _REPLAY, f"replay {replay.market}") for replay in run.replays]
    if not pages:
        pages = [(run.folder / _REPLAY, "replay")]
    pages += [(each.folder / _REPORT, f"report {each.market}") for each in run.judged]
    links = [_link(page, beside, word.strip()) for page, word in pages]
    return " ".join([escape(run.name), *filter(None, links)])


def _link(page: Path, beside: Path, word: str) -> str:
    """A link from the page to another one, if that is there."""
    if not page.is_file() or page.is_symlink():
        return ""
    way = os.path.relpath(page.resolve(), beside.resolve())
    return f'<a href="{escape(quote(os.fsencode(Path(way).as_posix())))}">{escape(word)}</a>'


def _evaluations(evaluations: Sequence[Judged], beside: Path | None) -> str:
    if not evaluations:
        return ""
    heads = [_head(title, "word") for title in JUDGED_TITLES]
    rows = []
    for judged in evaluations:
        link = "" if beside is None else _link(judged.folder / _REPORT, beside, "report")
        cells = "".join(_td(cell, "word") for cell in judged_cells(judged))
        name = f"<div><span>{escape(judged.name)} {link}</span></div>"
        rows.append(f'<tr><th scope="row" data-key="{escape(judged.name)}">{name}</th>{cells}</tr>')
    words = f"What {EVALUATION} of more than one run says."
    return (
        '<section aria-labelledby="evaluations"><h2 id="evaluations">Evaluations</h2>'
        f'<p class="small">{words}</p>{_table("evaluations", heads, rows)}</section>'
    )


def _table(caption: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}">'
        f'<table class="sortable"><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _head(title: str, kind: str) -> str:
    button = f'<button type="button">{escape(title)}</button>'
    return f'<th scope="col" class="{kind}" aria-sort="none">{button}</th>'


def _td(cell: Cell, kind: str) -> str:
    key = "" if cell.key is None else f' data-key="{escape(str(cell.key))}"'
    lines = cell.text.split("\n") if kind in ("word", "number") else [cell.text]
    if len(lines) > 1:
        inner = "".join(f'<span data-word="{_first(line)}">{escape(line)}</span>' for line in lines)
        return f'<td class="{kind}"{key}>{inner}</td>'
    word = _first(cell.text) if kind == "word" and cell.text else ""
    return f'<td class="{kind}" data-word="{word}"{key}>{escape(cell.text)}</td>'


def _first(line: str) -> str:
    return escape((line.split() or [""])[0])


def _curves(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Every curve of every run, in so few points that all of a chart are at most `MAX_POINTS`."""
    drawn = records[: MAX_POINTS // _LEAST_POINTS]
    most = MAX_POINTS // max(len(drawn), 1)
    return {
        "names": curve_names(records),
        "runs": [
            {
                "name": run.name,
                "points": {
                    name: _few(frames, values, most)
                    for name, (frames, values) in run.curves.points.items()
                },
            }
            for run in drawn
        ],
    }


def _few(frames: Any, values: Any, most: int) -> list[list[float]]:
    kept = thin(values, most)
    rounded = [float(f"{value:.{_DIGITS}g}") for value in values[kept]]
    return [[int(x) for x in frames[kept]], rounded]
