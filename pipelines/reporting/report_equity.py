"""The equity of a policy against its baselines, how far luck may have carried it, its drawdown."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipelines.judging.bootstrap import block_length, draw_periods
from pipelines.number_text import duration
from pipelines.reporting.report_figure import (
    LOOKS,
    UNKNOWN_LOOK,
    Figure,
    account_title,
    axis,
    heading,
    iso,
    layout,
)
from pipelines.reporting.report_inputs import ReportInputs

DRAWS = 1_000
QUANTILES = (0.05, 0.95)
# Lines that are drawn at first; the others come with a click.
SHOWN = ("policy", "buy_and_hold", "risk_matched_hold", "matched_random", "flat")
_MOST_SEEDS = 12
_HEIGHT, _EQUITY, _DRAWDOWN = 560, (0.34, 0.96), (0.0, 0.26)


@dataclass(frozen=True)
class Band:
    """Where an account may be at the end of each period.

    Attributes:
        times: ends of the periods, the beginning of the first before them.
        low: growth, the lower quantile, float64 [periods + 1].
        high: the upper.
        block: mean length of the redrawn blocks, in periods.
    """

    times: pd.DatetimeIndex
    low: np.ndarray
    high: np.ndarray
    block: float


def redrawn_band(returns: pd.Series, period_s: float, *, draws: int = DRAWS) -> Band:
    """5 % and 95 % of accounts that earn a policy's own returns, drawn again in blocks.

    Args:
        returns: over periods, by their beginning.
        period_s: length of a period in seconds.
        draws: accounts.
    """
    values = returns.to_numpy(np.float64)
    block = block_length(values)
    drawn = draw_periods(len(values), block, draws=draws)
    growth = np.cumprod(1.0 + values[drawn], axis=1)
    low, high = np.quantile(growth, QUANTILES, axis=0)
    one = np.ones(1)
    times = period_ends(pd.DatetimeIndex(returns.index), period_s)
    return Band(times, np.concatenate([one, low]), np.concatenate([one, high]), block)


def period_ends(begins: pd.DatetimeIndex, period_s: float) -> pd.DatetimeIndex:
    """The beginning of the first period, and the end of every one."""
    ends = begins + pd.Timedelta(seconds=period_s)
    return pd.DatetimeIndex([begins[0], *ends])


def draw_equity(inputs: ReportInputs) -> tuple[Figure, list[str]]:
    """The figure, and in words what it shows."""
    period_s = 3600.0 * float(inputs.values["verdict"]["findings"]["period_hours"])
    band = redrawn_band(inputs.returns["policy"], period_s)
    traces = [*_band(band), *_seeds(inputs, period_s), *_accounts(inputs.equity)]
    drawdown = _drawdown(inputs.equity)
    worst = max(0.01, -1.05 * min(drawdown["y"]))
    drawn = [min(trace["y"]) for trace in traces if trace.get("visible", True)]
    scale = "log" if min(drawn) > 0.0 else "linear"
    figure = {
        "data": [*traces, drawdown],
        "layout": layout(
            _HEIGHT,
            hovermode="x unified",
            annotations=[
                heading(f"Growth, x the beginning, {scale} scale", _EQUITY[1]),
                heading("Drawdown of the policy", _DRAWDOWN[1]),
            ],
            xaxis=axis(anchor="y2", type="date", nticks=8, hoverformat="%Y-%m-%d %H:%M"),
            yaxis=axis(domain=_EQUITY, type=scale, tickformat=",.4~g"),
            yaxis2=axis(domain=_DRAWDOWN, tickformat=",.3~%", nticks=4, range=[-worst, 0.0]),
        ),
    }
    return figure, _words(inputs, band, period_s)


def _words(inputs: ReportInputs, band: Band, period_s: float) -> list[str]:
    bars, points = inputs.values["bars"]["bars"], len(inputs.equity)
    words = [
        f"The band, 5 % to 95 %, holds 90 % of {DRAWS:,} accounts that earn the policy's own "
        f"returns, of {duration(period_s)} each, drawn again by a stationary bootstrap in blocks "
        f"of {band.block:.3g} in the mean. It shows how far luck alone carries an account like "
        "this one, not where this one will go.",
    ]
    if points < bars:
        words.append(
            f"The curves have {points:,} of {bars:,} bars: between two points an account may have "
            "been lower. The figures below know all bars."
        )
    if len(inputs.values["seeds"]) > 1:
        words.append(
            "The policy is an account with an equal share of each seed, made equal again with "
            "every period that is tested; thin: the seeds."
        )
    return words


def _band(band: Band) -> list[Figure]:
    times = iso(band.times)
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "legendgroup": "band"}
    high = {"x": times, "y": band.high.tolist(), "name": "5-95 % band", **edge}
    low = {"x": times, "y": band.low.tolist(), "name": "5-95 % band", **edge}
    return [high, low | {"fill": "tonexty", "fillcolor": "--band"}]


def _seeds(inputs: ReportInputs, period_s: float) -> list[Figure]:
    names = [seed["name"] for seed in inputs.values["seeds"]]
    names = [name for name in names if name in inputs.returns]
    if not 1 < len(names) <= _MOST_SEEDS:
        return []
    times = iso(period_ends(pd.DatetimeIndex(inputs.returns.index), period_s))
    growth = (1.0 + inputs.returns[names]).cumprod()
    return [
        {
            "x": times,
            "y": [1.0, *growth[name].tolist()],
            "name": name,
            "mode": "lines",
            "line": {"color": "--policy", "width": 0.8},
            "opacity": 0.55,
            "legendgroup": "seeds",
            "hovertemplate": "%{y:,.4~g}",
        }
        for name in names
    ]


def _accounts(equity: pd.DataFrame) -> list[Figure]:
    """A line for every account, the policy's above the others."""
    times = iso(pd.DatetimeIndex(equity.index))
    names = sorted(equity.columns, key=lambda name: name == "policy")
    return [_line(times, equity[name], str(name)) for name in names]


def _line(times: list[str], growth: pd.Series, name: str) -> dict[str, Any]:
    color, dash = LOOKS.get(name, UNKNOWN_LOOK)
    return {
        "x": times,
        "y": growth.tolist(),
        "name": account_title(name),
        "mode": "lines",
        "line": {
            "color": color,
            "dash": dash,
            "width": 2.2 if name == "policy" else 1.4,
            "shape": "hv",  # over a gap nothing moves
        },
        "visible": name in SHOWN,
        "hovertemplate": "%{y:,.4~g}",
    }


def _drawdown(equity: pd.DataFrame) -> Figure:
    growth = equity["policy"].to_numpy()
    lost = growth / np.maximum.accumulate(np.maximum(growth, 1.0)) - 1.0
    return {
        "x": iso(pd.DatetimeIndex(equity.index)),
        "y": lost.tolist(),
        "name": "drawdown",
        "mode": "lines",
        "yaxis": "y2",
        "line": {"color": "--loss", "width": 1, "shape": "hv"},
        "fill": "tozeroy",
        "fillcolor": "--loss-fill",
        "hovertemplate": "%{y:.2%}",
    }
