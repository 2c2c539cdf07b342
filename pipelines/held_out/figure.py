"""The chart of a replay: candles with every trade, equity, position and drawdown on one time axis.

Everything is drawn from the rows of a trace. Bars that do not follow each other are never joined
by a line, and what is merged or left out to keep the page light is said in `Chart.notes`.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from envs.config import EnvConfig
from pipelines.chart_points import (
    bracket_line,
    broken_line,
    iso_times,
    long_gaps,
    merge_bars,
)
from pipelines.held_out.result import stretches
from pipelines.judging.metrics import chained_equity, completed_trades, drawdown
from pipelines.number_text import counted, signed_money
from pipelines.price_decimals import IN_FULL, UNITS_IN_FULL, price_decimals, units_text

MAX_CANDLES = 4000
MAX_TRADES = 1500
# Markers shrink as they become many: (most trades, size in px).
MARKER_SIZES = ((150, 9), (500, 6), (MAX_TRADES, 4))
# Room above and below the bars, as a fraction of their range: wide brackets must not flatten them.
BRACKET_ROOM = 0.2

LONG, SHORT = "#0b62b0", "#b3520a"
EQUITY, HOLD, QUIET = "#111827", "#8a6fb0", "#9ca3af"
OTHERS = (HOLD, "#0b62b0", "#0f8a5f", "#b3520a", "#a21caf")
NOBODY: Mapping[str, pd.DataFrame] = MappingProxyType({})
STOP, TARGET = "#c81e3a", "#0f8a5f"
EXITS = {
    "stop": STOP,
    "take_profit": TARGET,
    "signal": "#4b5563",
    "flip": "#a21caf",
    "liquidation": "#000000",
    "ruin": "#000000",
    "end": "#b8a300",
}
_EXIT_SYMBOLS = {"liquidation": "star-diamond", "ruin": "star", "end": "square"}
_PANELS = ("price", "equity", "position", "drawdown")


@dataclass(frozen=True)
class Chart:
    """A Plotly figure, and in words what it does not show."""

    figure: go.Figure
    notes: list[str]


def draw_chart(
    rows: pd.DataFrame,
    hold: pd.DataFrame,
    cfg: EnvConfig,
    *,
    interval_s: float,
    beside: Mapping[str, pd.DataFrame] = NOBODY,
) -> Chart:
    """The chart of one account.

    Args:
        rows: its trace, from `pipelines.judging.metrics.in_order`.
        hold: rows of buy-and-hold, likewise.
        cfg: the simulator's parameters.
        interval_s: length of a bar in seconds.
        beside: rows of other policies, whose equity is drawn too, by name.
    """
    rows = _with_curves(rows, cfg, interval_s)
    hold = _with_curves(hold.assign(open=np.nan, high=np.nan, low=np.nan), cfg, interval_s)
    every = math.ceil(max(len(rows), len(hold)) / MAX_CANDLES)
    trades = completed_trades(rows, cfg)
    shown = _largest(trades)
    notes = []
    if every > 1:
        notes.append(
            f"A candle is {every} bars; equity is shown at its close, drawdown at its worst. "
            "Entries and exits keep their own time and price."
        )
    if len(shown) < len(trades):
        notes.append(
            f"Drawn are the {len(shown):,} trades of {len(trades):,} that gained or lost most."
        )
    figure = make_subplots(
        rows=len(_PANELS), cols=1, shared_xaxes=True, vertical_spacing=0.045,
        row_heights=[0.5, 0.22, 0.13, 0.15],
    )  # fmt: skip
    bars = merge_bars(rows, every)
    _add_candles(figure, bars)
    _add_brackets(figure, rows, shown)
    size = next(size for most, size in MARKER_SIZES if len(shown) <= most)
    _add_entries(figure, shown, size)
    _add_exits(figure, shown, size)
    others = {"buy-and-hold": hold}
    others |= {name: _with_curves(each, cfg, interval_s) for name, each in beside.items()}
    merged = {name: merge_bars(each, every) for name, each in others.items()}
    _add_curves(figure, bars, merged, cfg)
    # Of buy-and-hold, which has all bars: the time after a ruin is no gap.
    cuts = long_gaps(hold, interval_s)
    if cuts:
        notes.append(f"Cut out of the time axis: {counted(len(cuts), 'long gap')} between bars.")
    _lay_out(figure, cuts)
    return Chart(figure, notes)


def _largest(trades: pd.DataFrame) -> pd.DataFrame:
    """As many trades as a page carries: those that gained or lost most, in the order of time."""
    return trades.loc[trades["profit"].abs().nlargest(MAX_TRADES).index].sort_index()


def _with_curves(rows: pd.DataFrame, cfg: EnvConfig, interval_s: float) -> pd.DataFrame:
    chained = chained_equity(rows, cfg.initial_cash)
    return rows.assign(
        chained=chained,
        chained_drawdown=drawdown(chained, cfg.initial_cash),
        stretch=stretches(rows["timestamp"], interval_s),
    )


def _add_candles(figure: go.Figure, bars: pd.DataFrame) -> None:
    rising = {"line": {"color": "#6b9c8b", "width": 1}, "fillcolor": "#a9cabd"}
    falling = {"line": {"color": "#b98a8a", "width": 1}, "fillcolor": "#dcb9b6"}
    prices = {name: bars[name].tolist() for name in ("open", "high", "low", "close")}
    candles = go.Candlestick(
        x=iso_times(bars["timestamp"]), **prices, increasing=rising, decreasing=falling, name="bars"
    )
    figure.add_trace(candles, row=1, col=1)
    low, high = float(bars["low"].min()), float(bars["high"].max())
    room = BRACKET_ROOM * (high - low)
    # Orders are filled between the prices that a bar may have.
    decimals = max(price_decimals(bars[list(prices)].to_numpy()), 2)
    shown = [low - room, high + room]
    figure.update_yaxes(range=shown, tickformat=IN_FULL, hoverformat=f",.{decimals}f", row=1, col=1)


def _add_entries(figure: go.Figure, trades: pd.DataFrame, size: int) -> None:
    kinds = (("long entry", 1, "triangle-up", LONG), ("short entry", -1, "triangle-down", SHORT))
    for name, side, symbol, color in kinds:
        mine = trades[np.sign(trades["units"]) == side]
        texts = [f"{name}<br>{units_text(units)} units" for units in mine["units"]]
        _add_markers(
            figure, name, mine["entry_time"], mine["entry_price"], texts, (symbol, color, size)
        )


def _add_exits(figure: go.Figure, trades: pd.DataFrame, size: int) -> None:
    for reason, color in EXITS.items():
        mine = trades[trades["exit_reason"] == reason]
        label = f"exit: {reason.replace('_', '-')}"
        texts = [f"{label}<br>profit {signed_money(profit, 2)}" for profit in mine["profit"]]
        symbol = _EXIT_SYMBOLS.get(reason, "x")
        _add_markers(
            figure, label, mine["exit_time"], mine["exit_price"], texts, (symbol, color, size)
        )


def _add_markers(
    figure: go.Figure,
    name: str,
    times: pd.Series,
    prices: pd.Series,
    texts: list[str],
    look: tuple[str, str, int],
) -> None:
    """Markers of one kind on the price panel; a kind that does not occur is left out."""
    if len(times) == 0:
        return
    symbol, color, size = look
    outline = {"color": "white", "width": 1 if size > 6 else 0.5}
    markers = go.Scatter(
        x=iso_times(times),
        y=prices.tolist(),
        mode="markers",
        name=name,
        text=texts,
        hovertemplate="%{text}<br>at %{y}<extra></extra>",
        marker={
            "symbol": symbol,
            "color": color,
            "size": size + 3 if symbol.startswith("triangle") else size,
            "line": outline,
        },
    )
    figure.add_trace(markers, row=1, col=1)


def _add_brackets(figure: go.Figure, rows: pd.DataFrame, trades: pd.DataFrame) -> None:
    """Stop and take-profit of every position that a bar's close has seen, until its exit."""
    kinds = (("stop", "stop_price", STOP), ("take-profit", "take_profit_price", TARGET))
    for name, column, color in kinds:
        times, prices = bracket_line(rows, trades, column)
        if prices:
            line = go.Scatter(
                x=times,
                y=prices,
                mode="lines",
                name=name,
                hoverinfo="skip",
                line={"color": color, "width": 1.2, "dash": "dot", "shape": "hv"},
            )
            figure.add_trace(line, row=1, col=1)


