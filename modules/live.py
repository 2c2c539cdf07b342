"""The market's state bar by bar, as bars come in."""

import torch
from torch import Tensor
from torchrl.modules import ActorValueOperator

from modules.path_encoder import PathEncoder


class LiveMarket:
    """Remembers what the next bar needs of those before it.

    A streaming encoder keeps keys and values, so that a bar costs one token in every block; a
    windowed one keeps the window's bars and encodes all of them again. Either says what the
    policy graph says of the whole window, up to rounding.

    Args:
        model: from `modules.policy.make_actor_value`; its parameters are shared.
    """

    def __init__(self, model: ActorValueOperator) -> None:
        self._encoder = PathEncoder(model)
        self._length = self._encoder.window.offsets.numel()
        self.reset()

    def reset(self) -> None:
        """Forget all bars: after a hole in the market, or in another one."""
        self._seen = 0
        self._kept: list[Tensor] | None = None

    @torch.no_grad()
    def push(self, features: Tensor) -> Tensor | None:
        """Take the next closed bar.

        Args:
            features: raw float32 [..., F], of one or of many markets at the same time.

        Returns:
            ``market_state`` [..., D]; None until a whole window has been seen.
        """
        bar = self._encoder.window.normalise(features)[..., None, :]
        step = self._stream if self._encoder.is_streaming else self._encode_again
        state = step(bar)
        self._seen += 1
        return state if self._seen >= self._length else None

    def _stream(self, bar: Tensor) -> Tensor:
        encoder, context = self._encoder.encoder, self._encoder.context
        layers = len(encoder.blocks)
        if self._kept is None:
            self._kept = encoder.empty_caches(bar) + context.empty_caches(bar)
        caches, pooled = self._kept[:layers], self._kept[layers:]
        state = context.step(encoder.step(bar, caches), pooled)
        self._kept = caches + pooled
        return state.squeeze(-2)

    def _encode_again(self, bar: Tensor) -> Tensor | None:
        bars = [*(self._kept or []), bar][-self._length :]
        self._kept = bars
        if len(bars) < self._length:
            return None
        return self._encoder.context(self._encoder.encoder(torch.cat(bars, -2)))
