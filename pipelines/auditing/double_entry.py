"""What one bar must do to one account, in plain numbers: an independent reading of the rules.

Written from ``docs/simulator.md`` rule by rule, to be read beside it. Nothing of the simulator is
imported here: an error in one of the two shows as a difference between them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

EPSILON = 1e-6  # of a tick or a lot: R-OPEN-6, R-FILL-6, R-SIZE-6
BP = 1e-4
LOG_FLOOR = 0.01  # of the initial cash: R-REWARD-1
DAY_S = 86_400.0


class Steps:
    """A price or size grid (R-FILL-6)."""

    def __init__(self, step: float) -> None:
        inverse = round(1.0 / step)
        whole = inverse > 0 and abs(inverse * step - 1.0) <= 1e-9
        self.step, self.inverse = step, float(inverse) if whole else 0.0

    def up(self, value: float) -> float:
        """The next grid value, or the one it is on."""
        return self._value(math.ceil(self._count(value) - EPSILON))

    def down(self, value: float) -> float:
        """The grid value before, or the one it is on."""
        return self._value(math.floor(self._count(value) + EPSILON))

    def _count(self, value: float) -> float:
        return value * self.inverse if self.inverse else value / self.step

    def _value(self, count: int) -> float:
        return count / self.inverse if self.inverse else count * self.step


class Terms:
    """The parameters beside a trace, by their names in ``docs/simulator.md``.

    Args:
        simulator: every parameter, as the JSON file has them.
        interval_s: length of a bar in seconds.

    Raises:
        ValueError: if a parameter is missing.
    """

    def __init__(self, simulator: Mapping[str, Any], interval_s: float) -> None:
        try:
            self._read(simulator, interval_s)
        except KeyError as missing:
            raise ValueError(f"the parameters beside the trace lack {missing}") from None

    def _read(self, p: Mapping[str, Any], interval_s: float) -> None:
        self.paths, self.accounts, self.window = p["paths"], p["accounts"], p["window"]
        self.episode_bars, self.initial_cash = p["episode_bars"], p["initial_cash"]
        self.sides = (-1, 0, 1)
        self.risk_multiples = p["risk_multiples"]
        self.stops_bps = [(i + 1) * p["stop_step_bps"] for i in range(p["stop_steps"])]
        self.take_profit_r = p["take_profit_r"]
        self.risk, self.trailing = p["risk_pct"] / 100, p["trailing"]
        self.max_leverage = p["max_leverage"]
        self.max_units, self.max_participation = p["max_units"], p["max_participation"]
        self.ticks, self.lots, self.min_units = (
            Steps(p["tick_size"]), Steps(p["lot_size"]), p["min_units"],
        )  # fmt: skip
        self.taker, self.maker = p["taker_fee_bps"] * BP, p["maker_fee_bps"] * BP
        self.slippage, self.stop_slippage = p["slippage_bps"] * BP, p["stop_slippage_bps"] * BP
        self.through_ticks = p["tp_through_ticks"]
        self.funding = p["funding_bps_per_day"] * BP * interval_s / DAY_S
        self.margin = p["maintenance_margin_rate"]
        self.ruin_equity = p["ruin_equity_frac"] * p["initial_cash"]
        self.flatten_at_end = p["flatten_at_end"]
        self.reward_scale = p["reward_scale"]
        self.drawdown_penalty = p["drawdown_penalty"]
        self.turnover_penalty = p["turnover_penalty"]
        self.floor = LOG_FLOOR * p["initial_cash"]


class Order(NamedTuple):
    """What an action means."""

    side: int
    risk_multiple: float
    stop_bps: float
    take_profit_r: float


class Prices(NamedTuple):
    """The bar of execution, and the volume of the one before."""

    open: float
    high: float
    low: float
    close: float
    volume_before: float


@dataclass(slots=True)
class Fill:
    """Units that changed hands, and the rules that say so."""

    leg: str  # open_exit, entry, exit
    reason: str
    units: float
    price: float
    reference: float
    fee: float
    rule: str  # for which it happened
    pricing: str  # that gives its price


@dataclass(slots=True)
class Step:
    """What happened in one bar."""

    fills: list[Fill] = field(default_factory=list)
    requested: float | None = None
    sized_by: str = "R-SIZE-8"  # the limit that counted
    funding: float = 0.0
    ruined: bool = False
    stop_rule: str = "R-ACTION-5"  # the last that set the stop


class Account:
    """One account: what it owns, and the bracket around it."""

    __slots__ = ("cash", "distance", "entry", "peak", "position", "stop", "target", "terms")

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.cash = self.peak = float(terms.initial_cash)
        self.position = 0.0
        self._forget()

    @property
    def side(self) -> int:
        """-1, 0 or 1."""
        return (self.position > 0.0) - (self.position < 0.0)

    def live(self, order: Order, bar: Prices, *, last: bool) -> Step:
        """Go through one bar: its open, its range, its close."""
        step = Step()
        self._open(step, order, bar)
        if self.position:
            self._within(step, bar)
        step.funding = abs(self.position) * bar.close * self.terms.funding
        self.cash -= step.funding
        step.ruined = self.cash + self.position * bar.close <= self.terms.ruin_equity
        if self.position and step.ruined:
            self._leave(step, "exit", "ruin", bar.close, "R-RUIN-2")
        elif self.position and last and self.terms.flatten_at_end:
            self._leave(step, "exit", "end", bar.close, "R-CLOSE-3")
        if self.position and self.terms.trailing:
            self._trail(step, bar.close)
        return step

    def _open(self, step: Step, order: Order, bar: Prices) -> None:
        side, opens = self.side, bar.open
        if side and self._met(opens, self._liquidation()):
            self._leave(step, "open_exit", "liquidation", opens, "R-OPEN-1")
        elif side and self._met(opens, self.stop):
            self._leave(step, "open_exit", "stop", opens, "R-OPEN-2")
        elif side and self._passed(opens):
            self._leave(step, "open_exit", "take_profit", self.target, "R-OPEN-3")
        else:
            if side and order.side == 0:
                self._leave(step, "open_exit", "signal", opens, "R-ACTION-6")
            elif side and order.side != side:
                self._leave(step, "open_exit", "flip", opens, "R-ACTION-7")
            if order.side and not self.position:
                self._enter(step, order, bar)

    def _within(self, step: Step, bar: Prices) -> None:
        long = self.position > 0.0
        worst, best = (bar.low, bar.high) if long else (bar.high, bar.low)
        stop, liquidation = self.stop, self._liquidation()
        # The open may lie beyond the price already: then the open is what can be had.
        have = min if long else max
        if self._met(worst, stop) and (
            self._met(liquidation, stop) or not self._met(worst, liquidation)
        ):
            self._leave(step, "exit", "stop", have(stop, bar.open), "R-BAR-1")
        elif self._met(worst, liquidation):
            self._leave(step, "exit", "liquidation", have(liquidation, bar.open), "R-BAR-4")
        elif self._passed(best):
            self._leave(step, "exit", "take_profit", self.target, "R-BAR-2")

    def _met(self, price: float, level: float) -> bool:
        """Whether `price` is at or beyond `level`, on the side that hurts (R-OPEN-6)."""
        return (price - level) * self.side <= EPSILON * self.terms.ticks.step

    def _passed(self, price: float) -> bool:
        """Whether `price` lies far enough beyond the take-profit (R-BAR-2)."""
        if not self.target:
            return False
        need = (self.terms.through_ticks - EPSILON) * self.terms.ticks.step
        return (price - self.target) * self.side >= need

    def _liquidation(self) -> float:
        """R-MARGIN-1 and R-MARGIN-2; minus infinity where there is none."""
        if self.position > 0.0:
            if self.cash >= 0.0:
                return -math.inf
            return -self.cash / (self.position * (1.0 - self.terms.margin))
        return self.cash / (-self.position * (1.0 + self.terms.margin))

    def _slipped(self, reference: float, buying: bool, slippage: float) -> float:
        """R-FILL-4 and R-FILL-5."""
        if not slippage:
            return reference
        if buying:
            return self.terms.ticks.up(reference * (1.0 + slippage))
        return self.terms.ticks.down(reference * (1.0 - slippage))

    def _leave(self, step: Step, leg: str, reason: str, reference: float, rule: str) -> None:
        """Close the position; the reason decides on slippage and fee (R-FILL-2, 3, 7, 8)."""
        terms, units = self.terms, -self.position
        fee_rate, pricing, price = terms.taker, "R-FILL-2", reference
        if reason == "take_profit":
            fee_rate, pricing = terms.maker, "R-FILL-7"
        elif reason in ("stop", "liquidation"):
            pricing = "R-FILL-3"
            price = self._slipped(reference, units > 0.0, terms.stop_slippage)
        else:
            price = self._slipped(reference, units > 0.0, terms.slippage)
        if reason == "liquidation":
            nothing = -self.cash / (self.position * (1.0 - self.side * terms.taker))
            floored = max(price, nothing) if self.position > 0.0 else min(price, nothing)
            pricing = "R-FILL-3" if floored == price else "R-MARGIN-3"
            price = floored
        self._fill(step, Fill(leg, reason, units, price, reference, 0.0, rule, pricing), fee_rate)
        self._forget()

    def _fill(self, step: Step, fill: Fill, fee_rate: float) -> None:
        """R-FILL-1 and R-FILL-8: the only place where money moves."""
        fill.fee = abs(fill.units) * fill.price * fee_rate
        self.cash -= fill.units * fill.price + fill.fee
        self.position += fill.units
        step.fills.append(fill)

    def _enter(self, step: Step, order: Order, bar: Prices) -> None:
        """Size an order on the cash, and open the position with its bracket (R-SIZE-1 to 8)."""
        terms, side = self.terms, order.side
        price = self._slipped(bar.open, side > 0, terms.slippage)
        distance = price * (order.stop_bps * BP)
        step.requested = terms.risk * order.risk_multiple * self.cash / distance
        units, step.sized_by = self._largest(step.requested, price, bar.volume_before)
        if units <= 0.0 or units < terms.min_units:
            step.sized_by = "R-SIZE-7"
            return
        fill = Fill("entry", "", side * units, price, bar.open, 0.0, "R-ACTION-3", "R-FILL-4")
        self._fill(step, fill, terms.taker)
        toward, away = (terms.ticks.up, terms.ticks.down)[::side]
        self.entry, self.distance = price, distance
        self.stop = away(price - side * distance)
        target = 0.0
        if order.take_profit_r:
            target = toward(price + side * order.take_profit_r * distance)
        self.target = max(target, 0.0)
        step.stop_rule = "R-SIZE-1"

    def _largest(self, requested: float, price: float, volume: float) -> tuple[float, str]:
        """Units that every limit allows, and the limit that counted."""
        terms = self.terms
        leverage = terms.max_leverage
        limits = [
            (requested, "R-SIZE-2"),
            (leverage * self.cash / (price * (1.0 + leverage * terms.taker)), "R-SIZE-3"),
        ]
        if terms.max_units is not None:
            limits.append((terms.max_units, "R-SIZE-4"))
        if terms.max_participation is not None:
            limits.append((terms.max_participation * volume, "R-SIZE-5"))
        units, rule = min(limits)
        return terms.lots.down(units), rule

    def _trail(self, step: Step, close: float) -> None:
        """R-CLOSE-4 and R-CLOSE-5."""
        away = self.terms.ticks.down if self.position > 0.0 else self.terms.ticks.up
        follow = away(close - self.side * self.distance)
        if (follow - self.stop) * self.side > 0.0:
            self.stop, step.stop_rule = follow, "R-CLOSE-4"

    def _forget(self) -> None:
        self.entry = self.stop = self.target = self.distance = 0.0
