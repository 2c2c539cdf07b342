"""The streaming encoder: one pass over a stretch of bars instead of one for each window.

Attention is causal and local, positions are relative: a token depends on the bars before it by
their distance alone, so that consecutive windows share all the work but that of one bar. From a
stretch of ``window - 1 + C`` bars come the C states that its last C bars have as ends of windows.

Every block drops the tokens that lack a part of their past, as a convolution without padding does:
a state depends on exactly the last `window` bars, wherever the stretch began.

Shapes: `...` any batch, F features, C states, D width, H heads.
"""

import math
from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from modules.attention import attend
from modules.feed_forward import FeedForward
from modules.linear import Linear, init_linear
from modules.local_attention import is_fused, local_attention

# Queries that are attended together; the keys that only some of them see are masked. The kernels of
# a GPU are made for so many, a CPU is faster with twice the lookback: fewer keys are masked.
BLOCK = 64
_LEAST = 16


class LocalAttention(nn.Module):
    r"""Every token attends itself and the `lookback` tokens before it.

    A head adds a learned bias for each distance to its logits (as Raffel et al. 2020, arXiv
    1910.10683). It starts as a line, of another slope in each head (as Press et al. 2022, arXiv
    2108.12409): at first the heads are moving averages whose half-lives go from one bar to the
    whole lookback.

    Args:
        d_model: D, width of a token.
        num_heads: H, a divisor of D.
        lookback: tokens that a query sees beside its own.
    """

    distance: Tensor

    def __init__(self, d_model: int, num_heads: int, lookback: int) -> None:
        super().__init__()
        self.num_heads, self.lookback = num_heads, lookback
        self.q = Linear(d_model, d_model)
        self.kv = Linear(d_model, 2 * d_model)
        self.out = Linear(d_model, d_model)
        init_linear(self.q)
        init_linear(self.kv, blocks=2)
        init_linear(self.out)
        half_life = torch.logspace(0.0, math.log2(max(lookback, 1)), num_heads, base=2.0)
        self.bias = nn.Parameter(-math.log(2.0) / half_life[:, None] * torch.arange(lookback + 1))
        keys = torch.arange(BLOCK + lookback)
        distance = torch.arange(BLOCK)[:, None] + lookback - keys
        self.register_buffer("distance", distance, persistent=False)

    def forward(self, queries: Tensor, keys_values: Tensor) -> Tensor:
        """Attend.

        Args:
            queries: [..., C, D], of the last C tokens.
            keys_values: [..., lookback + C, 2 D], what `kv` makes of the tokens.

        Returns:
            [..., C, D].
        """
        q = self.q(queries)
        if is_fused(q, self.num_heads, self.lookback):
            return self.out(self._fused(q, keys_values))
        count = q.shape[-2]
        most = BLOCK if queries.is_cuda else min(BLOCK, max(_LEAST, 2 * self.lookback))
        size = min(count, most)
        missing = -count % size  # fills the last block up, and is cut off again
        blocks = F.pad(q, (0, 0, 0, missing)).unflatten(-2, (-1, size))
        span = size + self.lookback
        seen = F.pad(keys_values, (0, 0, 0, missing)).unfold(-2, span, size).mT
        k, v = seen.flatten(0, -3).chunk(2, dim=-1)
        mixed = attend(blocks.flatten(0, -3), k, v, self.num_heads, self._bias(size, span))
        return self.out(mixed.view(blocks.shape).flatten(-3, -2)[..., :count, :])

    def _fused(self, q: Tensor, keys_values: Tensor) -> Tensor:
        """Attention on a GPU in half precision; [..., C, D] to the same."""
        # Empty caches are not in half precision; nor is the bias of a network that is, in float32.
        sequences, seen = (x[None].flatten(0, -3) for x in (q, keys_values.to(q.dtype)))
        return local_attention(sequences, seen, self.bias.float(), self.num_heads).view(q.shape)

    def _bias(self, size: int, span: int) -> Tensor:
        """[H, size, span]: the bias of each query for each key of its block."""
        distance = self.distance[:size, :span]
        bias = self.bias[:, distance.clamp(0, self.lookback)]
        return bias.masked_fill((distance < 0) | (distance > self.lookback), -torch.inf)


