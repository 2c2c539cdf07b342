"""Small networks, one of each encoder; and one that prefers some actions to others."""

import dataclasses

import torch
from torch import nn

from modules.config import ModelConfig
from pipelines.model import make_model

_SIZES = {"d_model": 16, "ff_dim": 16, "account_dim": 8, "features_dim": 16, "num_heads": 2}
_CONTEXT = {"num_context_blocks": 1, "context_ff_dim": 16}
ENCODERS = {
    "transformer": ModelConfig(num_layers=1, **_CONTEXT, **_SIZES),
    "streaming": ModelConfig(encoder="streaming", num_layers=2, **_CONTEXT, **_SIZES),
    "mlp": ModelConfig(encoder="mlp", num_layers=2, **_SIZES),
}
# One block each: what two devices compute of them differs less.
SHALLOW = ENCODERS | {"streaming": dataclasses.replace(ENCODERS["streaming"], num_layers=1)}


def make_opinionated(cfg, env, table):
    """A model with opinions, the same wherever it lies: logits that differ from each other."""
    torch.manual_seed(0)
    model = make_model(cfg, env, table)
    with torch.no_grad():
        nn.init.normal_(model.get_policy_head()[0].module.linear.weight, std=3.0)
        nn.init.normal_(model.get_value_head().module.linear.weight)
    return model
