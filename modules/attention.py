"""Multi-head attention and the feed-forward network that the transformer blocks are made of.

Shapes: B batch, T tokens, D width, H heads.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Every token attends every token; one matrix multiplication projects q, k and v.

    Args:
        d_model: D, width of a token.
        num_heads: H, a divisor of D.
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        init_linear(self.qkv, blocks=3)
        init_linear(self.out)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Attend; [B, T, D] to [B, T, D]."""
        q, k, v = self.qkv(x_BTD).chunk(3, dim=-1)
        return self.out(attend(q, k, v, self.num_heads))


class QueryAttention(nn.Module):
    """One query attends a sequence of tokens, so its cost grows with T and not with T squared.

    Args:
        d_model: D, width of the query and of a token.
        num_heads: H, a divisor of D.
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(d_model, d_model)
        self.kv = nn.Linear(d_model, 2 * d_model)
        self.out = nn.Linear(d_model, d_model)
        init_linear(self.q)
        init_linear(self.kv, blocks=2)
        init_linear(self.out)

    def forward(self, query_B1D: Tensor, tokens_BTD: Tensor) -> Tensor:
        """Attend; [B, 1, D] and [B, T, D] to [B, 1, D]."""
        k, v = self.kv(tokens_BTD).chunk(2, dim=-1)
        return self.out(attend(self.q(query_B1D), k, v, self.num_heads))


class FeedForward(nn.Sequential):
    """Linear, ReLU, linear, on each token by itself.

    Args:
        d_model: D, width of a token.
        hidden: width between the two layers.
    """

    def __init__(self, d_model: int, hidden: int) -> None:
        widen, narrow = nn.Linear(d_model, hidden), nn.Linear(hidden, d_model)
        init_linear(widen)
        init_linear(narrow)
        super().__init__(widen, nn.ReLU(), narrow)


def attend(q_BQD: Tensor, k_BTD: Tensor, v_BTD: Tensor, num_heads: int) -> Tensor:
    """Scaled dot-product attention of projected tokens, head by head; returns [B, Q, D]."""

    def split(x: Tensor) -> Tensor:  # a view: [B, T, D] as [B, H, T, D / H]
        return x.unflatten(-1, (num_heads, -1)).transpose(-2, -3)

    mixed_BHQd = F.scaled_dot_product_attention(split(q_BQD), split(k_BTD), split(v_BTD))
    return mixed_BHQd.transpose(-2, -3).flatten(-2)


@torch.no_grad()
def init_linear(layer: nn.Linear, *, blocks: int = 1) -> None:
    """Glorot-uniform weight, zero bias; `blocks` projections fused into one layer count as many."""
    for weight in layer.weight.chunk(blocks):
        nn.init.xavier_uniform_(weight)
    nn.init.zeros_(layer.bias)
