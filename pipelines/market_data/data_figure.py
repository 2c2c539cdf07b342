"""The charts of a file of bars: the calendar of what is present, and price with the splits.

Colours of text and lines are the page's, which knows whether it is light or dark.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from envs.bars import Bars
from pipelines.chart_points import long_gaps
from pipelines.market_data.data_quality import DataQuality
from pipelines.number_text import counted, minute
from pipelines.price_decimals import IN_FULL

MAX_POINTS = 5000
# Of a day's bars at least so many are present, in the order of `SHADES`.
STEPS = (0.0, 1e-9, 0.5, 0.9, 0.99, 1.0)
STEP_NAMES = ("none", "under 50 %", "from 50 %", "from 90 %", "from 99 %", "all")
SHADES = ("#b2182b", "#e8743b", "#f2b04a", "#c9d9a0", "#6fb3c4", "#2f6f9f")
PRICE, RANGE, VOLUME, OUTLIER = "#2f7ed8", "rgba(47, 126, 216, 0.30)", "#8a94a6", "#d9480f"
SPLIT_SHADES = {
    "train": "rgba(47, 111, 159, 0.13)",
    "val": "rgba(242, 176, 74, 0.26)",
    "test": "rgba(94, 160, 90, 0.26)",
}
TICKS = 6
_MONTH_PX, _FRAME_PX = 17, 48


def draw_calendar(quality: DataQuality) -> go.Figure:
    """A row a month, a column a day, shaded by the share of bars that are present."""
    days = pd.DataFrame(quality.days)
    dates = pd.to_datetime(days["day"])
    months = dates.dt.strftime("%Y-%m")
    rows = pd.period_range(months.iloc[0], months.iloc[-1], freq="M").astype(str).tolist()
    shape = (len(rows), 31)
    shades = np.full(shape, np.nan)
    texts = np.full(shape, "", dtype=object)
    at = months.map({month: i for i, month in enumerate(rows)}).to_numpy(), dates.dt.day - 1
    share = (days["present"] / days["expected"].clip(lower=1)).to_numpy()
    shades[at] = np.where(days["expected"] > 0, np.digitize(share, STEPS) - 1, np.nan)
    texts[at] = [
        f"{day}<br>{present:,} of {expected:,} bars, {part:.2%}"
        for day, present, expected, part in zip(
            days["day"], days["present"], days["expected"], share, strict=True
        )
    ]
    heatmap = go.Heatmap(
        z=[[None if np.isnan(value) else int(value) for value in row] for row in shades],
        x=list(range(1, 32)),
        y=rows,
        text=texts.tolist(),
        hovertemplate="%{text}<extra></extra>",
        colorscale=_stepped(SHADES),
        zmin=-0.5,
        zmax=len(SHADES) - 0.5,
        showscale=False,
        xgap=1,
        ygap=1,
    )
    figure = go.Figure(heatmap)
    figure.update_yaxes(autorange="reversed", type="category", nticks=min(len(rows), 40))
    figure.update_xaxes(dtick=5, tick0=5, side="top", fixedrange=True, showgrid=False)
    figure.update_yaxes(fixedrange=True, showgrid=False)
    _lay_out(figure, height=_FRAME_PX + _MONTH_PX * len(rows), top=24)
    return figure


def draw_prices(bars: Bars, quality: DataQuality) -> tuple[go.Figure, list[str]]:
    """Close within the range of high and low, volume, the splits and the outliers.

    Returns:
        The figure, and in sentences what a point of it is and what it does not show.
    """
    points, every = merge_points(bars)
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.09, row_heights=[0.78, 0.22]
    )
    _add_range(figure, points)
    _add_line(figure, 1, points, "close", PRICE)
    _add_outliers(figure, quality)
    _add_line(figure, 2, points, "volume", VOLUME)
    _add_splits(figure, quality)
    cuts = _long_gaps(bars)
    ends = [points["time"].iloc[0], points["time"].iloc[-1]]
    breaks = [{"bounds": cut} for cut in cuts]
    ticks = round(TICKS * _length_ratio(ends, cuts))
    figure.update_xaxes(nticks=ticks, tickangle=0, range=ends, rangebreaks=breaks)
    figure.update_yaxes(nticks=6)
    figure.update_yaxes(tickformat=IN_FULL, row=1, col=1)
    _lay_out(figure, height=480, top=34)
    for axis, title in (("y", "Price"), ("y2", "Volume")):
        figure.add_annotation(
            text=f"<b>{title}</b>", x=0, y=1, xref="paper", yref=f"{axis} domain",
            showarrow=False, xanchor="left", yanchor="bottom",
        )  # fmt: skip
    length = _length(every * bars.interval_s)
    notes = [f"A point is {every:,} bars ({length})." if every > 1 else "A point is a bar."]
    if cuts:
        notes.append(f"Cut out of the time axis: {counted(len(cuts), 'long hole')}.")
    return figure, notes


def _add_range(figure: go.Figure, points: pd.DataFrame) -> None:
    """From low to high: a closed area for each run of points, so that none spans a hole."""
    times: list[str | None] = []
    values: list[float | None] = []
    run = points["close"].isna().cumsum()
    for _, part in points.dropna().groupby(run):
        times += [*part["time"], *part["time"][::-1], None]
        values += [*_plain(part["high"]), *_plain(part["low"][::-1]), None]
    area = go.Scatter(
        x=times, y=values, fill="toself", fillcolor=RANGE, mode="lines", line={"width": 0},
        hoverinfo="skip", name="low to high",
    )  # fmt: skip
    figure.add_trace(area, row=1, col=1)


def _add_line(figure: go.Figure, panel: int, points: pd.DataFrame, column: str, color: str) -> None:
    line = go.Scatter(
        x=points["time"].tolist(),
        y=_plain(points[column]),
        mode="lines",
        name=column,
        line={"color": color, "width": 1.2},
        hovertemplate="%{y:" + IN_FULL + "}<extra>" + column + "</extra>",
    )
    figure.add_trace(line, row=panel, col=1)


def _long_gaps(bars: Bars) -> list[list[str]]:
    """Holes that would leave too little room for the bars, as the replay's chart cuts them."""
    rows = pd.DataFrame({"timestamp": pd.to_datetime(bars.time_ns, unit="ns")})
    return long_gaps(rows, bars.interval_s)


