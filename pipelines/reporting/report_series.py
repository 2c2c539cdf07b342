"""Bars and trades of an evaluation as compact arrays, from which the page draws any stretch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipelines.price_decimals import price_decimals
from pipelines.reporting.packed_arrays import pack, zigzag
from pipelines.reporting.report_trades import SeedTrades

# Trades of all seeds that a page carries; of more, those that gained or lost most.
MAX_TRADES = 200_000
_PRICES = ("open", "high", "low", "close")
REASONS = ("signal", "flip", "stop", "take_profit", "liquidation", "ruin", "end")


@dataclass(frozen=True)
class Bars:
    """The bars that were played, each once.

    Attributes:
        time_ms: int64 [N], opening times, ms since 1970 UTC, rising.
        prices: float64 [N, 4], open, high, low, close.
        interval_ms: length of a bar.
    """

    time_ms: np.ndarray
    prices: np.ndarray
    interval_ms: int

    @classmethod
    def of(cls, frames: Sequence[pd.DataFrame], interval_s: float) -> "Bars":
        """The bars of all seeds' rows.

        An account that was ruined has no rows until its tile ends; another seed may have them.

        Args:
            frames: with columns `timestamp`, `open`, `high`, `low` and `close`.
            interval_s: length of a bar in seconds.
        """
        rows = pd.concat([frame[["timestamp", *_PRICES]] for frame in frames])
        rows = rows.drop_duplicates("timestamp").sort_values("timestamp")
        interval_ms = round(1000.0 * interval_s)
        return cls(to_ms(rows["timestamp"]), rows[list(_PRICES)].to_numpy(), interval_ms)

    def pack(self) -> dict[str, Any]:
        """The bars for the page.

        Prices are whole numbers of ``10^-decimals``. The open is stored as its step from the last
        close, the close as its step from the open, high and low as the lengths of the wicks.

        Returns:
            As from `pipelines.reporting.packed_arrays.pack`, with ``decimals`` and ``interval_ms``.
        """
        decimals = price_decimals(self.prices)
        ticks = np.rint(self.prices * 10.0**decimals).astype(np.int64)
        opens, highs, lows, closes = ticks.T
        begins = np.flatnonzero(np.diff(self.time_ms, prepend=-1) != self.interval_ms)
        arrays: dict[str, np.ndarray] = {
            "begin_ms": self.time_ms[begins].astype(np.float64),
            "count": np.diff(np.append(begins, len(ticks))).astype(np.int32),
            "open": zigzag(opens - np.concatenate([[0], closes[:-1]])),
            "close": zigzag(closes - opens),
            "high": zigzag(highs - np.maximum(opens, closes)),
            "low": zigzag(np.minimum(opens, closes) - lows),
        }
        return {**pack(arrays), "decimals": decimals, "interval_ms": self.interval_ms}


def pack_trades(seed: SeedTrades, bars: Bars, most: int) -> dict[str, Any]:
    """The trades of a seed for the page, in the order of their entries.

    Args:
        seed: what it traded.
        bars: whose numbers the trades name.
        most: trades to keep, those that gained or lost most.

    Returns:
        As from `pipelines.reporting.packed_arrays.pack`, with ``total``, the number of all trades.
        `level` numbers the first of a trade's steps of stop and target in ``level_bar``, ``stop``
        and ``target``; a target or stop of NaN is none.
    """
    trades = seed.trades
    kept = np.sort(trades["profit"].abs().to_numpy().argsort(kind="stable")[::-1][:most])
    trades = trades.iloc[kept]
    entry, leave = (
        np.searchsorted(bars.time_ms, to_ms(trades[f"{kind}_time"])) for kind in ("entry", "exit")
    )
    levels = seed.levels[np.isin(seed.levels["trade"].to_numpy(), kept)]
    number = np.searchsorted(levels["trade"].to_numpy(), kept)
    arrays = {
        "entry": np.diff(entry, prepend=0).astype(np.int32),
        "held": (leave - entry).astype(np.int32),
        "entry_price": trades["entry_price"].to_numpy(np.float32),
        "exit_price": trades["exit_price"].to_numpy(np.float32),
        "units": trades["units"].to_numpy(np.float32),
        "profit": trades["profit"].to_numpy(np.float32),
        "reason": trades["exit_reason"].map(REASONS.index).to_numpy(np.uint8),
        "level": number.astype(np.int32),
        "level_bar": np.searchsorted(bars.time_ms, to_ms(levels["time"])).astype(np.int32),
        "stop": levels["stop_price"].to_numpy(np.float32),
        "target": levels["take_profit_price"].to_numpy(np.float32),
    }
    return {**pack(arrays), "name": seed.name, "total": len(seed.trades)}


def to_ms(times: pd.Series) -> np.ndarray:
    """Milliseconds since 1970 UTC, int64."""
    return times.dt.as_unit("ms").astype("int64").to_numpy()