class StreamingBlock(nn.Module):
    """Pre-norm transformer block without dropout, whose attention is local.

    Args:
        d_model: D, width of a token.
        num_heads: attention heads.
        ff_dim: hidden width of the feed-forward network.
        lookback: tokens before its own that a token sees.
    """

    def __init__(self, d_model: int, num_heads: int, ff_dim: int, lookback: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = LocalAttention(d_model, num_heads, lookback)
        self.ff_norm = nn.LayerNorm(d_model)
        self.ff = FeedForward(d_model, ff_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Mix; [..., lookback + C, D] to the last C tokens [..., C, D]."""
        tokens = self.attention_norm(x)
        return self._add(x, tokens, self.attention.kv(tokens))

    def step(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """The newest token [..., 1, D] alone, after the cached keys and values of those before.

        Args:
            x: [..., 1, D].
            cache: [..., lookback, 2 D], oldest first.

        Returns:
            [..., 1, D], and the cache for the next token.
        """
        token = self.attention_norm(x)
        keys_values = torch.cat([cache, self.attention.kv(token)], -2)
        return self._add(x, token, keys_values), keys_values[..., 1:, :]

    def _add(self, x: Tensor, tokens: Tensor, keys_values: Tensor) -> Tensor:
        """The residual stream of the tokens whose whole past is in `keys_values`."""
        count = keys_values.shape[-2] - self.attention.lookback
        x = x[..., -count:, :] + self.attention(tokens[..., -count:, :], keys_values)
        return x + self.ff(self.ff_norm(x))


class StreamingContextBlock(nn.Module):
    """A stream of pooled tokens, one for each bar, attends the tokens of the bars before it.

    The block of :class:`modules.context.ContextBlock`, for consecutive bars at once: each token is
    projected once and read by all the queries that see it.

    Args:
        d_model: D, width of a token.
        num_heads: attention heads.
        ff_dim: hidden width of the feed-forward network.
        lookback: tokens before its own bar's that a query sees.
    """

    def __init__(self, d_model: int, num_heads: int, ff_dim: int, lookback: int) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(d_model)
        self.token_norm = nn.LayerNorm(d_model)
        self.attention = LocalAttention(d_model, num_heads, lookback)
        self.ff_norm = nn.LayerNorm(d_model)
        self.ff = FeedForward(d_model, ff_dim)

    def forward(self, pooled: Tensor, tokens: Tensor) -> Tensor:
        """Refine; [..., C, D] and [..., lookback + C, D] to [..., C, D]."""
        return self._add(pooled, self.attention.kv(self.token_norm(tokens)))

    def step(self, pooled: Tensor, token: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """The newest bar alone; see `StreamingBlock.step`."""
        keys_values = torch.cat([cache, self.attention.kv(self.token_norm(token))], -2)
        return self._add(pooled, keys_values), keys_values[..., 1:, :]

    def _add(self, pooled: Tensor, keys_values: Tensor) -> Tensor:
        pooled = pooled + self.attention(self.query_norm(pooled), keys_values)
        return pooled + self.ff(self.ff_norm(pooled))


class StreamingEncoder(nn.Module):
    """Bars as tokens of a stream, each of which knows the bars just before it.

    Args:
        num_features: F.
        d_model: D.
        num_layers: blocks.
        num_heads: attention heads.
        ff_dim: hidden width of a block's feed-forward network.
        lookback: tokens before its own that a token sees in each block.

    Attributes:
        dropped: bars at the start of a stretch that get no token.
    """

    def __init__(
        self,
        num_features: int,
        *,
        d_model: int,
        num_layers: int,
        num_heads: int,
        ff_dim: int,
        lookback: int,
    ) -> None:
        super().__init__()
        self.dropped = num_layers * lookback
        self.bar_projection = Linear(num_features, d_model)
        init_linear(self.bar_projection)
        self.blocks = nn.ModuleList(
            StreamingBlock(d_model, num_heads, ff_dim, lookback) for _ in range(num_layers)
        )

    def forward(self, bars: Tensor) -> Tensor:
        """Encode; float32 [..., S, F], normalised, to [..., S - dropped, D]."""
        x = self.bar_projection(bars)
        for block in self.blocks:
            x = block(x)
        return x

    def step(self, bar: Tensor, caches: list[Tensor]) -> Tensor:
        """The token [..., 1, D] of the newest bar [..., 1, F]; moves the caches on in place.

        Args:
            bar: normalised.
            caches: of every block, from `empty_caches` at the start of a stream. A token is whole
                once `dropped` bars have gone before it.
        """
        x = self.bar_projection(bar)
        for i, block in enumerate(cast(Iterable[StreamingBlock], self.blocks)):
            x, caches[i] = block.step(x, caches[i])
        return x

    def empty_caches(self, bar: Tensor) -> list[Tensor]:
        """Caches before the first bar of a stream, of the batch, dtype and device of `bar`."""
        blocks = cast(Iterable[StreamingBlock], self.blocks)
        return [empty_cache(block.attention, bar) for block in blocks]


class StreamingContext(nn.Module):
    """Pools a stream: the token of each bar, refined by blocks that look back further.

    Args:
        d_model: D.
        num_blocks: context blocks; with 0 a bar's token is its state.
        num_heads: attention heads.
        ff_dim: hidden width of a block's feed-forward network.
        lookback: tokens before a bar's own that the blocks see.
    """

    def __init__(
        self, d_model: int, *, num_blocks: int, num_heads: int, ff_dim: int, lookback: int
    ) -> None:
        super().__init__()
        self.lookback = lookback
        self.blocks = nn.ModuleList(
            StreamingContextBlock(d_model, num_heads, ff_dim, lookback) for _ in range(num_blocks)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """State of the last bar; [..., T, D] to [..., D]."""
        return self.states(tokens[..., -self.lookback - 1 :, :]).squeeze(-2)

    def states(self, tokens: Tensor) -> Tensor:
        """States of all bars with a whole past; [..., lookback + C, D] to [..., C, D]."""
        pooled = tokens[..., self.lookback :, :]
        for block in self.blocks:
            pooled = block(pooled, tokens)
        return pooled

    def step(self, token: Tensor, caches: list[Tensor]) -> Tensor:
        """State [..., 1, D] of the newest bar from its token; see `StreamingEncoder.step`."""
        pooled = token
        for i, block in enumerate(cast(Iterable[StreamingContextBlock], self.blocks)):
            pooled, caches[i] = block.step(pooled, token, caches[i])
        return pooled

    def empty_caches(self, bar: Tensor) -> list[Tensor]:
        """See `StreamingEncoder.empty_caches`."""
        blocks = cast(Iterable[StreamingContextBlock], self.blocks)
        return [empty_cache(block.attention, bar) for block in blocks]


def empty_cache(attention: LocalAttention, bar: Tensor) -> Tensor:
    """Keys and values of tokens that never were: [..., lookback, 2 D] for a bar [..., 1, F]."""
    return bar.new_zeros(*bar.shape[:-2], attention.lookback, attention.kv.out_features)


def split_lookback(window: int, num_layers: int, num_context_blocks: int) -> tuple[int, int]:
    """How far an encoder block and the context look back, so that a state knows `window` bars.

    Half of the way is gone by the encoder's blocks in equal steps, the other half by the context.

    Returns:
        The lookback of a block and that of the context, together
        ``num_layers * block + context == window - 1``. Without context blocks the context's part,
        less than `num_layers`, would not be seen, unless it is 0.
    """
    ahead = window - 1
    block = ahead // num_layers
    if num_context_blocks:
        block = min(block, -(-ahead // (2 * num_layers)))
    return block, ahead - num_layers * block
