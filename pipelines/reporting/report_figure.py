"""How the figures of a report look, as plain values for Plotly.

A colour is the name of a variable of the page's style, such as ``--policy``: the page puts in what
it is in the light or in the dark. The accounts' colours are Okabe and Ito's, which can be told
apart whatever colours an eye sees, and no two lines of a figure share both colour and dash.
"""

from typing import Any

import pandas as pd

Figure = dict[str, Any]

# Colour and dash of every account.
LOOKS = {
    "policy": ("--policy", "solid"),
    "buy_and_hold": ("--hold", "solid"),
    "risk_matched_hold": ("--hold", "dash"),
    "matched_random": ("--random", "solid"),
    "random": ("--random", "dot"),
    "flat": ("--quiet", "dot"),
    "always_short": ("--short", "solid"),
    "momentum": ("--rule", "solid"),
    "mean_reversion": ("--rule", "dash"),
}
UNKNOWN_LOOK = ("--quiet", "dash")


def axis(title: str = "", **more: Any) -> Figure:
    """An axis with a title and the look of all axes."""
    look = {
        "title": {"text": title, "standoff": 6},
        "automargin": True,
        "gridcolor": "--line",
        "zerolinecolor": "--axis",
        "linecolor": "--axis",
        "tickangle": 0,
    }
    return look | more


def layout(height: int, **more: Any) -> Figure:
    """The layout of a figure: no title, no legend, the page's font."""
    look = {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 10, "b": 8},
        "showlegend": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "--ink"},
        "separators": ".,",
        "hoverlabel": {"bgcolor": "--paper", "bordercolor": "--quiet", "font": {"color": "--ink"}},
        "bargap": 0.08,
    }
    return look | more


def heading(text: str, y: float) -> Figure:
    """A heading above a panel whose top is at `y` of the paper."""
    return {
        "text": text,
        "x": 0.0,
        "y": y,
        "xref": "paper",
        "yref": "paper",
        "showarrow": False,
        "xanchor": "left",
        "yanchor": "bottom",
        "font": {"size": 12, "color": "--quiet"},
    }


def iso(times: pd.DatetimeIndex) -> list[str]:
    """UTC times as Plotly reads them."""
    return times.strftime("%Y-%m-%dT%H:%M:%S").tolist()


def account_title(name: str) -> str:
    """The name of an account as a person reads it."""
    return name.replace("_", "-")
