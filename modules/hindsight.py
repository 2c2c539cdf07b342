"""A critic that sees the future, for training only.

In a market that does not react to the account, the bars to come are independent of the action: a
baseline that sees them takes the market's luck out of the advantages and leaves the policy
gradient unbiased (Mao et al. 2018, "Variance Reduction for Reinforcement Learning in Input-Driven
Environments", arXiv 1807.02264). The actor never reads what is written here.

Shapes: `...` any batch, K accounts on a path, H the horizon in bars, D the width.
"""

import torch
from tensordict.nn import TensorDictModule, TensorDictModuleBase, TensorDictSequential
from torch import Tensor, nn

from modules.fusion import init_orthogonal
from modules.heads import ValueHead
from modules.sharing import PerPath

FUTURE_WIDTH = 64


class FutureBars(nn.Module):
    """High, low and close of the next bars, as log returns from the last close.

    Bars beyond the end of the run of bars that a pointer lies in count as a price that stands
    still, so that no other split and nothing behind a hole is looked at. A column is divided by
    the standard deviation that a random walk with the bars' own volatility would have there.

    Args:
        ohlcv: float64 [bars, 5].
        runs: int64 [R, 2], half-open ranges of the bars that may be looked at.
        horizon: H, how many bars are seen.

    Raises:
        ValueError: unless the horizon is a whole number above 0.
    """

    prices: Tensor
    last: Tensor
    ahead: Tensor
    scale: Tensor

    def __init__(self, ohlcv: Tensor, runs: Tensor, *, horizon: int) -> None:
        super().__init__()
        if horizon < 1:
            raise ValueError(f"horizon={horizon} is not allowed: a whole number, at least 1")
        prices = ohlcv[:, 1:4].log()
        last = torch.zeros(len(prices), dtype=torch.int64, device=ohlcv.device)
        for first, end in runs.tolist():
            last[first:end] = end - 1
        ahead = torch.arange(1, horizon + 1, device=ohlcv.device)
        inside = last[:-1] > torch.arange(len(prices) - 1, device=ohlcv.device)
        volatility = prices[:, 2].diff()[inside].std().clamp_min(1e-12)
        for name, value in {
            "prices": prices,
            "last": last,
            "ahead": ahead,
            "scale": (volatility * ahead.sqrt()).float().repeat_interleave(3),
        }.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, bar: Tensor) -> Tensor:
        """Look ahead; int64 [..., 1] to float32 [..., 3 H], bar by bar."""
        wanted, last = bar + self.ahead, self.last[bar]
        path = self.prices[torch.minimum(wanted, last)]
        path = torch.where((wanted > last)[..., None], path[..., 2:], path)
        return (path - self.prices[bar][..., 2:]).flatten(-2).float() / self.scale


class HindsightValue(nn.Module):
    """Value of an account whose next bars are known.

    What a position earns is a product of the position and the future; therefore the two meet in a
    product. The agent's state is only read: learned along with this critic, it would serve the
    future that the actor cannot see (measured: worse).

    Args:
        features_dim: width of the agent's state.
        num_account: columns of the account.
        width: D.
    """

    def __init__(self, features_dim: int, num_account: int, width: int = FUTURE_WIDTH) -> None:
        super().__init__()
        self.agent = nn.Linear(features_dim + num_account, width)
        self.join = nn.Linear(3 * width, width)
        self.head = ValueHead(width)
        for layer in (self.agent, self.join):
            init_orthogonal(layer, gain=2.0**0.5)

    def forward(self, agent_state: Tensor, account: Tensor, future_state: Tensor) -> Tensor:
        """Value float32 [..., 1] of [..., features_dim], [..., num_account] and [..., D]."""
        agent = self.agent(torch.cat([agent_state.detach(), account], -1))
        both = torch.cat([agent, future_state, agent * future_state], -1)
        return self.head(torch.relu(self.join(both)))


def make_hindsight_critic(
    ohlcv: Tensor, runs: Tensor, *, horizon: int, features_dim: int, num_account: int
) -> TensorDictModuleBase:
    """From ``bar``, ``account`` and ``agent_state`` to ``hindsight_value`` float32 [..., K, 1].

    Args:
        ohlcv: float64 [bars, 5], the table that ``bar`` points into.
        runs: int64 [R, 2], the stretches of bars that are trained on.
        horizon: bars that the critic looks ahead.
        features_dim: width of the agent's state.
        num_account: columns of the account.
    """
    first = nn.Linear(3 * horizon, FUTURE_WIDTH)
    second = nn.Linear(FUTURE_WIDTH, FUTURE_WIDTH)
    for layer in (first, second):
        init_orthogonal(layer, gain=2.0**0.5)
    future = nn.Sequential(FutureBars(ohlcv, runs, horizon=horizon), first, nn.Tanh(), second)
    return TensorDictSequential(
        PerPath(TensorDictModule(future, ["bar"], ["future_state"]), ["future_state"]),
        TensorDictModule(
            HindsightValue(features_dim, num_account),
            ["agent_state", "account", "future_state"],
            ["hindsight_value"],
        ),
    )
