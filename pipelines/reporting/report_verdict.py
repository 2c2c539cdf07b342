"""The first thing of a report: the word, its reasons, the conditions, and what is to be doubted."""

from collections.abc import Mapping
from html import escape
from typing import Any

from pipelines.judging.recounted import Recounted
from pipelines.judging.verdict import BETTER, EDGE, LUCK, NO_EDGE, NOT_ENOUGH
from pipelines.number_text import (
    counted,
    days_played,
    duration,
    minute,
    number,
    probability,
    share,
    signed_percent,
)
from pipelines.reporting.report_table import table

# Style and sign of each word: nobody has to tell colours apart.
_LOOKS = {EDGE: ("edge", "✓"), NO_EDGE: ("no-edge", "✕"), NOT_ENOUGH: ("not-enough", "?")}
_TITLES = {
    "grew": "Total return",
    LUCK: "Sharpe ratio of a year, lower end (98 %)",
    "beyond the tries": "Deflated Sharpe ratio",
    "whatever the seed": "Sharpe ratio over seeds, lower end (95 %)",
}
_AT_LEAST = "beyond the tries"


def verdict_block(values: Mapping[str, Any], now: Recounted | None = None) -> str:
    """The verdict as HTML.

    Args:
        values: of ``evaluation.json``.
        now: the verdict with the tries of today, if there were more since, or nobody can tell.
    """
    verdict = values["verdict"]
    look, sign = _LOOKS.get(verdict["word"], ("not-enough", "?"))
    reasons = "".join(f"<li>{escape(str(reason))}</li>" for reason in verdict["reasons"])
    return (
        f'<section class="verdict {look}" aria-labelledby="word">'
        f'<p class="word" id="word"><span aria-hidden="true">{sign}</span> '
        f"{escape(str(verdict['word']))}</p><ul>{reasons}</ul></section>"
        f"{_flags(values, now)}{_conditions(verdict['conditions'])}"
    )


def _flags(values: Mapping[str, Any], now: Recounted | None) -> str:
    """What makes the answer doubtful, in boxes that nobody overlooks."""
    found = []
    if now is not None:
        found.append((f"{now.title}.", now.sentence))
    looks = values["looks"]
    if looks["earlier"]:
        found.append(
            (
                f"Look number {looks['earlier'] + 1:,} at these bars.",
                "Held-out bars are held out once. The verdict allows for "
                f"{counted(looks['trials'], 'trial')}.",
            )
        )
    fills = values["participation"]
    if fills["flagged"]:
        found.append(("Orders too large for their bars.", participation_words(fills)))
    boxes = (
        f'<div class="flag" role="note"><p><b>{escape(title)}</b> {escape(text)}</p></div>'
        for title, text in found
    )
    return "".join(boxes)


def participation_words(fills: Mapping[str, Any]) -> str:
    """Fills against the volume of their bars, as counted by `pipelines.judging.participation`."""
    idle = fills["without_volume"]
    words = (
        f"Of {counted(fills['bars'], 'bar')} with a fill {idle:,} had no volume, and in "
        f"{fills['large'] - idle:,} the fill was more than a tenth of it."
    )
    if fills["largest_fraction"] is None:
        return words
    median, largest = (share(fills[f"{which}_fraction"]) for which in ("median", "largest"))
    return f"{words} It was {median} in the median, {largest} at the most."


def _conditions(conditions: list[dict[str, Any]]) -> str:
    rows = []
    for condition in conditions:
        name = str(condition["name"])
        value, asked = float(condition["value"]), float(condition["threshold"])
        if name == "grew":
            cells = signed_percent(value), "> 0 %"
        elif name.startswith(BETTER):
            cells = probability(value), f"≤ {asked:g}"
        elif name == _AT_LEAST:
            cells = f"{value:.3f}", f"≥ {asked:g}"
        else:
            cells = f"{value:,.2f}", f"> {asked:g}"
        title = _TITLES.get(name, name.capitalize())
        rows.append((title, *cells, "✓ yes" if condition["holds"] else "✕ no"))
    header = ("For an edge all must hold", "value", "asked for", "holds")
    return table(header, rows, caption="conditions of an edge", kind="conditions")


def about_line(values: Mapping[str, Any]) -> str:
    """What was played, in one line."""
    bars = values["bars"]
    first, last = (minute(bars[key]) for key in ("first_bar", "last_bar"))
    seeds = counted(len(values["seeds"]), "seed")
    folds = f", {counted(len(values['folds']), 'fold')}" if values["folds"] else ""
    return (
        f"{first} to {last} UTC · {number(bars['bars'])} bars of {duration(bars['interval_s'])} "
        f"({days_played(bars['days'])}) · {bars['source_name']} · {seeds}{folds}"
    )
