"""The tables of a report: figures of every account, folds, seeds, exits, best and worst trades."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from pipelines.number_text import (
    NONE,
    Format,
    a_year,
    days,
    decimal,
    duration,
    hours,
    minute,
    money,
    number,
    percent,
    ratio,
    signed_money,
    signed_percent,
)
from pipelines.reporting.report_figure import account_title
from pipelines.reporting.report_series import to_ms
from pipelines.reporting.report_table import table
from pipelines.reporting.report_trades import by_reason

_EQUITY: tuple[tuple[str, str, Format], ...] = (
    ("Return", "total_return_fraction", signed_percent),
    ("Return a year (CAGR)", "cagr_fraction", a_year),
    ("Volatility a year, of bars", "volatility_fraction", percent),
    ("Sharpe ratio, of bars", "sharpe", ratio),
    ("Sortino ratio, of bars", "sortino", ratio),
    ("Calmar ratio", "calmar", ratio),
    ("Largest drawdown", "max_drawdown_fraction", percent),
    ("Longest drawdown", "longest_drawdown_days", days),
)
_TRADES: tuple[tuple[str, str, Format], ...] = (
    ("Trades", "trades", number),
    ("Hit rate", "hit_rate_fraction", percent),
    ("Profit factor", "profit_factor", ratio),
    ("Held, mean", "mean_holding_hours", hours),
    ("Held, median", "median_holding_hours", hours),
    ("Bars with a position", "exposure_fraction", percent),
    ("Turnover, x the cash", "turnover", decimal),
    ("Turnover a day", "turnover_a_day", decimal),
    ("Fees, quote currency", "fees", money),
    ("Fees, of gross profit", "fees_of_gross_fraction", percent),
    ("All costs, of gross profit", "costs_of_gross_fraction", percent),
)
# Trades that are listed at either end.
LISTED = 5
_AROUND = 40  # times the length of a trade that its link shows


def figures_table(values: Mapping[str, Any]) -> str:
    """Every figure of every account, and of every seed where there are several."""
    columns = [
        (account_title(name), a["equity"], a["trades"], a["period_sharpe"])
        for name, a in values["accounts"].items()
    ]
    seeds = values["seeds"]
    if len(seeds) > 1:
        own = [
            (s["name"], s["performance"]["equity"], s["performance"]["trades"], s["sharpe"])
            for s in seeds
        ]
        columns[1:1] = own
    rows = [(title, *(show(equity[key]) for _, equity, _, _ in columns))
            for title, key, show in _EQUITY]  # fmt: skip
    tested = ("Sharpe ratio, as tested", *(ratio(sharpe) for *_, sharpe in columns))
    rows.insert(3, tested)
    for title, key, show in _TRADES:
        cells = (NONE if trades is None else show(trades[key]) for _, _, trades, _ in columns)
        rows.append((title, *cells))
    header = ("", *(name for name, *_ in columns))
    return table(header, rows, caption="figures of every account", kind="figures")


def folds_table(values: Mapping[str, Any]) -> str:
    """What each fold was trained on, and what it returned on its test part."""
    folds = values["folds"]
    if not folds:
        return ""
    names = list(folds[0]["returns"])
    rows = [
        (
            str(fold["fold"]),
            *(f"{minute(fold[part][0])} to {minute(fold[part][1])}" for part in ("train", "test")),
            *(signed_percent(fold["returns"][name]) for name in names),
            signed_percent(fold["buy_and_hold"]),
        )
        for fold in folds
    ]
    header = ("fold", "trained on", "tested on", *names, "buy-and-hold")
    return table(header, rows, caption="folds", kind="folds")


def seeds_table(values: Mapping[str, Any]) -> str:
    """Each seed's result and what was measured."""
    rows = []
    for seed in values["seeds"]:
        equity, trades = (seed["performance"][part] for part in ("equity", "trades"))
        rows.append(
            (
                str(seed["name"]),
                signed_percent(equity["total_return_fraction"]),
                ratio(seed["sharpe"]),
                percent(equity["max_drawdown_fraction"]),
                number(trades["trades"]),
                money(trades["fees"]),
            )
        )
    header = ("seed", "return", "Sharpe, as tested", "largest drawdown", "trades", "fees")
    return table(header, rows, caption="seeds", kind="seeds")


def exits_table(trades: pd.DataFrame) -> str:
    """Why positions were closed, and what they earned."""
    rows = [
        (
            str(reason).replace("_", "-"),
            number(row["trades"]),
            percent(row["trades"] / len(trades)),
            signed_percent(row["mean"]),
            signed_money(row["profit"]),
        )
        for reason, row in by_reason(trades).iterrows()
    ]
    header = ("exit by", "trades", "share", "mean return", "profit")
    return table(header, rows, caption="exits by their reason", kind="exits")


def trades_table(trades: pd.DataFrame, interval_s: float) -> str:
    """The trades that earned most and least, each with a link to its candles."""
    order = np.argsort(-trades["profit"].to_numpy(), kind="stable")
    ends = order if len(order) <= 2 * LISTED else [*order[:LISTED], *order[-LISTED:]]
    several = trades["seed"].nunique() > 1
    rows = "".join(_trade(trades.iloc[i], interval_s, several) for i in ends)
    seed = ("seed",) if several else ()
    header = ("entry, UTC", *seed, "side", "exit by", "held for", "return", "profit")
    head = "".join(f'<th scope="col">{text}</th>' for text in header)
    return (
        '<div class="scroll" role="region" tabindex="0" aria-label="best and worst trades">'
        f'<table class="trades"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _trade(trade: pd.Series, interval_s: float, several: bool) -> str:
    times = pd.Series([trade["entry_time"], trade["exit_time"]])
    first, last = (int(ms) for ms in to_ms(times))
    room = _AROUND * round(1000 * interval_s) + (last - first)
    held = float(trade["bars_held"]) * interval_s
    cells = (
        *((str(trade["seed"]),) if several else ()),
        "long" if trade["units"] > 0 else "short",
        str(trade["exit_reason"]).replace("_", "-"),
        duration(held),
        signed_percent(float(trade["return_fraction"])),
        signed_money(trade["profit"]),
    )
    others = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    when = escape(minute(trade["entry_time"].isoformat()))
    place = f'data-from="{first - room}" data-to="{last + room}"'
    seed = escape(str(trade["seed"]))
    link = f'<a href="#candles" data-seed="{seed}" {place}>{when}</a>'
    return f'<tr><th scope="row">{link}</th>{others}</tr>'


def span_choices(folds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The folds' test parts, to be picked: number, and times in ms."""
    found = []
    for fold in folds:
        times = pd.Series(pd.to_datetime(list(fold["test"]), utc=True))
        first, last = (int(ms) for ms in to_ms(times))
        found.append({"name": f"fold {fold['fold']}", "from": first, "to": last})
    return found
