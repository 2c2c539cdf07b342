"""The encoder against torch's transformer layer, and what it must and must not depend on."""

import pytest
import torch
from torch import nn

from modules.context import ContextAttention
from modules.encoder import EncoderBlock, MarketEncoder

WINDOW, FEATURES, WIDTH, HEADS, FF = 6, 3, 12, 4, 20


def make_encoder(**changes):
    sizes = {"d_model": WIDTH, "num_layers": 2, "num_heads": HEADS, "ff_dim": FF}
    return MarketEncoder(FEATURES, WINDOW, **{**sizes, **changes})


def make_context(num_blocks=2):
    return ContextAttention(WIDTH, num_blocks=num_blocks, num_heads=HEADS, ff_dim=FF)


def test_a_block_equals_torch_s_pre_norm_transformer_layer():
    torch.manual_seed(0)
    ours = EncoderBlock(WIDTH, HEADS, FF)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    theirs = nn.TransformerEncoderLayer(
        WIDTH, HEADS, FF, dropout=0.0, activation="relu", batch_first=True, norm_first=True
    )
    layers = {
        "norm1": ours.attention_norm,
        "norm2": ours.ff_norm,
        "linear1": ours.ff[0],
        "linear2": ours.ff[2],
        "self_attn.out_proj": ours.attention.out,
    }
    state = {f"{name}.{k}": v for name, m in layers.items() for k, v in m.state_dict().items()}
    state |= {f"self_attn.in_proj_{k}": v for k, v in ours.attention.qkv.state_dict().items()}
    theirs.load_state_dict(state, strict=True)
    x = torch.randn(2, 5, WIDTH)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_tokens_are_the_cls_token_and_one_for_each_bar():
    tokens = make_encoder()(torch.randn(4, WINDOW, FEATURES))
    assert tokens.shape == (4, WINDOW + 1, WIDTH)
    assert tokens.dtype == torch.float32


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_windows_of_any_batch_are_encoded_one_by_one(batch):
    torch.manual_seed(0)
    encoder, context = make_encoder(), make_context()
    windows = torch.randn(*batch, WINDOW, FEATURES)
    state = context(encoder(windows))
    assert state.shape == (*batch, WIDTH)
    flat = context(encoder(windows.reshape(-1, WINDOW, FEATURES)))
    torch.testing.assert_close(state.reshape(-1, WIDTH), flat, atol=1e-6, rtol=1e-5)


def test_the_order_of_bars_matters_through_the_positions_alone():
    torch.manual_seed(0)
    encoder, context = make_encoder(), make_context()
    windows = torch.randn(2, WINDOW, FEATURES)
    backwards = windows.flip(-2)
    assert (context(encoder(windows)) - context(encoder(backwards))).abs().max() > 1e-2
    nn.init.zeros_(encoder.position)
    torch.testing.assert_close(
        context(encoder(windows)), context(encoder(backwards)), atol=1e-5, rtol=1e-4
    )


def test_every_bar_reaches_the_pooled_state():
    torch.manual_seed(0)
    encoder, context = make_encoder(), make_context()
    windows = torch.randn(1, WINDOW, FEATURES, requires_grad=True)
    context(encoder(windows)).square().sum().backward()
    assert (windows.grad.abs().amax(-1) > 0).all()


def test_without_context_blocks_the_cls_token_is_the_state():
    tokens = torch.randn(2, WINDOW + 1, WIDTH)
    assert torch.equal(make_context(num_blocks=0)(tokens), tokens[:, 0])


def test_context_blocks_look_at_the_tokens_again():
    torch.manual_seed(0)
    context = make_context()
    tokens = torch.randn(1, WINDOW + 1, WIDTH)
    changed = tokens.clone()
    changed[:, 1:] = torch.randn(1, WINDOW, WIDTH)
    assert (context(tokens) - context(changed)).abs().max() > 1e-3


def test_the_residual_stream_follows_autocast():
    encoder = make_encoder()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert encoder(torch.randn(2, WINDOW, FEATURES)).dtype == torch.bfloat16


def test_training_and_evaluation_mode_agree():
    torch.manual_seed(0)
    encoder, windows = make_encoder(), torch.randn(2, WINDOW, FEATURES)
    assert torch.equal(encoder.train()(windows), encoder.eval()(windows))


def test_the_encoder_compiles_into_one_graph():
    torch.manual_seed(0)
    encoder, context = make_encoder(), make_context()
    compiled = torch.compile(lambda x: context(encoder(x)), backend="eager", fullgraph=True)
    windows = torch.randn(2, WINDOW, FEATURES)
    torch.testing.assert_close(compiled(windows), context(encoder(windows)))
