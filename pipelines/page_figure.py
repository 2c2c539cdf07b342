"""Figures of a page in the colours that its reader likes, light or dark: ``page_figure.js``.

A figure itself is light: Weights & Biases is given the same one.
"""

import json
from pathlib import Path

_SCRIPT = Path(__file__).with_name("page_figure.js")

# What a colour of a figure is in the dark; all others stay as they are.
DARK = {
    # Lines and marks: blue, orange, black, purple, green, red, grey, pink, yellow.
    "#0b62b0": "#56b4e9",
    "#b3520a": "#f08a4b",
    "#111827": "#f3f4f6",
    "#8a6fb0": "#b99af0",
    "#0f8a5f": "#2fc79a",
    "#c81e3a": "#ff7285",
    "#4b5563": "#c0c7d1",
    "#a21caf": "#e58df0",
    "#b8a300": "#e6d23c",
    "#000000": "#ffffff",
    # Outlines of marks.
    "white": "#14171c",
    # Candles, and what lies under a line.
    "#a9cabd": "#3a5a4e",
    "#dcb9b6": "#6e4543",
    "rgba(11, 98, 176, 0.18)": "rgba(86, 180, 233, 0.25)",
    "rgba(200, 30, 58, 0.15)": "rgba(255, 114, 133, 0.22)",
    # Curves of a benchmark, and its targets.
    "#2563eb": "#6ba4ff",
    "#059669": "#34d399",
    "#d97706": "#fbb040",
    "#9333ea": "#c78bff",
    "#dc2626": "#ff7b7b",
    "#6b7280": "#a3abb8",
    "#d1d5db": "#4a5360",
}


def figure_script() -> str:
    """The script that draws figures, to stand in a page after Plotly's own."""
    return f"const DARK = {json.dumps(DARK)};\n{_SCRIPT.read_text('utf-8')}"
