"""The page of an evaluation: one HTML file that needs no network, light or dark, on any width."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.judging.recounted import recounted
from pipelines.page_template import fill_page, script_json
from pipelines.reporting.report_accounts import (
    figures_table,
    folds_table,
    seeds_table,
    span_choices,
)
from pipelines.reporting.report_equity import draw_equity
from pipelines.reporting.report_figure import Figure
from pipelines.reporting.report_figures import (
    draw_costs,
    draw_holding,
    draw_hours,
    draw_mix,
    draw_returns,
    draw_weekdays,
)
from pipelines.reporting.report_inputs import ReportInputs
from pipelines.reporting.report_sections import (
    candles_words,
    chance_words,
    costs_words,
    mix_words,
    provenance_words,
    trades_words,
)
from pipelines.reporting.report_series import MAX_TRADES, REASONS, Bars, pack_trades
from pipelines.reporting.report_table import paragraphs
from pipelines.reporting.report_trades import SeedTrades, pooled
from pipelines.reporting.report_verdict import about_line, verdict_block

_HERE = Path(__file__).parent
_TEMPLATE = "report_page.html"
_SCRIPTS = ("report_page.js", "report_arrays.js", "report_candles.js", "report_view.js")


def make_page(inputs: ReportInputs) -> str:
    """The page as text.

    The verdict comes first. ``evaluation.json`` is embedded, in the element ``evaluation``; bars
    and trades in ``series``, from which the page draws the stretch that is looked at.

    Args:
        inputs: the files of the evaluation; the traces are read here.

    Raises:
        FileNotFoundError: if a trace is missing.
        ValueError: if one is damaged.
    """
    values = inputs.values
    interval_s = float(values["bars"]["interval_s"])
    seeds, frames = [], []
    for trace in inputs.traces():
        seeds.append(SeedTrades.of(trace))
        frames.append(trace.rows[["timestamp", "open", "high", "low", "close"]])
    bars = Bars.of(frames, interval_s)
    trades = pooled(seeds)
    equity, equity_words = draw_equity(inputs)
    figures = {"equity": equity, "costs": draw_costs(values["costs"])} | draw_mix(seeds)
    figures |= _trade_figures(trades, interval_s) if len(trades) else {}
    bars_words = f"{values['bars']['asset']}, {values['bars']['split']} bars"
    fields = {
        "title": escape(f"{values['verdict']['word']}: {values['bars']['run']}"),
        "heading": escape(f"{values['bars']['run']} on {bars_words}"),
        "about": escape(about_line(values)),
        "verdict": verdict_block(values, recounted(inputs.folder, values)),
        "equity_words": paragraphs(equity_words),
        "candles": candles_words(seeds, bars, values),
        "trades": trades_words(trades, seeds, interval_s),
        "mix": mix_words(seeds, values["bars"]["bars"]),
        "costs": costs_words(values),
        "folds": _section("Folds", "folds", folds_table(values)),
        "seeds": _section("Seeds", "seeds", seeds_table(values) if len(seeds) > 1 else ""),
        "figures_table": figures_table(values),
        "chance": paragraphs(chance_words(values)),
        "provenance": provenance_words(values),
        "evaluation": script_json(values),
        "figures": script_json(figures),
        "series": script_json(_series(seeds, bars, values)),
        "script": "\n".join((_HERE / name).read_text("utf-8") for name in _SCRIPTS),
    }
    return fill_page(_HERE / _TEMPLATE, fields)


def _trade_figures(trades: pd.DataFrame, interval_s: float) -> dict[str, Figure]:
    return {
        "returns": draw_returns(trades),
        "holding": draw_holding(trades, interval_s),
        "hours": draw_hours(trades),
        "weekdays": draw_weekdays(trades),
    }


def _series(seeds: Sequence[SeedTrades], bars: Bars, values: dict[str, Any]) -> dict[str, Any]:
    most = MAX_TRADES // len(seeds)
    return {
        "bars": bars.pack(),
        "seeds": [pack_trades(seed, bars, most) for seed in seeds],
        "reasons": [reason.replace("_", "-") for reason in REASONS],
        "spans": span_choices(values["folds"]),
    }


def _section(title: str, name: str, content: str) -> str:
    if not content:
        return ""
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{content}</section>'
