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
    columns = [
        open_exit.reason,
        *_where(open_exit.units != 0, open_exit.units, open_exit.price),
        *_where(entry.wanted, entry.requested_units),
        *_where(entry.units != 0, entry.units, entry.price),
        exit_.reason,
        *_where(exit_.units != 0, exit_.units, exit_.price),
        outcome.fee,
        outcome.slippage_cost,
        outcome.funding,
        account.cash,
        account.position,
        *_where(held, account.entry_price, account.stop_price),
        *_where(held & (account.take_profit_price > 0), account.take_profit_price),
        outcome.equity,
        outcome.drawdown,
        reward,
    ]
    return torch.stack(columns).movedim(0, -1)


def _where(happened: Tensor, *values: Tensor) -> list[Tensor]:
    return [torch.where(happened, value, torch.nan) for value in values]
