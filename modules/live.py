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

    It sees no times: whoever pushes answers for every bar coming once, in order, and calls `reset`
    where some are missing.

    Args:
        model: from `modules.policy.make_actor_value`; its parameters are shared.

    Raises:
        ValueError: for a network of somebody's own, without its encoder.
    """

    def __init__(self, model: ActorValueOperator) -> None:
        encoder = PathEncoder.find(model)
        if encoder is None:
            raise ValueError("model: no encoder in it; one of `make_actor_value` is needed")
        self._encoder = encoder
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

        Raises:
            ValueError: for another type or shape than float32 [..., F], other markets than those
                of the bars before, or a number that is none, naming its column: that of a bar in
                warm-up, which is in no window. Nothing is remembered of such a bar.
        """
        self._require_features(features)
        bar = self._encoder.window.normalise(features)[..., None, :]
        step = self._stream if self._encoder.is_streaming else self._encode_again
        state = step(bar)
        self._seen += 1
        return state if self._seen >= self._length else None

    def _require_features(self, features: Tensor) -> None:
        # A column of width 1 would be spread over all of them, and no number stays a window long:
        # every state with it in would choose the first index of each head, a short.
        count = self._encoder.window.loc.numel()
        if not isinstance(features, Tensor) or features.dtype != torch.float32:
            told = features.dtype if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(f"features: {told} is not allowed: a float32 tensor [..., {count}]")
        shape = features.shape
        if not shape or shape[-1] != count:
            raise ValueError(f"features: shape {list(shape)} is not allowed: [..., {count}]")
        if self._kept and self._kept[0].shape[:-2] != shape[:-1]:
            markets = [*self._kept[0].shape[:-2], count]
            raise ValueError(
                f"features: shape {list(shape)} is not allowed: {markets}, as the bars before; "
                "reset() begins with other markets"
            )
        if not features.isfinite().all():
            *market, column = (~features.isfinite()).nonzero()[0].tolist()
            where = f" of market {market}" if market else ""
            raise ValueError(
                f"features: {float(features[(*market, column)])} in column {column}{where} is not "
                "allowed: finite numbers; a bar in warm-up has none, and is in no window"
            )

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
