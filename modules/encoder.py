"""The transformer encoder of a window of bars.

Shapes: B batch, L bars of a window, F features, T = L + 1 tokens, D width.
"""

import torch
from torch import Tensor, nn

from modules.attention import SelfAttention
from modules.feed_forward import FeedForward
from modules.linear import Linear, init_linear

# Larger than a projected bar (about 0.3): with the usual 0.02 the tokens of a window look alike to
# attention, and training takes many times longer until it tells a recent bar from an old one.
POSITION_STD = 0.6
CLS_STD = 0.02


class EncoderBlock(nn.Module):
    """Pre-norm transformer block (Xiong et al. 2020, arXiv 2002.04745) without dropout.

    Dropout would give the same action another probability in the update than in the rollout, and
    the policy's ratio would not start at 1.

    Args:
        d_model: D, width of a token.
        num_heads: attention heads.
        ff_dim: hidden width of the feed-forward network.
    """

    def __init__(self, d_model: int, num_heads: int, ff_dim: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model, num_heads)
        self.ff_norm = nn.LayerNorm(d_model)
        self.ff = FeedForward(d_model, ff_dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Mix the tokens; [B, T, D] to [B, T, D]."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD))
        return x_BTD + self.ff(self.ff_norm(x_BTD))


class MarketEncoder(nn.Module):
    """A window of bars as tokens: a learned CLS token first, then one token for each bar.

    Bars are projected linearly, learned positions added, then `num_layers` blocks mix the tokens.

    Args:
        num_features: F.
        window: L.
        d_model: D.
        num_layers: encoder blocks.
        num_heads: attention heads.
        ff_dim: hidden width of a block's feed-forward network.
    """

    def __init__(
        self,
        num_features: int,
        window: int,
        *,
        d_model: int,
        num_layers: int,
        num_heads: int,
        ff_dim: int,
    ) -> None:
        super().__init__()
        self.bar_projection = Linear(num_features, d_model)
        self.cls = nn.Parameter(torch.empty(d_model))
        self.position = nn.Parameter(torch.empty(window + 1, d_model))
        self.blocks = nn.ModuleList(
            EncoderBlock(d_model, num_heads, ff_dim) for _ in range(num_layers)
        )
        init_linear(self.bar_projection)
        nn.init.normal_(self.cls, std=CLS_STD)
        nn.init.normal_(self.position, std=POSITION_STD)

    def forward(self, window_BLF: Tensor) -> Tensor:
        """Encode windows.

        Args:
            window_BLF: float32 [B, L, F], normalised, oldest bar first.

        Returns:
            [B, L + 1, D], the CLS token first.
        """
        bars_BLD = self.bar_projection(window_BLF)
        # Under autocast the parameters would promote the whole residual stream to float32.
        cls_B1D = self.cls.to(bars_BLD.dtype).expand(*bars_BLD.shape[:-2], 1, -1)
        x_BTD = torch.cat([cls_B1D, bars_BLD], -2) + self.position.to(bars_BLD.dtype)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return x_BTD