def _add_curves(
    figure: go.Figure, bars: pd.DataFrame, others: Mapping[str, pd.DataFrame], cfg: EnvConfig
) -> None:
    """Chained equity against buy-and-hold and other policies, position, and drawdown."""

    def line(panel: int, source: pd.DataFrame, column: str, name: str, **look: object) -> None:
        times, values = broken_line(source, column)
        figure.add_trace(
            go.Scatter(x=times, y=values, mode="lines", name=name, **look), row=panel, col=1
        )

    # Six digits of what the account begins with, whatever its currency is.
    decimals = max(0, 6 - len(f"{cfg.initial_cash:.0f}"))
    money, percents = f"%{{y:,.{decimals}f}}", "%{y:.2%}"
    for (name, other), color in zip(others.items(), itertools.cycle(OTHERS), strict=False):
        line(2, other, "equity", name, line={"color": color, "width": 1.5}, hovertemplate=money)
    line(2, bars, "equity", "policy", line={"color": EQUITY, "width": 2}, hovertemplate=money)
    figure.add_hline(y=cfg.initial_cash, line={"color": QUIET, "width": 1, "dash": "dot"}, row=2)
    step = {"color": LONG, "width": 1, "shape": "hv"}
    fill = {"fill": "tozeroy", "fillcolor": "rgba(11, 98, 176, 0.18)"}
    line(
        3, bars, "position", "position", line=step, hovertemplate=f"%{{y:{UNITS_IN_FULL}}}", **fill
    )
    loss = {"color": STOP, "width": 1}
    fill = {"fill": "tozeroy", "fillcolor": "rgba(200, 30, 58, 0.15)"}
    bars = bars.assign(drawdown=-bars["drawdown"])
    line(4, bars, "drawdown", "drawdown", line=loss, hovertemplate=percents, **fill)
    worst = max(0.01, 1.05 * float(-bars["drawdown"].min()))
    figure.update_yaxes(range=[-worst, 0.02 * worst], row=4, col=1)


def _lay_out(figure: go.Figure, cuts: list[list[str]]) -> None:
    titles = (
        "Price, quote currency", "Chained equity, quote currency", "Position, units", "Drawdown",
    )  # fmt: skip
    for panel, title in enumerate(titles, start=1):
        top = figure.layout["yaxis" if panel == 1 else f"yaxis{panel}"].domain[1]
        figure.add_annotation(
            text=f"<b>{title}</b>", x=0, y=top, xref="paper", yref="paper", showarrow=False,
            xanchor="left", yanchor="bottom", font={"size": 12},
        )  # fmt: skip
    figure.update_xaxes(
        rangebreaks=[{"bounds": cut} for cut in cuts],
        rangeslider_visible=False,
        nticks=6,
        tickangle=0,
        gridcolor="#eef0f3",
    )
    figure.update_yaxes(gridcolor="#eef0f3", zeroline=False, automargin=True)
    figure.update_yaxes(tickformat=".1%", row=4)
    figure.update_layout(
        autosize=True,
        showlegend=False,
        hovermode="x",
        plot_bgcolor="white",
        margin={"l": 8, "r": 8, "t": 24, "b": 28},
        font={"family": "system-ui, sans-serif", "size": 12, "color": "#1f2937"},
    )
