"""What an account earned over the tiles of a split, measured on the rows of its trace.

Every function takes the trace's own columns, whatever wrote them: the policy's trace read from its
file, or a baseline's rollout that never became one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from envs.config import BPS, EnvConfig

COLUMNS = (
    "lane",
    "episode",
    "timestamp",
    "close",
    "open_exit_reason",
    "open_exit_units",
    "open_exit_price",
    "entry_units",
    "entry_fill_price",
    "exit_reason",
    "exit_units",
    "exit_price",
    "fee",
    "slippage_cost",
    "funding",
    "position",
    "equity",
    "terminated",
)


@dataclass(frozen=True)
class Metrics:
    """One account's result. Fractions are fractions (0.01 is 1 %), money is in quote currency.

    Every tile starts with a fresh account, so sums of money are over accounts of the initial cash.
    """

    total_return: float  # fraction, chained over the tiles by compounding
    max_drawdown: float  # fraction, of the chained equity at the closes
    trades: int  # positions opened and closed
    hit_rate: float | None  # fraction of trades that earned money after all costs; None: no trade
    exposure: float  # fraction of bars at whose close a position was held
    turnover: float  # notional of all fills, in multiples of the initial cash
    fees: float
    slippage_cost: float
    funding: float
    tiles: int
    ruined: int  # tiles that ended in ruin
    bars: int


def in_order(trace: pd.DataFrame) -> pd.DataFrame:
    """Rows of a trace in the order of time, numbered by tile.

    Returns:
        A copy with a column `tile`: the lane-episodes, counted from 0 in the order of time.

    Raises:
        ValueError: if columns are missing, there are no rows, or two lane-episodes overlap in
            time, so that their returns could not be chained.
    """
    missing = [name for name in COLUMNS if name not in trace.columns]
    if missing:
        raise ValueError(f"the trace has no column {', '.join(missing)}")
    if trace.empty:
        raise ValueError("the trace has no rows: nothing was replayed")
    episodes = trace.groupby(["lane", "episode"])["timestamp"].agg(["min", "max"])
    episodes = episodes.sort_values("min")
    overlaps = np.flatnonzero(
        episodes["min"].to_numpy()[1:] <= episodes["max"].to_numpy()[:-1],
    )
    if len(overlaps):
        pair = [tuple(map(int, episodes.index[overlaps[0] + shift])) for shift in (0, 1)]
        raise ValueError(
            f"(lane, episode) {pair[0]} and {pair[1]} overlap in time: returns are chained over "
            "one account's episodes, each of which starts after the last has ended"
        )
    tile = pd.Series(np.arange(len(episodes)), index=episodes.index, name="tile")
    rows = trace.join(tile, on=["lane", "episode"])
    return rows.sort_values("timestamp", kind="stable", ignore_index=True)


def join_parts(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Rows of several traces of one account, with lanes of their own."""
    lanes = np.cumsum([0, *(int(rows["lane"].max()) + 1 for rows in parts)])
    shifted = [
        rows.assign(lane=rows["lane"] + lane) for rows, lane in zip(parts, lanes, strict=False)
    ]
    return pd.concat(shifted, ignore_index=True)


def chained_equity(rows: pd.DataFrame, initial_cash: float) -> pd.Series:
    """Equity of one account that carries each tile's return into the next.

    ``chained_t = equity_t * prod(final equity / initial cash)`` over the tiles before; a tile that
    ends below zero counts as a total loss.

    Args:
        rows: a trace from `in_order`.
        initial_cash: what every tile starts with, quote currency.
    """
    growth = rows["equity"].clip(lower=0.0) / initial_cash
    final = growth.groupby(rows["tile"]).last()
    before = final.cumprod().shift(fill_value=1.0)
    return initial_cash * growth * before.reindex(rows["tile"]).to_numpy()


def drawdown(equity: pd.Series, initial_cash: float) -> pd.Series:
    """Fraction of the highest equity so far, the initial cash included, that is lost."""
    return 1.0 - equity / equity.cummax().clip(lower=initial_cash)


