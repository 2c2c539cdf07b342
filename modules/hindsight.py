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

_WIDTH = 64


class FutureBars(nn.Module):
    """High, low and close of the next 1, 2, 4, ... bars, as log returns from the last close.

    Few numbers that say much: where the price will be, and how far it will have gone on the way.
    Bars beyond the end of the run of bars that a pointer lies in count as a price that stands
    still, so that no other split and nothing behind a hole is looked at. A column is divided by
    the standard deviation that a random walk with the bars' own volatility would have there.

    Args:
        ohlcv: float64 [bars, 5].
        runs: int64 [R, 2], half-open ranges of the bars that may be looked at.
        horizon: H, how many bars are seen.

    Attributes:
        num_features: 3 for each power of two up to H, and for H.

    Raises:
        ValueError: unless the horizon is a whole number above 0.
    """

    prices: Tensor
    last: Tensor
    ahead: Tensor
    ends: Tensor
    scale: Tensor

    def __init__(self, ohlcv: Tensor, runs: Tensor, *, horizon: int) -> None:
        super().__init__()
        if horizon < 1:
            raise ValueError(f"horizon={horizon} is not allowed: a whole number, at least 1")
        prices, device = ohlcv[:, 1:4].log(), ohlcv.device
        last = torch.zeros(len(prices), dtype=torch.int64, device=device)
        for first, end in runs.tolist():
            last[first:end] = end - 1
        inside = last[:-1] > torch.arange(len(prices) - 1, device=device)
        volatility = prices[:, 2].diff()[inside].std().clamp_min(1e-12)
        ends = sorted({*(2**k for k in range(horizon.bit_length())), horizon})
        self.num_features = 3 * len(ends)
        bars = torch.tensor(ends, device=device)
        for name, value in {
            "prices": prices,
            "last": last,
            "ahead": torch.arange(1, horizon + 1, device=device),
            "ends": bars - 1,
            "scale": (volatility * bars.sqrt()).float().repeat_interleave(3),
        }.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, bar: Tensor) -> Tensor:
        """Look ahead; int64 [..., 1] to float32 [..., num_features], horizon by horizon."""
        wanted, last = bar + self.ahead, self.last[bar]
        path = self.prices[torch.minimum(wanted, last)]
        path = torch.where((wanted > last)[..., None], path[..., 2:], path)
        high, low, close = (path - self.prices[bar][..., 2:]).unbind(-1)
        so_far = torch.stack([high.cummax(-1).values, low.cummin(-1).values, close], -1)
        return so_far[..., self.ends, :].flatten(-2).float() / self.scale


class HindsightValue(nn.Module):
    """Value of an account whose next bars are known.

    What a position earns is a product of the position and the future; therefore the two meet in a
    product. The agent's state is only read: learned along with this critic, it would serve the
    future that the actor cannot see (measured: worse).

    Args:
        features_dim: width of the agent's state.
        num_account: columns of the account, the first the side of its position.
        num_future: columns of the future.
    """

    def __init__(self, features_dim: int, num_account: int, num_future: int) -> None:
        super().__init__()
        self.agent = nn.Linear(features_dim + num_account, _WIDTH)
        self.future = nn.Linear(2 * num_future, _WIDTH)
        self.join = nn.Linear(3 * _WIDTH, _WIDTH)
        self.head = ValueHead(_WIDTH)
        for layer in (self.agent, self.future, self.join):
            init_orthogonal(layer, gain=2.0**0.5)

    def forward(self, agent_state: Tensor, account: Tensor, future: Tensor) -> Tensor:
        """Value float32 [..., 1] of [..., features_dim], [..., num_account], [..., num_future]."""
        agent = self.agent(torch.cat([agent_state.detach(), account], -1))
        future = self.future(torch.cat([future, account[..., :1] * future], -1))
        both = torch.cat([agent, future, agent * future], -1)
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
    future = FutureBars(ohlcv, runs, horizon=horizon)
    return TensorDictSequential(
        PerPath(TensorDictModule(future, ["bar"], ["future"]), ["future"]),
        TensorDictModule(
            HindsightValue(features_dim, num_account, future.num_features),
            ["agent_state", "account", "future"],
            ["hindsight_value"],
        ),
    )
