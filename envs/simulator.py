"""One bar of the simulator for every lane at once: ``docs/simulator.md`` in tensors.

`advance` follows the order of a bar: what happens at its open, within it, and at its close.
Everything is elementwise over lanes in float64; a lane in which nothing happens is carried through
with units of 0. Times on money paths are in the names: ``close_t`` and ``volume_t`` are known when
the action is chosen, the fields of `Bar` only afterwards.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from envs.fills import Book, bankruptcy_price, fill_price, liquidation_price
from envs.ledger import REASONS
from envs.rules import Rules

_CODE = {reason: float(code) for code, reason in enumerate(REASONS)}


class Account(NamedTuple):
    """Columns of the ledger, in its order; each float64 [paths, accounts]."""

    cash: Tensor
    position: Tensor
    entry_price: Tensor
    stop_price: Tensor
    take_profit_price: Tensor
    stop_distance: Tensor
    bars_held: Tensor
    peak: Tensor
    last_bar: Tensor


class Bar(NamedTuple):
    """Bar t+1, in which the action executes; each float64 [paths, 1]."""

    open: Tensor
    high: Tensor
    low: Tensor
    close: Tensor


class Order(NamedTuple):
    """What an action means; each float64 [paths, accounts]."""

    side: Tensor  # -1, 0, 1: the target direction
    risk_multiple: Tensor
    stop_fraction: Tensor  # stop distance over entry price
    take_profit_r: Tensor  # target in stop distances, 0: none


class Exit(NamedTuple):
    """Units closed together; 0 units, and a price that means nothing, where none were."""

    reason: Tensor
    units: Tensor
    price: Tensor


class Entry(NamedTuple):
    """Units opened; `wanted` where the action asked for a position, whatever became of it."""

    wanted: Tensor
    requested_units: Tensor
    units: Tensor
    price: Tensor


@dataclass
class Holding:
    """The bracket and age of every lane's position in the course of one bar.

    What a closed position leaves here is not read again, and is gone when the bar is over.
    """

    entry_price: Tensor
    stop_price: Tensor
    take_profit_price: Tensor
    stop_distance: Tensor
    bars_held: Tensor

    def forget(self, flat: Tensor) -> None:
        """Clear the lanes that hold nothing."""
        for name, value in vars(self).items():
            setattr(self, name, value.masked_fill(flat, 0.0))


class Outcome(NamedTuple):
    """What one bar did to every lane; each [paths, accounts]."""

    account: Account
    open_exit: Exit
    entry: Entry
    exit: Exit  # within the bar or at its close
    fee: Tensor
    slippage_cost: Tensor
    funding: Tensor
    equity: Tensor
    drawdown: Tensor
    ruined: Tensor
    direction_used: Tensor


def advance(
    rules: Rules, account: Account, order: Order, bar: Bar, volume_t: Tensor, last: Tensor
) -> Outcome:
    """Carry every lane through bar t+1.

    Args:
        rules: the configuration.
        account: the accounts at the close of bar t.
        order: the action chosen on it.
        bar: bar t+1.
        volume_t: volume of bar t, base units, [paths, 1].
        last: bool [paths, accounts], bar t+1 is the episode's last.
    """
    book = Book.carried(account.cash, account.position)
    holding = Holding(*account[2:7])
    open_exit, carried_exit = _exits_at_open(rules, book, holding, order, bar)
    entry = _enter(rules, book, holding, order, bar, volume_t, ~carried_exit)
    touched = _exits_within(rules, book, holding, bar)
    funding = book.position.abs() * bar.close * rules.funding
    book.cash = book.cash - funding
    ruined = book.cash + book.position * bar.close <= rules.ruin_equity
    closed = _exits_at_close(rules, book, bar, ruined, last)
    if rules.trailing:
        _trail(rules, book, holding, bar)
    equity = book.cash + book.position * bar.close
    peak = torch.maximum(account.peak, equity)
    holding.bars_held = holding.bars_held + 1.0
    holding.forget(book.position == 0)
    return Outcome(
        account=Account(
            book.cash,
            book.position,
            holding.entry_price,
            holding.stop_price,
            holding.take_profit_price,
            holding.stop_distance,
            holding.bars_held,
            peak,
            account.last_bar,
        ),
        open_exit=open_exit,
        entry=entry,
        exit=_either(touched, closed),
        fee=book.fee,
        slippage_cost=book.slippage_cost,
        funding=funding,
        equity=equity,
        drawdown=1.0 - equity / peak,
        ruined=ruined,
        direction_used=~carried_exit,
    )


def _exits_at_open(
    rules: Rules, book: Book, holding: Holding, order: Order, bar: Bar
) -> tuple[Exit, Tensor]:
    """Liquidation, stop or target that the open has reached, else the action's own close.

    Returns the exit and a mask of the lanes whose carried position left by the market's will:
    these place no order in this bar.
    """
    side = book.position.sign()
    held = side != 0
    liquidation = liquidation_price(book.cash, book.position, side, rules.margin)
    liquidated = held & (side * (bar.open - liquidation) <= rules.touch)
    stopped = held & ~liquidated & (side * (bar.open - holding.stop_price) <= rules.touch)
    gained = side * (bar.open - holding.take_profit_price) >= rules.through
    took = held & ~liquidated & ~stopped & (holding.take_profit_price > 0) & gained
    forced = liquidated | stopped
    carried_exit = forced | took
    ordered = held & ~carried_exit & (order.side != side)

    open_ = bar.open.expand_as(side)
    stop_fill = fill_price(open_, -side, rules.stop_slippage, rules.ticks)
    floor = bankruptcy_price(book.cash, book.position, side, rules.taker)
    liquidation_fill = side * torch.maximum(side * stop_fill, side * floor)
    price = fill_price(open_, -side, rules.slippage, rules.ticks)
    price = torch.where(stopped, stop_fill, price)
    price = torch.where(liquidated, liquidation_fill, price)
    price = torch.where(took, holding.take_profit_price, price)
    reference = torch.where(took, holding.take_profit_price, open_)

    reason = _reasons(
        side, "flip", signal=order.side == 0, stop=stopped, take_profit=took, liquidation=liquidated
    )
    closing = carried_exit | ordered
    return _close(rules, book, closing, reason, price, reference, took), carried_exit


def _reasons(like: Tensor, otherwise: str, **masks: Tensor) -> Tensor:
    """Codes of reasons by lane: of the masks that hold, the last one's."""
    code = torch.full_like(like, _CODE[otherwise])
    for reason, mask in masks.items():
        code = code.masked_fill(mask, _CODE[reason])
    return code


