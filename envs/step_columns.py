"""What one bar did to every lane, packed for the trace."""

import torch
from torch import Tensor

from envs.simulator import Outcome


def fill_columns(outcome: Outcome, reward: Tensor) -> Tensor:
    """The columns of `envs.ledger.FILLS`, not a number where there is nothing.

    Args:
        outcome: of the bar.
        reward: float64 [paths, accounts].

    Returns:
        float64 [paths, accounts, len(FILLS)].
    """
    account = outcome.account
    open_exit, entry, exit_ = outcome.open_exit, outcome.entry, outcome.exit
    held = account.position != 0
    always = torch.ones_like(held)
    columns = [
        (always, open_exit.reason),
        *_shown(open_exit.units != 0, open_exit.units, open_exit.price),
        (entry.wanted, entry.requested_units),
        *_shown(entry.units != 0, entry.units, entry.price),
        (always, exit_.reason),
        *_shown(exit_.units != 0, exit_.units, exit_.price),
        (always, outcome.fee),
        (always, outcome.slippage_cost),
        (always, outcome.funding),
        (always, account.cash),
        (always, account.position),
        *_shown(held, account.entry_price, account.stop_price),
        (held & (account.take_profit_price > 0), account.take_profit_price),
        (always, outcome.equity),
        (always, outcome.drawdown),
        (always, reward),
    ]
    shown, values = (torch.stack(tensors) for tensors in zip(*columns, strict=True))
    return torch.where(shown, values, torch.nan).movedim(0, -1)


def _shown(happened: Tensor, *values: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(happened, value) for value in values]
