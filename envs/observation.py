"""What an account looks like to a network."""

import torch
from torch import Tensor

from envs.config import BPS, EnvConfig
from envs.simulator import Account

ACCOUNT = (
    "side",
    "log_equity",
    "drawdown",
    "margin_use",
    "open_profit_r",
    "stop_distance_steps",
    "take_profit_distance_steps",
    "held_fraction",
)
NUM_ACCOUNT = len(ACCOUNT)
LOG_EQUITY_LIMIT = 3.0


def relative_equity(equity: Tensor, cfg: EnvConfig) -> Tensor:
    """Equity over initial cash, above 0: it has a logarithm."""
    return (equity / cfg.initial_cash).clamp_min(1e-300)


def account_observation(
    account: Account, close: Tensor, equity: Tensor, log_equity: Tensor, cfg: EnvConfig
) -> Tensor:
    """Scale-free view of the accounts at a close.

    Nothing in it depends on the dollar size of an account or on how many bars are left. All but
    log equity and drawdown are 0 when flat.

    | column | meaning |
    |---|---|
    | side | -1, 0, 1 |
    | log_equity | log(equity / initial cash), clipped to ±3 |
    | drawdown | 1 - equity / peak |
    | margin_use | notional / (equity * max_leverage) |
    | open_profit_r | side * (close - entry price) / d, before fees |
    | stop_distance_steps | from close to stop, in stop steps of the close |
    | take_profit_distance_steps | from close to take-profit, likewise; 0 without one |
    | held_fraction | closes the position has seen / episode_bars, at most 1 |

    Args:
        account: columns [paths, accounts], float64.
        close: [paths, 1].
        equity: [paths, accounts], at that close.
        log_equity: logarithm of its `relative_equity`.
        cfg: the parameters.

    Returns:
        float32 [paths, accounts, 8].
    """
    side = account.position.sign()
    held = side != 0
    step = close * (cfg.stop_step_bps * BPS)
    has_target = account.take_profit_price > 0
    columns = [
        side,
        log_equity.clamp(-LOG_EQUITY_LIMIT, LOG_EQUITY_LIMIT),
        1.0 - equity / account.peak,
        _where(held, account.position.abs() * close / (equity * cfg.max_leverage)),
        _where(held, side * (close - account.entry_price) / account.stop_distance),
        _where(held, side * (close - account.stop_price) / step),
        _where(has_target, side * (account.take_profit_price - close) / step),
        (account.bars_held / cfg.episode_bars).clamp_max(1.0),
    ]
    return torch.stack(columns).movedim(0, -1).float().contiguous()


def _where(condition: Tensor, value: Tensor) -> Tensor:
    return torch.where(condition, value, 0.0)


def account_scale(cfg: EnvConfig) -> Tensor:
    """Typical size of each column, float32 [8]: distances reach the widest stop and target."""
    widest_target = max(*cfg.take_profit_r, 1.0)
    scales = {
        "log_equity": 0.1,
        "drawdown": 0.1,
        "stop_distance_steps": float(cfg.stop_steps),
        "take_profit_distance_steps": cfg.stop_steps * widest_target,
    }
    return torch.tensor([scales.get(column, 1.0) for column in ACCOUNT], dtype=torch.float32)