def _length_ratio(ends: list[str], cuts: list[list[str]]) -> float:
    """Length of an axis over what the cuts leave of it: Plotly counts ticks on all of it."""
    whole, *parts = [
        (pd.Timestamp(end) - pd.Timestamp(start)).total_seconds() for start, end in [ends, *cuts]
    ]
    return whole / max(whole - sum(parts), 1.0) if whole else 1.0


def merge_points(bars: Bars) -> tuple[pd.DataFrame, int]:
    """Merge so many consecutive bars into a point that there are at most `MAX_POINTS`.

    Returns:
        `time` (ISO text of the first opening time), `high`, `low`, `close` and `volume`, with an
        empty row wherever a segment ends between two points; and the bars of a point.
    """
    there = ~bars.filled
    every = -(-int(there.sum()) // MAX_POINTS)
    values = pd.DataFrame(bars.ohlcv[there, 1:], columns=["high", "low", "close", "volume"])
    values = values.assign(time=bars.time_ns[there], segment=bars.segment[there])
    merged = values.groupby(np.arange(len(values)) // every).agg(
        time=("time", "first"),
        segment=("segment", "first"),
        high=("high", "max"),
        low=("low", "min"),
        close=("close", "last"),
        volume=("volume", "sum"),
    )
    # A line must not run across what is missing.
    ends = np.flatnonzero(np.diff(merged["segment"]))
    empty = pd.DataFrame({"time": merged["time"].to_numpy()[ends]}, index=ends + 0.5)
    merged = pd.concat([merged.drop(columns="segment"), empty]).sort_index()
    stamps = pd.to_datetime(merged["time"].to_numpy(), unit="ns")
    merged["time"] = stamps.strftime("%Y-%m-%dT%H:%M:%S")
    return merged.reset_index(drop=True), every


def _add_outliers(figure: go.Figure, quality: DataQuality) -> None:
    rows = quality.outliers.rows
    if not rows:
        return
    texts = [
        f"outlier {minute(row['time'])}<br>{row['reach_frac']:+.2%}, "
        f"{row['times_usual']:,.0f} times the usual"
        for row in rows
    ]
    markers = go.Scatter(
        x=[row["time"][:19] for row in rows],
        y=[row["price"] for row in rows],
        mode="markers",
        name="outlier",
        text=texts,
        hovertemplate="%{text}<extra></extra>",
        marker={"color": OUTLIER, "size": 6, "symbol": "circle-open", "line": {"width": 1.5}},
    )
    figure.add_trace(markers, row=1, col=1)


def _add_splits(figure: go.Figure, quality: DataQuality) -> None:
    """Shade the time of each split, its name at the top."""
    for place, row in enumerate(quality.splits):
        first, last = row["first"][:19], row["last"][:19]
        shade = {"fillcolor": SPLIT_SHADES[row["split"]], "line_width": 0, "layer": "below"}
        figure.add_vrect(x0=first, x1=last, row="all", col=1, **shade)
        # One below the other: side by side they would overlap on a phone.
        figure.add_annotation(
            text=row["split"], x=first, y=1, xref="x", yref="y domain", showarrow=False,
            xanchor="left", yanchor="top", yshift=-14 * place,
        )  # fmt: skip


def _lay_out(figure: go.Figure, *, height: int, top: int) -> None:
    figure.update_layout(
        autosize=True,
        height=height,
        showlegend=False,
        hovermode="closest",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 8, "t": top, "b": 24},
        font={"family": "system-ui, sans-serif", "size": 12},
    )
    figure.update_xaxes(zeroline=False)
    figure.update_yaxes(zeroline=False, automargin=True)


def _stepped(colors: tuple[str, ...]) -> list[list[object]]:
    """A colour scale without transitions."""
    count = len(colors)
    return [[edge / count, color] for i, color in enumerate(colors) for edge in (i, i + 1)]


def _plain(column: pd.Series) -> list[float | None]:
    return [None if np.isnan(value) else float(f"{value:.10g}") for value in column]


def _length(seconds: float) -> str:
    for name, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.3g} {name}"
    return f"{seconds:,.3g} seconds"
