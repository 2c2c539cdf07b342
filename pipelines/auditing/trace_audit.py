"""The audit of a trace: every row explained from the price file, or the first that cannot be."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from pipelines.auditing.audit_order import Lane, Order
from pipelines.auditing.audit_rows import OUTCOME, OUTCOME_SLICE, Row, read_chunks, read_sidecar
from pipelines.auditing.audit_rules import rule_of
from pipelines.auditing.double_entry import Account, Fill, Prices, Step, Terms
from pipelines.auditing.double_entry import Order as Wanted
from pipelines.auditing.price_file import PriceFile, files_of, prices_sha256, read_prices

RELATIVE = 1e-11
# What a difference is measured by: the account where large numbers cancel, else the number itself.
_OF_ACCOUNT = {"cash": 1.0, "equity": 1.0, "slippage_cost": 1e-3}
_RATIOS = ("drawdown", "reward")
_TEXTS = ("run_id", "split", "asset")
_BAR = ("open", "high", "low", "close", "volume")


@dataclass
class Totals:
    """What a trace adds up to; money in quote currency.

    `profit` is the change of every account's equity; `moves` what prices moved over what was held
    and filled. The one is the other less `fees`, `slippage_cost` and `funding`.
    """

    rows: int = 0
    lanes: int = 0
    episodes: int = 0
    ruined: int = 0
    truncated: int = 0
    first_ns: int = 0
    last_ns: int = 0
    fills: Counter[str] = field(default_factory=Counter)
    unfilled: int = 0
    fees: float = 0.0
    slippage_cost: float = 0.0
    funding: float = 0.0
    moves: float = 0.0
    profit: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def difference(self) -> float:
        """What the two ways to reckon the profit differ by."""
        return self.profit - (self.moves - self.fees - self.slippage_cost - self.funding)


def audit_trace(
    trace: str | Path, prices: str | Path | Mapping[str, str], *, fill_gap_bars: int = 3
) -> Totals:
    """Explain every row of a trace from the price file and the parameters beside it.

    Args:
        trace: CSV or parquet; read in chunks, its size does not matter.
        prices: the file or folder of bars that was traded on; of several markets, each by name.
        fill_gap_bars: as the run was given it.

    Raises:
        DoesNotAddUp: at the first row that cannot be explained.
        OSError: if a file is missing.
        ValueError: if one cannot be read, or holds no rows; if the trace is of several markets and
            the files are not, or are of others.
    """
    trace = Path(trace)
    about = read_sidecar(trace)
    terms = Terms(about["simulator"], about["interval_s"])
    files = files_of(trace, about, prices)
    interval_ns = round(about["interval_s"] * 1e9)
    read = {name: read_prices(path, interval_ns, fill_gap_bars) for name, path in files.items()}
    bars = PriceFile.join(read) if "assets" in about else next(iter(read.values()))
    audit = Audit(terms, bars, about)
    for columns in read_chunks(trace):
        audit.chunk(columns)
    totals = audit.finish()
    if not totals.rows:
        raise ValueError(f"{trace}: no rows")
    for name, path in files.items():
        data = about["assets"][name] if "assets" in about else about["data"]
        if data.get("sha256") not in ("", prices_sha256(path)):
            totals.notes.append(
                f"{path.name} is not the very file that the run read ({data.get('file')}), "
                "but has every bar of the trace"
            )
    return totals


class Audit:
    """Goes through the rows of one trace.

    Args:
        terms: the parameters.
        prices: the bars.
        about: the JSON beside the trace.
    """

    def __init__(self, terms: Terms, prices: PriceFile, about: dict[str, Any]) -> None:
        self.terms, self.prices = terms, prices
        self.texts = tuple(about.get(name) for name in _TEXTS)
        if prices.spans:  # every row has its own market, which finds its bar
            self.texts = self.texts[:-1]
        self.order = Order(terms, prices, about.get("lanes"))
        self.totals = Totals()
        self.visited = np.zeros(len(prices.time_ns), dtype=bool)
        self.shares = tuple(_OF_ACCOUNT.get(name, 0.0) for name in OUTCOME)
        self.least = tuple(100.0 if name in _RATIOS else 0.0 for name in OUTCOME)

    def chunk(self, columns: list[list[Any]]) -> None:
        """The next rows, as `read_chunks` has them.

        Raises:
            DoesNotAddUp: at the first row that cannot be explained.
        """
        times = columns[Row._fields.index("timestamp")]
        assets = columns[Row._fields.index("asset")]
        at = self.prices.find(np.array([time or 0 for time in times], dtype=np.int64), assets)
        self.visited[at[at >= 0]] = True
        bars = self.prices.ohlcv[at].tolist()
        volumes = self.prices.ohlcv[at - 1, 4].tolist()
        rows = map(Row._make, zip(*columns, strict=True))
        for row, where, bar, volume in zip(rows, at.tolist(), bars, volumes, strict=True):
            self.totals.rows += 1
            self._row(row, where, bar, volume)

    def finish(self) -> Totals:
        """The totals, after what only the end can tell.

        Raises:
            DoesNotAddUp: for a tile that ended too early, or not at all.
        """
        self.order.finish(self.visited)
        totals, lanes = self.totals, self.order.lanes.values()
        totals.lanes = len(lanes)
        open_ = [lane for lane in lanes if not lane.end]
        totals.profit += math.fsum(lane.equity - self.terms.initial_cash for lane in open_)
        totals.episodes = totals.ruined + totals.truncated + len(open_)
        kept = self.order.kept
        num_lanes = self.terms.paths * self.terms.accounts if kept is None else len(kept)
        if not self.terms.flatten_at_end and totals.rows % num_lanes:
            totals.notes.append("the file ends within a step of the batch: it was cut off")
        return totals

    def _row(self, row: Row, at: int, bar: list[float], volume: float) -> None:
        order = self.order
        if self.totals.rows == 1:
            self.totals.first_ns = row.timestamp or 0
        lane = order.place(self.totals.rows, row, at)
        if row[: len(self.texts)] != self.texts:
            self._texts(row)
        if [row.open, row.high, row.low, row.close, row.volume] != bar:
            self._bar(row, bar)
        wanted = self._action(row)
        prices = Prices(row.open, row.high, row.low, row.close, volume)
        last = order.is_last(lane)
        account = lane.account
        before = account.cash, account.position, account.stop, account.target
        step = lane.account.live(wanted, prices, last=last)
        self._outcome(lane, row, step, wanted, before)
        for column, expected in (
            ("terminated", step.ruined), ("truncated", last and not step.ruined),
        ):  # fmt: skip
            if getattr(row, column) is not expected:
                rule = "R-RUIN-1" if column == "terminated" else "R-EPISODE-3"
                order.refuse(column, expected, getattr(row, column), rule, f"equity {row.equity}")
        self._journal(lane, row, step, before[1])
        order.close_row(lane)

    def _texts(self, row: Row) -> None:
        for name, expected, found in zip(_TEXTS, self.texts, row, strict=False):
            if expected != found:
                self.order.refuse(name, expected, found, "R-TRACE-7")

    def _bar(self, row: Row, bar: list[float]) -> None:
        for name, expected in zip(_BAR, bar, strict=True):
            if getattr(row, name) != expected:
                why = "the price file has another"
                self.order.refuse(name, expected, getattr(row, name), "R-CLOCK-2", why)

    def _action(self, row: Row) -> Wanted:
        """What the indices mean, which the row must say too (R-ACTION-1, R-ACTION-2)."""
        terms = self.terms
        values = []
        for head, meaning, table in (
            ("direction", "direction_value", terms.sides),
            ("size", "risk_multiple", terms.risk_multiples),
            ("stop_loss", "stop_distance_bps", terms.stops_bps),
            ("take_profit", "take_profit_r", terms.take_profit_r),
        ):
            index, found = getattr(row, head), getattr(row, meaning)
            if index is None or not 0 <= index < len(table):
                self.order.refuse(head, f"0 to {len(table) - 1}", index, "R-ACTION-2")
            if found != table[index]:
                self.order.refuse(meaning, table[index], found, "R-ACTION-1", f"{head} is {index}")
            values.append(table[index])
        return Wanted(*values)

    def _outcome(
        self, lane: Lane, row: Row, step: Step, wanted: Wanted, before: tuple[float, ...]
    ) -> None:
        """Compare every column of what happened, in the order in which it did."""
        account = lane.account
        expected = self._expected(lane, row, step)
        shown = cast(tuple[Any, ...], row)[OUTCOME_SLICE]
        scale = max(
            self.terms.initial_cash, abs(account.cash), abs(account.position * row.close),
            *(abs(fill.units * fill.price) for fill in step.fills),
        ) if step.fills else max(self.terms.initial_cash, abs(account.cash))  # fmt: skip
        for i, (want, found) in enumerate(zip(expected, shown, strict=True)):
            if want == found:
                continue
            if isinstance(want, float) and isinstance(found, float):
                size = abs(want) + self.shares[i] * scale + self.least[i]
                if abs(want - found) <= RELATIVE * size:
                    continue
            rule, why = rule_of(OUTCOME[i], want, found, step, wanted)
            self.order.refuse(OUTCOME[i], want, found, rule, f"{why}{_context(*before)}")

    def _expected(self, lane: Lane, row: Row, step: Step) -> tuple[Any, ...]:
        """The columns of `OUTCOME`; drawdown and reward are of the equity that the row shows."""
        account = lane.account
        legs: dict[str, Fill] = {fill.leg: fill for fill in step.fills}
        out, entry, exit_ = legs.get("open_exit"), legs.get("entry"), legs.get("exit")
        held = account.position != 0.0
        equity = account.cash + account.position * row.close
        shown = row.equity if isinstance(row.equity, float) else equity
        account.peak = max(account.peak, shown)
        drawdown = 1.0 - shown / account.peak
        fee = slippage = 0.0
        for fill in step.fills:
            fee += fill.fee
            slippage += fill.units * (fill.price - fill.reference)
        return (
            out and out.reason, out and out.units, out and out.price,
            step.requested, entry and entry.units, entry and entry.price,
            exit_ and exit_.reason, exit_ and exit_.units, exit_ and exit_.price,
            fee, slippage, step.funding, account.cash, account.position,
            account.entry if held else None, account.stop if held else None,
            account.target if held and account.target else None,
            equity, drawdown, self._reward(lane, step, shown, drawdown),
        )  # fmt: skip

    def _reward(self, lane: Lane, step: Step, equity: float, drawdown: float) -> float:
        """R-REWARD-1, R-REWARD-4, R-REWARD-5."""
        terms = self.terms
        floored = max(lane.equity, terms.floor)
        reward = math.log(max(equity, terms.floor)) - math.log(floored)
        reward -= terms.drawdown_penalty * max(0.0, drawdown - lane.drawdown)
        traded = sum(abs(fill.units * fill.price) for fill in step.fills)
        return float(terms.reward_scale * (reward - terms.turnover_penalty * traded / floored))

    def _journal(self, lane: Lane, row: Row, step: Step, held: float) -> None:
        """Post the row, and reckon the equity once more from what flowed (R-MONEY-2)."""
        totals = self.totals
        moves = held * (row.close - lane.close)
        size = abs(held * row.close) + self.terms.initial_cash
        for fill in step.fills:
            moves += fill.units * (row.close - fill.reference)
            size += abs(fill.units * fill.price)
            totals.fills[fill.reason or "entry"] += 1
        flowed = lane.equity + moves - row.fee - row.slippage_cost - row.funding
        if abs(flowed - row.equity) > 10 * RELATIVE * size:
            self.order.refuse("equity", flowed, row.equity, "R-MONEY-2")
        totals.unfilled += step.requested is not None and not any(
            fill.leg == "entry" for fill in step.fills
        )
        totals.fees += row.fee
        totals.slippage_cost += row.slippage_cost
        totals.funding += row.funding
        totals.moves += moves
        totals.last_ns = max(totals.last_ns, row.timestamp)
        totals.first_ns = min(totals.first_ns, row.timestamp)
        if row.terminated or row.truncated:
            totals.profit += row.equity - self.terms.initial_cash
            totals.ruined += row.terminated
            totals.truncated += row.truncated
        lane.equity, lane.close, lane.drawdown = row.equity, row.close, row.drawdown
        _adopt(lane.account, row)


def _adopt(account: Account, row: Row) -> None:
    """Go on from the numbers of the row, found right: roundings do not add up over rows."""
    account.cash, account.position = row.cash, row.position
    account.entry, account.stop = row.entry_price or 0.0, row.stop_price or 0.0
    account.target = row.take_profit_price or 0.0


def _context(cash: float, position: float, stop: float, target: float) -> str:
    """What the account held before the bar."""
    if not position:
        return f"; before: flat, cash {cash}"
    bracket = f"stop {stop}, take-profit {target or 'none'}"
    return f"; before: position {position}, cash {cash}, {bracket}"
