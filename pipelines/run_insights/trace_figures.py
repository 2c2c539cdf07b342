"""The two charts of a part of a trace, on one axis of frames, as Plotly's plain values.

Neither has more than `MAX_POINTS` points, however many rows the part has. The page's style sheet
gives text and grid their colours; those here can be seen on light and on dark paper.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipelines.number_text import money, signed_money
from pipelines.price_decimals import IN_FULL, units_text
from pipelines.run_insights.trace_queries import METRICS, Part

MAX_POINTS = 5_000
MAX_MARKS = 500  # trades, each with an entry and an exit
LONG, SHORT, STOP, TARGET = "#2b8fe0", "#e8762c", "#e0457b", "#17a673"
QUIET = "#8a93a0"
EXITS = {
    "stop": STOP,
    "take_profit": TARGET,
    "signal": QUIET,
    "flip": "#b06be0",
    "liquidation": "#ff3b30",
    "ruin": "#ff3b30",
    "end": "#b8920a",
}
_SYMBOLS = {"liquidation": "star-diamond", "ruin": "star", "end": "square"}
_CLEAR = "rgba(0,0,0,0)"
_MARGIN = {"l": 64, "r": 10, "t": 10, "b": 44}
_TICKS = 4
_BELOW = {"orientation": "h", "x": 0, "y": -0.14, "yanchor": "top", "font": {"size": 12}}
_MOST_BREAKS = 200  # between episodes; more are too near to be seen
Figure = dict[str, Any]
_HIDDEN = {"visible": False}
NOTHING: Figure = {
    "data": [],
    "layout": {"paper_bgcolor": _CLEAR, "plot_bgcolor": _CLEAR, "xaxis": _HIDDEN, "yaxis": _HIDDEN},
}


def metric_figure(series: pd.DataFrame, metric: str, part: Part, trade: pd.Series | None) -> Figure:
    """A metric: its mean over equal parts of the frames, and from the lowest to the highest.

    Args:
        series: from `TraceQueries.series`.
        metric: its name.
        part: that is looked at.
        trade: that is pointed at.
    """
    x = [int(frame) for frame in series["frame"]]
    low, high, mean = (_values(series[name]) for name in ("low", "high", "mean"))
    breaks = _breaks(series["first_episode"], series["last_episode"])
    if part.lane is None or len(breaks) > _MOST_BREAKS:
        breaks = []
    traces = []
    if low != high:
        look: Figure = {"line": {"width": 0}, "hovertemplate": "%{y:,.6~r}"}
        traces = [
            _line(*_pinched(x, low, mean, breaks), "lowest", **look),
            _line(*_pinched(x, high, mean, breaks), "highest", **look, fill="tonexty",
                  fillcolor=_faint(LONG)),
        ]  # fmt: skip
    name = "mean" if traces else metric
    xs, ys = _broken(x, mean, breaks)
    look = {"mode": "lines+markers", "marker": {"size": 4}} if _has_lone_point(ys) else {}
    traces.append(_line(xs, ys, name, line={"color": LONG, "width": 1.6}, **look))
    layout = _layout(part, f"{metric}, {METRICS[metric]}", trade)
    layout["xaxis"]["title"] = {"text": "frames"}
    if metric == "close":  # a coin's, and not 27.4µ
        layout["yaxis"]["tickformat"] = IN_FULL
    return {"data": traces, "layout": layout}


def candle_figure(
    candles: pd.DataFrame, marks: pd.DataFrame, part: Part, trade: pd.Series | None
) -> Figure:
    """Candles of a lane with stops, targets, entries, and exits by their reason.

    Args:
        candles: from `TraceQueries.candles`.
        marks: trades, from `TraceQueries.largest`.
        part: that is looked at.
        trade: that is pointed at.
    """
    x = [int(frame) for frame in candles["frame"]]
    times = candles["timestamp"].dt.strftime("%Y-%m-%d %H:%M").tolist()
    held = [
        f"{time} UTC<br>episode {episode}, position {units_text(position)}, equity {money(equity)}"
        for time, episode, position, equity in zip(
            times, candles["episode"], candles["position"], candles["equity"], strict=True
        )
    ]
    prices = {name: _values(candles[name]) for name in ("open", "high", "low", "close")}
    rising = {"line": {"color": "#5fa08a", "width": 1}, "fillcolor": _faint(TARGET)}
    falling = {"line": {"color": "#b07a80", "width": 1}, "fillcolor": "#b07a80"}
    traces: list[Figure] = [
        {"type": "candlestick", "x": x, **prices, "increasing": rising, "decreasing": falling,
         "name": "bars", "hovertext": held, "hoverinfo": "x+y+text", "showlegend": False}
    ]  # fmt: skip
    starts, turns = _breaks(candles["episode"], candles["episode"]), _turns(candles["position"])
    brackets = (("stop", "stop_price", STOP), ("take-profit", "take_profit_price", TARGET))
    for name, column, color in brackets:
        if candles[column].notna().any():
            look = {"color": color, "width": 1.2, "dash": "dot", "shape": "hv"}
            xs, ys = _broken(x, _values(candles[column]), sorted({*turns, *starts}))
            traces.append(_line(xs, ys, name, line=look, hoverinfo="skip"))
    traces += _entries(marks) + _exits(marks)
    layout = _layout(part, f"price of {part.market}" if part.market else "price", trade)
    if x:
        # Not at the ends, where a text is cut off or runs into those of the prices.
        at = sorted({round((i + 0.5) * (len(x) - 1) / _TICKS) for i in range(_TICKS)})
        layout["xaxis"] |= {"tickvals": [x[i] for i in at],
                            "ticktext": _tick_texts([times[i] for i in at])}  # fmt: skip
        layout["shapes"] += [_rule(x[i]) for i in starts]
        layout["yaxis"] |= {"range": _room(candles), "tickformat": IN_FULL}
        layout |= {"showlegend": True, "legend": dict(_BELOW)}
    return {"data": traces, "layout": layout}


def _tick_texts(times: Sequence[str]) -> list[str]:
    """Times of the day, and under them the date where it is another one than before."""
    days = [time.split()[0] for time in times]
    new = [i == 0 or days[i] != days[i - 1] for i in range(len(days))]
    return [f"{time.split()[1]}<br>{day}" if first else time.split()[1]
            for time, day, first in zip(times, days, new, strict=True)]  # fmt: skip


def _turns(position: pd.Series) -> list[int]:
    """Candles at whose end another side is held than at the end of the one before."""
    side = np.sign(position.to_numpy())
    return [i + 1 for i in np.flatnonzero(side[1:] != side[:-1]).tolist()]


def _entries(marks: pd.DataFrame) -> list[Figure]:
    kinds = (("long entry", 1, "triangle-up", LONG), ("short entry", -1, "triangle-down", SHORT))
    found = []
    for name, side, symbol, color in kinds:
        mine = marks[marks["units"] * side > 0]
        texts = [f"{name}, {units_text(units)} units" for units in mine["units"]]
        found.append(_marks(mine["entry_frame"], mine["entry_price"], name, texts, symbol, color))
    return [each for each in found if each["x"]]


def _exits(marks: pd.DataFrame) -> list[Figure]:
    found = []
    for reason, color in EXITS.items():
        mine = marks[marks["exit_reason"] == reason]
        label = f"exit: {reason.replace('_', '-')}"
        texts = [f"{label}, profit {signed_money(profit, 2)}" for profit in mine["profit"]]
        symbol = _SYMBOLS.get(reason, "x")
        found.append(_marks(mine["exit_frame"], mine["exit_price"], label, texts, symbol, color))
    return [each for each in found if each["x"]]


def _marks(
    frames: pd.Series, prices: pd.Series, name: str, texts: Sequence[str], symbol: str, color: str
) -> Figure:
    return {
        "type": "scatter", "mode": "markers", "name": name, "text": list(texts),
        "x": [int(frame) for frame in frames], "y": prices.tolist(),
        "hovertemplate": "%{text}<br>at %{y}<extra></extra>",
        "marker": {"symbol": symbol, "color": color, "size": 11 if len(frames) < 100 else 6,
                   "line": {"width": 1 if len(frames) < 100 else 0, "color": "#ffffff"}},
    }  # fmt: skip


def _line(x: list[Any], y: list[Any], name: str, **look: object) -> Figure:
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, **look}


def _breaks(first: pd.Series, last: pd.Series) -> list[int]:
    """Rows whose first episode is another than the last one of the row before."""
    changed = first.to_numpy()[1:] != last.to_numpy()[:-1]
    return [i + 1 for i in changed.nonzero()[0].tolist()]


def _broken(x: list[Any], y: list[Any], breaks: Sequence[int]) -> tuple[list[Any], list[Any]]:
    """Points of a line that is interrupted before some of them."""
    for place in reversed(breaks):
        x, y = [*x[:place], None, *x[place:]], [*y[:place], None, *y[place:]]
    return x, y


def _has_lone_point(y: Sequence[float | None]) -> bool:
    """Whether a value has no neighbour that it could be joined to: no line would show it."""
    around = zip([None, *y[:-1]], y, [*y[1:], None], strict=True)
    return any(
        value is not None and before is None and after is None for before, value, after in around
    )


def _pinched(
    x: list[Any], edge: list[Any], mean: list[Any], breaks: Sequence[int]
) -> tuple[list[Any], list[Any]]:
    """An edge of an area that is of no height before some points: Plotly fills across a gap."""
    for i in reversed(breaks):
        x, edge = [*x[:i], x[i - 1], x[i], *x[i:]], [*edge[:i], mean[i - 1], mean[i], *edge[i:]]
    return x, edge


def _layout(part: Part, title: str, trade: pd.Series | None) -> Figure:
    shapes = []
    if trade is not None:
        first, last = int(trade["entry_frame"]), int(trade["exit_frame"])
        look = {"line": {"width": 1, "color": QUIET}, "fillcolor": _faint(QUIET)}
        shapes.append(_from_to(first, last) | {"type": "rect", **look})
    axis = {"zeroline": False, "showgrid": True}
    return {
        "autosize": True, "showlegend": False, "hovermode": "x", "margin": dict(_MARGIN),
        "paper_bgcolor": _CLEAR, "plot_bgcolor": _CLEAR, "dragmode": "zoom", "shapes": shapes,
        "xaxis": axis | {"range": [part.first, max(part.last, part.first + 1)], "nticks": _TICKS,
                         "tickangle": 0, "rangeslider": {"visible": False}},
        "yaxis": axis | {"title": {"text": title, "font": {"size": 12}}, "fixedrange": True,
                         "automargin": True, "hoverformat": IN_FULL},
    }  # fmt: skip


def _rule(x: int) -> Figure:
    """Where an episode begins."""
    return _from_to(x, x) | {"type": "line", "line": {"width": 1, "color": QUIET, "dash": "dot"}}


def _from_to(first: int, last: int) -> Figure:
    return {"x0": first, "x1": last, "y0": 0, "y1": 1, "yref": "paper"}


def _room(candles: pd.DataFrame) -> list[float]:
    """Range of the bars and a fifth around it: wide brackets must not flatten them."""
    low, high = float(candles["low"].min()), float(candles["high"].max())
    room = 0.2 * (high - low) or 0.001 * high
    return [low - room, high + room]


def _values(column: pd.Series) -> list[float | None]:
    return [None if value is None or math.isnan(value) else value for value in column.tolist()]


def _faint(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.22)"
