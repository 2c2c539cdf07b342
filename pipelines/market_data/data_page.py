"""The page of a file of bars: one HTML file that needs no network, light or dark, on any width."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from envs.bars import Bars, report_lines
from envs.durable import write_file
from pipelines.market_data.data_figure import SHADES, STEP_NAMES, draw_calendar, draw_prices
from pipelines.market_data.data_quality import DataQuality, Listing
from pipelines.number_text import counted, duration, minute, percent
from pipelines.page_figure import figure_script
from pipelines.page_template import fill_page, script_json
from pipelines.price_decimals import price_decimals

_TEMPLATE = Path(__file__).with_name("data_page.html")
# Rows of a table that are open to the eye; the rest is behind a click.
_OPEN_ROWS = 12


def write_data_page(path: Path, quality: DataQuality, bars: Bars) -> None:
    """Write the page.

    Everything measured is embedded as JSON, too, in the element ``quality``.

    Args:
        path: the HTML file, replaced if it exists.
        quality: what was measured.
        bars: what it was measured on.

    Raises:
        OSError: if the disk refuses; what was there stays.
    """
    prices, notes = draw_prices(bars, quality)
    figures = {"calendar": draw_calendar(quality), "prices": prices}
    fields = {
        "title": escape(f"Data check: {quality.source_name}"),
        "heading": escape(f"{quality.source_name}: {quality.asset}"),
        "about": escape(_about(quality)),
        "verdict": _verdict(quality),
        "numbers": "\n".join(
            f"<div><dt>{escape(term)}</dt><dd>{escape(value)}</dd></div>"
            for term, value in headline(quality)
        ),
        "coverage": escape(_coverage(quality)),
        "shades": "".join(
            f'<span><i style="background:{shade}"></i>{escape(name)}</span>'
            for shade, name in zip(SHADES, STEP_NAMES, strict=True)
        ),
        "points": escape(" ".join([*notes, _split_words(quality)])),
        "sections": "\n".join(_sections(quality)),
        "provenance": escape(f"Data: {quality.source_name}, sha256 {quality.source_sha256}."),
        "quality": script_json(quality.to_json()),
        "figures": script_json({name: json.loads(f.to_json()) for name, f in figures.items()}),
        "draw": figure_script(),
    }
    write_file(path, fill_page(_TEMPLATE, fields).encode())


def headline(quality: DataQuality) -> list[tuple[str, str]]:
    """The numbers that come first, as terms and values."""
    report, holes = quality.report, quality.holes
    filled, forming = report["filled_bars"], quality.forming_duplicates
    bars = f"{quality.present_bars:,} of {duration(report['interval_s'])}"
    missing = f"{report['missing_bars'] + filled:,}"
    duplicates = f"{quality.duplicates.total:,}"
    silent = f"{quality.silent_bars:,} ({_share(quality.silent_bars / quality.present_bars)})"
    return [
        ("Bars", bars + f" + {filled:,} filled in" * (filled > 0)),
        ("Coverage", _share(quality.coverage)),
        ("Segments", f"{report['segments']:,}"),
        ("Holes", f"{holes.total:,} ({report['filled_holes']:,} filled)"),
        ("Missing bars", missing + f" ({filled:,} filled in)" * (filled > 0)),
        ("Duplicate times", duplicates + f" ({forming:,} still being formed)" * (forming > 0)),
        ("Outliers", f"{quality.outliers.total:,} ({quality.outliers.came_back:,} came back)"),
        ("Without volume", silent),
    ]


def _about(quality: DataQuality) -> str:
    report = quality.report
    return f"{minute(report['first'])} to {minute(report['last'])} UTC · {report['rows']:,} rows"


def _verdict(quality: DataQuality) -> str:
    if quality.refusal:
        return (
            f'<div class="verdict refused"><p><b>A training would refuse these bars.</b> '
            f"{escape(quality.refusal)}</p></div>"
        )
    words = ", ".join(f"{row['split']} {row['tradable_bars']:,}" for row in quality.splits)
    return (
        '<div class="verdict"><p><b>A training would use these bars.</b> Tradable: '
        f"{escape(words)}.</p></div>"
    )


def _coverage(quality: DataQuality) -> str:
    whole = sum(day["present"] >= day["expected"] for day in quality.days)
    return (
        f"{_share(quality.coverage)} of the bars between the first and the last are there; "
        f"{whole:,} of {counted(len(quality.days), 'day')} lack none. Shaded by the share that is "
        "present, UTC; bars that fill a hole do not count."
    )


def _split_words(quality: DataQuality) -> str:
    if not quality.splits:
        return "No splits: a training would refuse."
    return (
        f"Splits as a training with env.window={quality.window} and "
        f"env.episode_bars={quality.episode_bars} makes them; between two of them lies the embargo."
    )


def _sections(quality: DataQuality) -> list[str]:
    """The tables, each under its heading."""
    splits = [
        (row["split"], row["tradable_bars"], row["starts"], minute(row["first"]),
         minute(row["last"]), row["bars"], row["runs"], row["longest_run"])
        for row in quality.splits
    ]  # fmt: skip
    names = ("split", "tradable", "starts", "first bar", "last bar", "bars", "runs", "longest run")
    parts = [_table(names, splits)]
    if splits:
        parts.append(
            '<p class="small">A run is unbroken and has all its features; starts are the bars at '
            "which an episode can begin.</p>"
        )
    parts += [*_segments(quality), *_holes(quality), *_outliers(quality), *_silent(quality)]
    parts += [*_duplicates(quality), "<h2>What the loader says</h2>"]
    lines = "".join(f"<li>{escape(line)}</li>" for line in report_lines(quality.report))
    return [*parts, f'<ul class="small">{lines}</ul>']


def _segments(quality: DataQuality) -> list[str]:
    rows = [
        (row["segment"], row["bars"], row["tradable_bars"], minute(row["first"]),
         minute(row["last"]))
        for row in quality.segments.rows
    ]  # fmt: skip
    return [
        "<h2>Segments</h2>",
        '<p class="small">Runs of bars without a hole that was too long to fill. Windows and '
        "episodes never cross a border; the first bars of each are warm-up, not tradable."
        f"{_shown(quality.segments, 'the longest')}</p>",
        _table(("segment", "bars", "tradable", "first bar", "last bar"), rows),
    ]


def _holes(quality: DataQuality) -> list[str]:
    rows = [
        (minute(row["after"]), row["missing_bars"], _signed(row["move_frac"]),
         minute(row["before"]), "filled" if row["filled"] else "ends a segment")
        for row in quality.holes.rows
    ]  # fmt: skip
    return [
        "<h2>Holes</h2>",
        f'<p class="small">{_none(quality.holes)}{_shown(quality.holes, "the longest")}</p>',
        _table(("after", "missing bars", "price across", "before", "fate"), rows),
    ]


def _outliers(quality: DataQuality) -> list[str]:
    found = quality.outliers
    rows = [
        (minute(row["time"]), _signed(row["reach_frac"]), f"{row['times_usual']:,.0f}",
         "yes" if row["came_back"] else "no", _price(row["price"]))
        for row in found.rows
    ]  # fmt: skip
    listing = Listing(found.total, found.rows)
    return [
        "<h2>Outliers</h2>",
        f'<p class="small">{escape(found.rule)} {_none(listing)}'
        f"{_shown(listing, 'the furthest')}</p>",
        _table(("bar", "reach", "times usual", "came back", "price reached"), rows),
    ]


def _price(price: float) -> str:
    return f"{price:,.{price_decimals(np.array([price]))}f}"


def _silent(quality: DataQuality) -> list[str]:
    rows = [(minute(r["first"]), minute(r["last"]), r["bars"]) for r in quality.silent.rows]
    share = _share(quality.silent_bars / quality.present_bars)
    return [
        "<h2>Stretches without volume</h2>",
        f'<p class="small">{quality.silent_bars:,} bars ({share}) have no volume. '
        f"Stretches are of at least two bars, those that fill a hole included. "
        f"{_none(quality.silent)}{_shown(quality.silent, 'the longest')}</p>",
        _table(("first bar", "last bar", "bars"), rows),
    ]


def _duplicates(quality: DataQuality) -> list[str]:
    rows = [
        (minute(row["time"]), ", ".join(f"{n:,}" for n in row["rows"]), row["kind"])
        for row in quality.duplicates.rows
    ]
    return [
        "<h2>Duplicates</h2>",
        '<p class="small">Times that several rows bear; the first row of the file counts, unless '
        "it was written while its bar was still being formed. Otherwise two different prices for "
        "one time are refused. "
        f"{_none(quality.duplicates)}{_shown(quality.duplicates, 'the first')}</p>",
        _table(("time", "rows", "values"), rows),
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table that scrolls by itself; what is long is folded."""
    if not rows:
        return ""

    def row(cells: Sequence[Any], tag: str) -> str:
        texts = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells)
        return "<tr>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts) + "</tr>"

    def table(part: Sequence[Sequence[Any]]) -> str:
        lines = "".join(row(cells, "td") for cells in part)
        head = f"<thead>{row(header, 'th')}</thead>"
        return f'<div class="scroll"><table>{head}<tbody>{lines}</tbody></table></div>'

    text = table(rows[:_OPEN_ROWS])
    if len(rows) > _OPEN_ROWS:
        more = table(rows[_OPEN_ROWS:])
        text += f"<details><summary>{len(rows) - _OPEN_ROWS} more</summary>{more}</details>"
    return text


def _none(listing: Listing) -> str:
    return "" if listing.total else "There are none."


def _shown(listing: Listing, which: str) -> str:
    if listing.total <= len(listing.rows):
        return ""
    return f" Listed are {which} {len(listing.rows)} of {listing.total:,}."


def _share(fraction: float) -> str:
    """A share in per cent; only all of it is 100 %, and only nothing is 0 %."""
    if 0.0 < fraction < 0.00005:
        return "under 0.01 %"
    return "over 99.99 %" if 0.99995 <= fraction < 1.0 else percent(fraction)


def _signed(fraction: float) -> str:
    """A change in per cent, with its sign unless it is none."""
    return f"{100.0 * fraction:+,.2f} %" if abs(fraction) >= 0.00005 else "0.00 %"