def _close(
    rules: Rules,
    book: Book,
    closing: Tensor,
    reason: Tensor,
    price: Tensor,
    reference: Tensor,
    maker: Tensor | None = None,
) -> Exit:
    """Close the positions of the lanes in `closing`; the prices of the others are finite too."""
    units = torch.where(closing, -book.position, 0.0)
    rate: Tensor | float = rules.taker
    if maker is not None:
        # Between two plain numbers torch.where would round to float32.
        rate = torch.full_like(units, rules.taker).masked_fill(maker, rules.maker)
    book.fill(units, price, reference, rate)
    return Exit(torch.where(closing, reason, 0.0), units, price)


def _enter(
    rules: Rules,
    book: Book,
    holding: Holding,
    order: Order,
    bar: Bar,
    volume_t: Tensor,
    free: Tensor,
) -> Entry:
    """Open the position that a flat lane's order asks for, sized on its cash."""
    side = order.side
    wanted = free & (side != 0) & (book.position == 0)
    price = fill_price(bar.open.expand_as(side), side, rules.slippage, rules.ticks)
    distance = price * order.stop_fraction
    requested = rules.risk * order.risk_multiple * book.cash / distance
    units = _sized(rules, requested, book.cash, price, volume_t)
    opened = wanted & (units > 0) & (units >= rules.min_units)
    stop = rules.ticks.toward(price - side * distance, -side)
    target = rules.ticks.toward(price + side * order.take_profit_r * distance, side)
    target = torch.where(order.take_profit_r > 0, target, 0.0)

    units = torch.where(opened, side * units, 0.0)
    book.fill(units, price, bar.open, rules.taker)
    holding.entry_price = torch.where(opened, price, holding.entry_price)
    holding.stop_price = torch.where(opened, stop, holding.stop_price)
    holding.take_profit_price = torch.where(opened, target, holding.take_profit_price)
    holding.stop_distance = torch.where(opened, distance, holding.stop_distance)
    holding.bars_held = holding.bars_held.masked_fill(opened, 0.0)
    return Entry(wanted, requested, units, price)


