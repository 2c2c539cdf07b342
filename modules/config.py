"""Every size of the policy network: name, type, default, allowed range."""

import math
from dataclasses import dataclass

ENCODERS = ("transformer", "streaming", "mlp")
_WIDTHS = (
    "d_model",
    "num_layers",
    "num_heads",
    "ff_dim",
    "context_ff_dim",
    "account_dim",
    "features_dim",
)


@dataclass
class ModelConfig:
    """Sizes of the actor-critic; the defaults are a transformer of about 7.7 million parameters.

    What a market needs to say, the number of features, the window and the buckets of the action,
    is not repeated here: it comes from the table and the environment.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # What reads the window: a transformer (one pass for each window), a streaming transformer (one
    # pass for many consecutive windows, modules/streaming.py), or a perceptron over the flattened
    # window, which reads d_model, ff_dim and num_layers only.
    encoder: str = "transformer"
    # Width of a token, and of the market's state.
    d_model: int = 300
    # Encoder blocks over the window's tokens.
    num_layers: int = 4
    # Attention heads, in the encoder and in the context blocks; a divisor of d_model.
    num_heads: int = 6
    # Hidden width of an encoder block's feed-forward network.
    ff_dim: int = 1536
    # Blocks in which the pooled token re-attends the sequence; 0 takes the CLS token as it is.
    num_context_blocks: int = 2
    # Hidden width of a context block's feed-forward network.
    context_ff_dim: int = 1200
    # Width of the projected account.
    account_dim: int = 300
    # Width of the features that the action heads and the value head share.
    features_dim: int = 512
    # Normalised features are cut off at this many standard deviations.
    feature_clip: float = 10.0

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise ValueError(
                f"model.encoder={self.encoder!r} is not allowed: one of {', '.join(ENCODERS)}"
            )
        for key in _WIDTHS:
            _require_whole(key, getattr(self, key), low=1)
        _require_whole("num_context_blocks", self.num_context_blocks, low=0)
        if self.d_model % self.num_heads:
            raise ValueError(
                f"model.d_model={self.d_model!r} is not allowed: a multiple of "
                f"model.num_heads={self.num_heads}, one equal share of the width for each head"
            )
        if not (self.feature_clip > 0 and math.isfinite(self.feature_clip)):
            raise ValueError(
                f"model.feature_clip={self.feature_clip!r} is not allowed: a finite number above 0"
            )


def _require_whole(key: str, value: object, *, low: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"model.{key}={value!r} is not allowed: a whole number, at least {low}")
