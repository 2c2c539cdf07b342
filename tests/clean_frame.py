"""A clean frame of bars."""

import numpy as np
import pandas as pd


def clean(rows=60):
    """A market of one-minute bars, text in every cell."""
    rng = np.random.default_rng(0)
    close = 1000.0 + np.cumsum(rng.integers(-5, 6, rows))
    open_ = np.append(close[0], close[:-1])
    times = pd.date_range("2024-03-01", periods=rows, freq="min", tz="UTC")
    frame = pd.DataFrame(
        {
            "timestamp": times.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "open": open_,
            "high": np.maximum(open_, close) + 1,
            "low": np.minimum(open_, close) - 1,
            "close": close,
            "volume": rng.integers(1, 9, rows).astype(float),
        }
    )
    return frame.astype(str)
