"""The streaming encoder: one pass, one window and one bar at a time say the same."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tensordict import TensorDict
from tensordict.nn import TensorDictSequential
from torch import nn
from torchrl.modules import ActorValueOperator

from modules.config import ModelConfig
from modules.live import LiveMarket
from modules.path_encoder import PathEncoder
from modules.policy import make_actor_value, make_market_encoder, market_encoder
from modules.streaming import BLOCK, LocalAttention, StreamingBlock, split_lookback

WIDTH, HEADS, FEATURES, BARS = 12, 3, 4, 400
SIZES = {"d_model": WIDTH, "num_heads": HEADS, "ff_dim": 20, "context_ff_dim": 20}


def make_model(window=16, encoder="streaming", **changes):
    torch.manual_seed(0)
    cfg = ModelConfig(encoder=encoder, account_dim=8, features_dim=8, **{**SIZES, **changes})
    model = make_actor_value(
        cfg,
        features=torch.randn(BARS, FEATURES),
        loc=torch.full((FEATURES,), 0.1),
        scale=torch.full((FEATURES,), 1.5),
        window=window,
        num_actions={"direction": 3},
        num_account=2,
    )
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.5)
    return model


def windows_one_by_one(model, bars):
    """What the policy graph says of each pointer, [N, C] to [N, C, D]."""
    td = TensorDict({"bar": bars.reshape(-1, 1)}, [bars.numel()])
    return market_encoder(model)(td)["market_state"].unflatten(0, bars.shape)


def seen_whole(window, num_layers, num_context_blocks, **_):
    """Whether such a streaming network sees all bars of its window; others are refused."""
    return bool(num_context_blocks) or (window - 1) % num_layers == 0


def stretches(first, count):
    return torch.tensor(first)[:, None] + torch.arange(count)


# Attention.


@pytest.mark.parametrize("lookback", [0, 1, 5, 31])
@pytest.mark.parametrize("count", [1, 7, BLOCK, BLOCK + 1, 3 * BLOCK - 5])
def test_local_attention_equals_torch_s_under_a_band(count, lookback):
    torch.manual_seed(0)
    ours = LocalAttention(WIDTH, HEADS, lookback)
    for layer in (ours.q, ours.kv, ours.out):
        nn.init.normal_(layer.bias)
    nn.init.normal_(ours.bias)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat([ours.q.weight, ours.kv.weight]),
            "in_proj_bias": torch.cat([ours.q.bias, ours.kv.bias]),
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    tokens = torch.randn(2, lookback + count, WIDTH)
    queries = torch.randn(2, count, WIDTH)
    mask = torch.full((HEADS, count, lookback + count), -torch.inf)
    for head in range(HEADS):
        for i in range(count):
            for back in range(lookback + 1):
                mask[head, i, i + lookback - back] = ours.bias[head, back]
    expected, _ = theirs(queries, tokens, tokens, attn_mask=mask.repeat(2, 1, 1))
    torch.testing.assert_close(ours(queries, ours.kv(tokens)), expected, atol=1e-5, rtol=1e-5)


def test_the_first_heads_are_moving_averages_of_different_lengths():
    attention = LocalAttention(WIDTH, HEADS, 8)
    weights = attention.bias.softmax(-1)
    for head, half_life in enumerate((1.0, 8.0**0.5, 8.0)):
        ratio = weights[head, 1:] / weights[head, :-1]
        torch.testing.assert_close(ratio, torch.full((8,), 0.5 ** (1.0 / half_life)))


# Receptive field.


@given(
    window=st.integers(1, 300),
    layers=st.integers(1, 8),
    context=st.integers(0, 3),
)
def test_lookbacks_add_up_to_the_window(window, layers, context):
    block, last = split_lookback(window, layers, context)
    assert layers * block + last == window - 1
    assert min(block, last) >= 0
    if context and window > 4 * layers:
        assert block > 0
        assert last > 0
    if not context:
        assert last < layers


@pytest.mark.parametrize("window", [1, 4, 16, 33])
def test_a_state_depends_on_exactly_the_bars_of_its_window(window):
    model = make_model(window)
    features = market_encoder(model).module["window"].module.features
    pointer = torch.tensor([[200]])

    def state():
        return windows_one_by_one(model, pointer)

    before = state()
    original = features.clone()
    features[: 201 - window] += 1.0
    features[201:] += 1.0
    assert torch.equal(state(), before)
    for bar in (201 - window, 200):  # the oldest and the newest one
        features.copy_(original)
        features[bar] += 1.0
        assert not torch.equal(state(), before)


def test_within_a_pass_a_state_knows_neither_older_nor_later_bars():
    model = make_model(window := 16)
    encoder = PathEncoder(model)
    bars = stretches([100], 150)
    before = encoder(bars)
    encoder.window.features[170] += 1.0
    changed = (encoder(bars) != before).any(-1)[0]
    assert changed.nonzero()[:, 0].tolist() == list(range(70, 70 + window))


# One pass, windows, bars.


@settings(max_examples=40)
@given(data=st.data())
def test_a_pass_says_what_its_windows_say(data):
    window = data.draw(st.integers(1, 40), "window")
    count = data.draw(st.integers(1, 150), "count")
    changes = {
        "num_layers": data.draw(st.integers(1, 3), "layers"),
        "num_context_blocks": data.draw(st.integers(0, 2), "context"),
    }
    assume(seen_whole(window, **changes))
    model = make_model(window, **changes)
    bars = stretches([window - 1, 60, 201], count)
    with torch.no_grad():
        once, each = PathEncoder(model)(bars), windows_one_by_one(model, bars)
    torch.testing.assert_close(once, each, atol=1e-5, rtol=1e-5)


@settings(max_examples=25)
@given(data=st.data())
def test_bar_by_bar_says_what_a_pass_says(data):
    window = data.draw(st.integers(1, 40), "window")
    encoder = data.draw(st.sampled_from(["streaming", "transformer", "mlp"]), "encoder")
    changes = {
        "num_layers": data.draw(st.integers(1, 3), "layers"),
        "num_context_blocks": data.draw(st.integers(0, 2), "context"),
    }
    assume(encoder != "streaming" or seen_whole(window, **changes))
    model = make_model(window, encoder, **changes)
    count, first = 80, 100
    live = LiveMarket(model)
    table = market_encoder(model).module["window"].module.features
    states = [live.push(table[first + i]) for i in range(count + window - 1)]
    assert states[: window - 1] == [None] * (window - 1)
    with torch.no_grad():
        once = PathEncoder(model)(stretches([first + window - 1], count))
    torch.testing.assert_close(torch.stack(states[window - 1 :])[None], once, atol=1e-5, rtol=1e-5)


def test_many_markets_stream_together_and_a_reset_forgets():
    model = make_model(8)
    table = market_encoder(model).module["window"].module.features
    live = LiveMarket(model)
    for i in range(20):
        live.push(table[100 + i])
    live.reset()
    states = [live.push(table[torch.tensor([30, 90]) + i]) for i in range(10)]
    assert states[6] is None
    with torch.no_grad():
        once = PathEncoder(model)(stretches([37, 97], 3))
    torch.testing.assert_close(torch.stack(states[7:], 1), once, atol=1e-5, rtol=1e-5)


def wide(bar, value):
    return torch.cat([bar, torch.full_like(bar[..., :1], value)], -1)


@pytest.mark.parametrize("encoder", ["streaming", "transformer", "mlp"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda bar: bar.index_fill(0, torch.tensor(2), torch.nan), "nan in column 2 is not all"),
        (lambda bar: bar.index_fill(0, torch.tensor(0), -torch.inf), "-inf in column 0"),
        (
            lambda bar: bar.double(),
            r"float64 is not allowed: a float32 tensor \[\.\.\., 4\]",
        ),
        (lambda bar: bar.long(), r"torch\.int64"),
        (lambda bar: bar.tolist(), "list is not allowed"),
        (lambda bar: bar[:1], r"shape \[1\] is not allowed: \[\.\.\., 4\]"),
        (lambda bar: bar[0], r"shape \[\]"),
        (lambda bar: wide(bar, 0.0), r"shape \[5\]"),
        (lambda bar: bar[None], r"shape \[1, 4\] is not allowed: \[4\], as the bars before"),
    ],
)
@pytest.mark.parametrize("before", [1, 10], ids=["filling", "full"])
def test_a_bar_that_is_none_is_refused_and_forgotten(encoder, change, told, before):
    """It would stay for a window: states of no number, of which the first index is a short."""
    model = make_model(8, encoder)
    table = market_encoder(model).module["window"].module.features
    live, whole = LiveMarket(model), LiveMarket(model)
    for i in range(20):
        if i == before:
            with pytest.raises(ValueError, match=told):
                live.push(change(table[i]))
        state, expected = live.push(table[i]), whole.push(table[i])
    assert torch.equal(state, expected)


def test_a_bar_that_is_none_names_its_market():
    live = LiveMarket(make_model(8))
    bars = torch.zeros(3, FEATURES)
    live.push(bars)
    bars[1, 3] = torch.nan
    with pytest.raises(ValueError, match=r"nan in column 3 of market \[1\]"):
        live.push(bars)


def test_a_network_of_ones_own_has_no_live_market():
    trunk, actor, value = make_model(8).module
    own = ActorValueOperator(TensorDictSequential(trunk), actor, value)
    with pytest.raises(ValueError, match="no encoder in it; one of `make_actor_value` is needed"):
        LiveMarket(own)


def test_a_pass_has_the_gradients_of_its_windows():
    model = make_model(16)
    bars, weight = stretches([50, 120], 70), torch.randn(2, 70, WIDTH)
    gradients = []
    for states in (PathEncoder(model)(bars), windows_one_by_one(model, bars)):
        model.zero_grad()
        (states * weight).sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    one, each = gradients
    assert one.keys() == each.keys()
    for name, gradient in one.items():
        scale = float(each[name].abs().max())
        torch.testing.assert_close(gradient, each[name], atol=1e-5 * scale, rtol=1e-4, msg=name)


@pytest.mark.parametrize("encoder", ["transformer", "mlp"])
def test_other_encoders_see_one_window_after_the_other(encoder):
    model = make_model(8, encoder)
    bars = stretches([50, 120], 5)
    torch.testing.assert_close(PathEncoder(model)(bars), windows_one_by_one(model, bars))


def test_a_fresh_encoder_takes_windows_of_one_s_own():
    encoder = make_market_encoder(
        ModelConfig(encoder="streaming", **SIZES), num_features=FEATURES, window=16
    )
    out = encoder(TensorDict({"window": torch.randn(5, 16, FEATURES)}, [5]))
    assert out["market_state"].shape == (5, WIDTH)


def test_the_residual_stream_follows_autocast_and_compiles_into_one_graph():
    encoder = PathEncoder(make_model(16))
    bars = stretches([50, 120], 70)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert encoder(bars).dtype == torch.bfloat16
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(bars), encoder(bars))


def test_a_block_drops_the_tokens_that_lack_a_part_of_their_past():
    block = StreamingBlock(WIDTH, HEADS, 20, lookback=5)
    assert block(torch.randn(2, 12, WIDTH)).shape == (2, 7, WIDTH)


def test_a_network_that_would_not_see_its_whole_window_is_refused():
    with pytest.raises(ValueError, match=r"model\.num_layers=3 is not allowed: .* a divisor of 7"):
        make_model(8, num_layers=3, num_context_blocks=0)
    make_model(8, num_layers=7, num_context_blocks=0)
