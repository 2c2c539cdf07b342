"""How the linear layers of the networks begin."""

import torch
from torch import nn


@torch.no_grad()
def init_linear(layer: nn.Linear, *, blocks: int = 1) -> None:
    """Glorot-uniform weight, zero bias; `blocks` projections fused into one layer count as many."""
    for weight in layer.weight.chunk(blocks):
        nn.init.xavier_uniform_(weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