def completed_trades(rows: pd.DataFrame, cfg: EnvConfig) -> pd.DataFrame:
    """One row a position that was opened and closed.

    An account holds one position at a time and always closes all of it, so the n-th entry of a
    tile belongs to its n-th exit. The profits of an account that ends flat sum to the change of
    its equity.

    Args:
        rows: a trace from `in_order`.
        cfg: the simulator's parameters; the fee rates are read.

    Returns:
        Columns `tile`, `units` (signed), `entry_row`, `entry_time`, `entry_price`, `exit_row`,
        `exit_time`, `exit_price`, `exit_reason`, `bars_held` (those it was held in, a part of one
        counts as one) and `profit` (quote currency, after fees and funding).
    """
    entries = _events(rows, "entry_units", "entry_fill_price", None, "entry")
    at_open = _events(rows, "open_exit_units", "open_exit_price", "open_exit_reason", "exit")
    within = _events(rows, "exit_units", "exit_price", "exit_reason", "exit")
    exits = pd.concat([at_open.assign(late=0), within.assign(late=1)])
    exits = exits.sort_values(["exit_row", "late"], ignore_index=True)
    for events in (entries, exits):
        events["number"] = events.groupby("tile").cumcount()
    trades = entries.merge(exits, on=["tile", "number"], suffixes=("", "_exit"))
    taker, maker = cfg.taker_fee_bps * BPS, cfg.maker_fee_bps * BPS
    exit_rate = np.where(trades["exit_reason"] == "take_profit", maker, taker)
    fees = trades["units"].abs() * (
        trades["entry_price"] * taker + trades["exit_price"] * exit_rate
    )
    # A position closed at the open is no longer there when the bar's funding is paid.
    paid = np.concatenate([[0.0], rows["funding"].to_numpy().cumsum()])
    funding = paid[trades["exit_row"] + trades["late"]] - paid[trades["entry_row"]]
    gross = trades["units"] * (trades["exit_price"] - trades["entry_price"])
    trades["profit"] = gross - fees - funding
    trades["bars_held"] = trades["exit_row"] + trades["late"] - trades["entry_row"]
    return trades.drop(columns=["number", "late", "units_exit"])


def _events(
    rows: pd.DataFrame, units: str, price: str, reason: str | None, kind: str
) -> pd.DataFrame:
    """Rows with a fill of one kind, under common names."""
    here = np.flatnonzero(rows[units].fillna(0.0).to_numpy() != 0.0)
    columns = {"tile": "tile", units: "units", "timestamp": f"{kind}_time", price: f"{kind}_price"}
    if reason is not None:
        columns[reason] = f"{kind}_reason"
    return rows[list(columns)].iloc[here].rename(columns=columns).assign(**{f"{kind}_row": here})


def measure(rows: pd.DataFrame, cfg: EnvConfig) -> Metrics:
    """The result of the account whose trace is `rows` (from `in_order`)."""
    equity = chained_equity(rows, cfg.initial_cash)
    profits = completed_trades(rows, cfg)["profit"]
    return Metrics(
        total_return=float(equity.iloc[-1] / cfg.initial_cash - 1.0),
        max_drawdown=float(drawdown(equity, cfg.initial_cash).max()),
        trades=len(profits),
        hit_rate=float((profits > 0).mean()) if len(profits) else None,
        exposure=float((rows["position"] != 0).mean()),
        turnover=_notional(rows) / cfg.initial_cash,
        fees=float(rows["fee"].sum()),
        slippage_cost=float(rows["slippage_cost"].sum()),
        funding=float(rows["funding"].sum()),
        tiles=int(rows["tile"].nunique()),
        ruined=int(rows.groupby("tile")["terminated"].any().sum()),
        bars=len(rows),
    )


def _notional(rows: pd.DataFrame) -> float:
    """Quote currency that changed hands: |units| * price over all fills."""
    fills = (
        ("open_exit_units", "open_exit_price"),
        ("entry_units", "entry_fill_price"),
        ("exit_units", "exit_price"),
    )
    return float(sum((rows[units].abs() * rows[price]).sum() for units, price in fills))
