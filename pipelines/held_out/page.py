"""The page of a replay: one HTML file that needs no network, to be read on a screen or a phone."""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

import pandas as pd

from envs.config import EnvConfig
from envs.durable import write_file
from pipelines.held_out.figure import draw_chart
from pipelines.held_out.result import POLICY, Replayed, Result, caveats
from pipelines.judging.metrics import Metrics
from pipelines.number_text import counted, days_played, duration, minute, money, percent
from pipelines.page_figure import figure_script
from pipelines.page_template import fill_page, script_json

_TEMPLATE = Path(__file__).with_name("page.html")


def write_page(
    path: Path,
    result: Result,
    rows: Mapping[str, pd.DataFrame],
    hold: pd.DataFrame,
    cfg: EnvConfig,
) -> None:
    """Write the page.

    The policy's return never stands alone: the baselines are in the same table, and what makes the
    numbers doubtful comes before them. Result and figure are embedded as JSON, in the elements
    ``result`` and ``figure``.

    Args:
        path: the HTML file, replaced if it exists.
        result: what was measured.
        rows: traces from `pipelines.judging.metrics.in_order`, that of ``policy`` and of those
            beside it.
        hold: buy-and-hold's rows, likewise.
        cfg: the simulator's parameters.
    """
    replayed = result.replayed
    beside = {name: each for name, each in rows.items() if name != POLICY}
    chart = draw_chart(rows[POLICY], hold, cfg, interval_s=replayed.interval_s, beside=beside)
    heading = f"{replayed.asset}, {replayed.split} split: the policy and its baselines"
    fields = {
        "title": escape(f"{replayed.run}: {replayed.asset} {replayed.split}"),
        "heading": escape(heading),
        "about": escape(_about(replayed)),
        "caveats": _caveats(caveats(result)),
        "table": _table(result.table()),
        "random": escape(result.random_sentence()) + ".",
        "conventions": escape(_conventions(replayed, cfg)),
        "details": "\n".join(
            f"<div><dt>{escape(term)}</dt><dd>{escape(value)}</dd></div>"
            for term, value in _details(result.metrics[POLICY], cfg, replayed.bars)
        ),
        "remarks": _small(result.remarks),
        "notes": _small(chart.notes),
        "provenance": escape(_provenance(result)),
        "result": script_json(result.to_json()),
        "figure": script_json(json.loads(chart.figure.to_json())),
        "draw": figure_script(),
    }
    write_file(path, fill_page(_TEMPLATE, fields).encode())


def _about(replayed: Replayed) -> str:
    return (
        f"{minute(replayed.first_bar)} to {minute(replayed.last_bar)} UTC · "
        f"{replayed.bars:,} bars of {duration(replayed.interval_s)} "
        f"({days_played(replayed.days)}) · {replayed.source_name} · run {replayed.run}"
    )


def _conventions(replayed: Replayed, cfg: EnvConfig) -> str:
    gaps = f"; {counted(replayed.gaps, 'gap')} between them cannot be traded" * (replayed.gaps > 0)
    return (
        f"Returns are after costs: taker {cfg.taker_fee_bps:g} bps, maker {cfg.maker_fee_bps:g}, "
        f"slippage {cfg.slippage_bps:g}, stops {cfg.stop_slippage_bps:g}, funding "
        f"{cfg.funding_bps_per_day:g} a day. {counted(replayed.tiles, 'tile')} of at most "
        f"{counted(cfg.episode_bars, 'bar')} start with a fresh account of "
        f"{money(cfg.initial_cash)} each{gaps}. Returns are chained by compounding, fees are "
        "summed. Buy-and-hold buys without leverage and holds while there are bars: it is sold "
        "before a hole and bought anew after it."
    )


def _details(policy: Metrics, cfg: EnvConfig, bars: int) -> list[tuple[str, str]]:
    """What else is known of the policy's account, as terms and values.

    Of all `bars` of the tiles: one that was ruined is flat in those that it lacks.
    """
    hit_rate = "no trade" if policy.hit_rate is None else percent(policy.hit_rate)
    return [
        ("Trades that earned", hit_rate),
        ("Bars with a position", percent(policy.exposure * policy.bars / bars)),
        ("Turnover, times the cash", f"{policy.turnover:,.1f}"),
        ("Fees, of the cash", percent(policy.fees / cfg.initial_cash)),
        ("Slippage, of the cash", percent(policy.slippage_cost / cfg.initial_cash)),
        ("Funding, of the cash", percent(policy.funding / cfg.initial_cash)),
        ("Ruined tiles", f"{policy.ruined} of {policy.tiles}"),
    ]


def _provenance(result: Result) -> str:
    source, played = result.replayed.source_name, result.checkpoint
    if result.replayed.source_sha256:
        source += f", sha256 {result.replayed.source_sha256}"
    if played:
        source += f". Policy: checkpoint {played['iteration']}, sha256 {played['sha256']}"
    return f"Data: {source}. A simulation on past bars; not advice, and no promise of profit."


def _small(lines: list[str]) -> str:
    return "".join(f'<p class="small">{escape(line)}</p>' for line in lines)


def _caveats(lines: list[str]) -> str:
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return f'<div class="caveats">{paragraphs}</div>' if lines else ""


def _table(rows: list[tuple[str, ...]]) -> str:
    def row(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    header, *body = rows
    lines = "".join(row(cells, "td") for cells in body)
    table = f"<table><thead>{row(header, 'th')}</thead><tbody>{lines}</tbody></table>"
    # Long names and sums: the table is wider than a phone, and the page must not be.
    return f'<div class="scroll" role="region" tabindex="0" aria-label="accounts">{table}</div>'
