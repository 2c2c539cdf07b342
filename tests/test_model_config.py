"""Sizes of the network: what is refused, and how it is said."""

import re

import pytest

from modules.config import ModelConfig


def test_the_defaults_are_the_published_network():
    cfg = ModelConfig()
    assert (cfg.d_model, cfg.num_layers, cfg.num_heads, cfg.ff_dim) == (300, 4, 6, 1536)
    assert (cfg.num_context_blocks, cfg.features_dim) == (2, 512)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 0}, "model.d_model=0 is not allowed: a whole number, at least 1"),
        ({"num_layers": 2.0}, "model.num_layers=2.0 is not allowed: a whole number"),
        ({"ff_dim": True}, "model.ff_dim=True is not allowed"),
        ({"features_dim": -1}, "model.features_dim=-1 is not allowed"),
        ({"num_context_blocks": -1}, "model.num_context_blocks=-1 is not allowed: a whole number"),
        ({"d_model": 64, "num_heads": 6}, "model.d_model=64 is not allowed: a multiple of model."),
        ({"feature_clip": 0.0}, "model.feature_clip=0.0 is not allowed: a finite number above 0"),
        ({"feature_clip": float("nan")}, "model.feature_clip=nan is not allowed"),
        ({"feature_clip": float("inf")}, "model.feature_clip=inf is not allowed"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ModelConfig(**changes)


@pytest.mark.parametrize("changes", [{"num_context_blocks": 0}, {"d_model": 420, "num_heads": 12}])
def test_the_edges_of_the_ranges_are_allowed(changes):
    ModelConfig(**changes)
