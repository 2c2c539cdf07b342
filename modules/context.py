"""Context attention: the pooled token looks at the whole sequence again.

Shapes: B batch, T tokens, D width.
"""

from torch import Tensor, nn

from modules.attention import QueryAttention
from modules.feed_forward import FeedForward


class ContextBlock(nn.Module):
    """The pooled token, as the only query, attends the sequence (as Touvron et al. 2021, CaiT).

    Pre-norm, residual, followed by a feed-forward network on the pooled token alone.

    Args:
        d_model: D, width of a token.
        num_heads: attention heads.
        ff_dim: hidden width of the feed-forward network.
    """

    def __init__(self, d_model: int, num_heads: int, ff_dim: int) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(d_model)
        self.token_norm = nn.LayerNorm(d_model)
        self.attention = QueryAttention(d_model, num_heads)
        self.ff_norm = nn.LayerNorm(d_model)
        self.ff = FeedForward(d_model, ff_dim)

    def forward(self, pooled_B1D: Tensor, tokens_BTD: Tensor) -> Tensor:
        """Refine the pooled token; [B, 1, D] to [B, 1, D]."""
        context_B1D = self.attention(self.query_norm(pooled_B1D), self.token_norm(tokens_BTD))
        pooled_B1D = pooled_B1D + context_B1D
        return pooled_B1D + self.ff(self.ff_norm(pooled_B1D))


class ContextAttention(nn.Module):
    """Pools a sequence into one state: the CLS token, refined by a stack of context blocks.

    Args:
        d_model: D, width of a token.
        num_blocks: context blocks; with 0 the CLS token is the state.
        num_heads: attention heads.
        ff_dim: hidden width of a block's feed-forward network.
    """

    def __init__(self, d_model: int, *, num_blocks: int, num_heads: int, ff_dim: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ContextBlock(d_model, num_heads, ff_dim) for _ in range(num_blocks)
        )

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        """Pool; [B, T, D], the CLS token first, to [B, D]."""
        pooled_B1D = tokens_BTD[..., :1, :]
        for block in self.blocks:
            pooled_B1D = block(pooled_B1D, tokens_BTD)
        return pooled_B1D.squeeze(-2)