def _sized(
    rules: Rules, requested: Tensor, cash: Tensor, price: Tensor, volume_t: Tensor
) -> Tensor:
    """Requested units within every limit, on the lot grid; not above 0 when cash is not."""
    affordable = rules.max_leverage * cash / (price * (1.0 + rules.max_leverage * rules.taker))
    units = torch.minimum(requested, affordable)
    if rules.max_units is not None:
        units = units.clamp_max(rules.max_units)
    if rules.max_participation is not None:
        units = torch.minimum(units, rules.max_participation * volume_t)
    return rules.lots.toward(units, -1.0)


def _exits_within(rules: Rules, book: Book, holding: Holding, bar: Bar) -> Exit:
    """Stop, liquidation or target that the bar's range touches; the adverse one if both."""
    side = book.position.sign()
    held = side != 0
    long = side > 0
    worst = torch.where(long, bar.low, bar.high)
    best = torch.where(long, bar.high, bar.low)
    stop = holding.stop_price
    liquidation = liquidation_price(book.cash, book.position, side, rules.margin)
    stop_touched = held & (side * (worst - stop) <= rules.touch)
    liquidation_touched = held & (side * (worst - liquidation) <= rules.touch)
    stop_first = side * (liquidation - stop) <= rules.touch
    stopped = stop_touched & (stop_first | ~liquidation_touched)
    liquidated = liquidation_touched & ~stopped
    reached = side * (best - holding.take_profit_price) >= rules.through
    took = held & (holding.take_profit_price > 0) & reached & ~stopped & ~liquidated

    # A price that the open has already passed cannot be had any more.
    met = side * torch.minimum(side * torch.where(liquidated, liquidation, stop), side * bar.open)
    price = fill_price(met, -side, rules.stop_slippage, rules.ticks)
    floor = bankruptcy_price(book.cash, book.position, side, rules.taker)
    price = torch.where(liquidated, side * torch.maximum(side * price, side * floor), price)
    price = torch.where(took, holding.take_profit_price, price)
    reference = torch.where(took, holding.take_profit_price, met)

    reason = _reasons(side, "stop", take_profit=took, liquidation=liquidated)
    closing = stopped | liquidated | took
    return _close(rules, book, closing, reason, price, reference, took)


def _exits_at_close(rules: Rules, book: Book, bar: Bar, ruined: Tensor, last: Tensor) -> Exit:
    """Close what a ruined account holds, or what is held when an evaluated episode ends."""
    side = book.position.sign()
    closing = (ruined | last) if rules.flatten_at_end else ruined
    close = bar.close.expand_as(side)
    price = fill_price(close, -side, rules.slippage, rules.ticks)
    reason = _reasons(side, "end", ruin=ruined)
    return _close(rules, book, closing & (side != 0), reason, price, close)


def _trail(rules: Rules, book: Book, holding: Holding, bar: Bar) -> None:
    """Move the stop to its distance from the close where that is in the position's favour."""
    side = book.position.sign()
    stop = rules.ticks.toward(bar.close - side * holding.stop_distance, -side)
    favourable = side * (stop - holding.stop_price) > 0
    holding.stop_price = torch.where(favourable, stop, holding.stop_price)


def _either(first: Exit, second: Exit) -> Exit:
    """The exit that happened, of two of which at most one did."""
    happened = first.units != 0
    return Exit(*(torch.where(happened, a, b) for a, b in zip(first, second, strict=True)))
