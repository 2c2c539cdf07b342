"""Use the market encoder alone: windows of your own in, one vector a window out.

python examples/encode_your_own_windows.py
"""

import torch
from tensordict import TensorDict

from modules.config import ModelConfig
from modules.policy import make_market_encoder


def main() -> torch.Tensor:
    """Encode 5 windows of 64 bars with 12 features each, and learn something from the result."""
    torch.manual_seed(0)
    sizes = ModelConfig(d_model=64, num_heads=4, num_layers=2, ff_dim=128, context_ff_dim=128)
    encoder = make_market_encoder(sizes, num_features=12, window=64)
    print(encoder)

    windows = torch.randn(5, 64, 12)  # yours, normalised to order one
    encoded = encoder(TensorDict({"window": windows}, batch_size=[5]))
    print("tokens", tuple(encoded["tokens"].shape))  # the CLS token and one for each bar
    print("market_state", tuple(encoded["market_state"].shape))

    # It is a plain differentiable module: put a head of your own on it.
    head = torch.nn.Linear(64, 1)
    loss = head(encoded["market_state"]).square().mean()
    loss.backward()
    return encoded["market_state"].detach()


if __name__ == "__main__":
    main()
