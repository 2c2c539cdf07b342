"""Where the account joins the market.

Shapes: `...` any batch, D market width, A account width.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from modules.linear import Linear


class AccountProjection(nn.Module):
    """The account's columns as a state of their own: linear, ReLU.

    Args:
        num_account: columns of the account.
        account_dim: A, width of the account's state.
    """

    def __init__(self, num_account: int, account_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_account, account_dim)
        init_orthogonal(self.linear, gain=math.sqrt(2.0))

    def forward(self, account: Tensor) -> Tensor:
        """Project; [..., num_account] to [..., A]."""
        return F.relu(self.linear(account))


class Fusion(nn.Module):
    """Market and account as one state: concatenation, layer norm, linear, ReLU.

    Args:
        d_model: D, width of the market's state.
        account_dim: A, width of the account's state.
        features_dim: width of the result.
    """

    def __init__(self, d_model: int, account_dim: int, features_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model + account_dim)
        self.linear = Linear(d_model + account_dim, features_dim)
        init_orthogonal(self.linear, gain=math.sqrt(2.0))

    def forward(self, market_state: Tensor, account_state: Tensor) -> Tensor:
        """Fuse; [..., D] and [..., A] to [..., features_dim]."""
        return F.relu(self.linear(self.norm(torch.cat([market_state, account_state], -1))))


def init_orthogonal(layer: nn.Linear, *, gain: float) -> None:
    """Orthogonal weight of the given gain, zero bias."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
