"""States of the market along a path, for who looks at many consecutive bars: learner and replay.

Shapes: N stretches, C consecutive bars of each, D width.
"""

from typing import Self

from tensordict.nn import TensorDictSequential
from torch import Tensor, nn
from torchrl.modules import ActorValueOperator

from modules.policy import market_encoder
from modules.sharing import PerPath
from modules.streaming import StreamingEncoder


class PathEncoder(nn.Module):
    """What the market's half of the policy graph says of every bar of a stretch.

    A windowed encoder sees one window after the other, a streaming one the stretch in one pass;
    the graph itself, asked bar by bar, says the same up to rounding.

    Args:
        model: from `modules.policy.make_actor_value`; its parameters are shared.
    """

    def __init__(self, model: ActorValueOperator) -> None:
        super().__init__()
        parts = {name: part.module for name, part in market_encoder(model).module.items()}
        self.window, self.encoder = parts["window"], parts["encoder"]
        self.context = parts.get("context", nn.Identity())

    @classmethod
    def find(cls, model: ActorValueOperator) -> Self | None:
        """The encoder of a model, None if it is a network of somebody's own without one."""
        trunk = model.module[0]
        named = isinstance(trunk, TensorDictSequential) and isinstance(trunk.module, nn.ModuleDict)
        found = named and isinstance(dict(trunk.module.items()).get("market"), PerPath)
        return cls(model) if found else None

    @property
    def is_streaming(self) -> bool:
        """Whether a stretch is cheaper than its windows."""
        return isinstance(self.encoder, StreamingEncoder)

    def tokens(self, count: int) -> int:
        """Tokens that a stretch of `count` bars takes at once: what its memory grows with."""
        window = self.window.offsets.numel()
        return window - 1 + count if self.is_streaming else (window + 1) * count

    def forward(self, bars_NC: Tensor) -> Tensor:
        """Encode.

        Args:
            bars_NC: int64 [N, C], pointers, each row C consecutive bars.

        Returns:
            [N, C, D].
        """
        if self.is_streaming:
            return self.context.states(self.encoder(self.window.stretch(bars_NC)))
        states = self.context(self.encoder(self.window(bars_NC.reshape(-1, 1))))
        return states.unflatten(0, bars_NC.shape)
