"""Rows of a trace that were drawn by hand."""

import numpy as np
import pandas as pd

from pipelines.judging.metrics import COLUMNS


def make_rows(steps, *, lane=0, episode=0, start="2025-01-01"):
    """Rows of one lane-episode, a minute apart; what a step leaves out is empty."""
    nothing = {c: np.nan for c in COLUMNS if c.endswith(("units", "price"))}
    nothing |= {"fee": 0.0, "slippage_cost": 0.0, "funding": 0.0, "position": 0.0, "close": 100.0}
    nothing |= {"open_exit_reason": "", "exit_reason": "", "equity": 1000.0, "terminated": False}
    rows = pd.DataFrame([nothing | step for step in steps])
    rows["timestamp"] = pd.date_range(start, periods=len(rows), freq="min", tz="UTC")
    return rows.assign(lane=lane, episode=episode)
