"""The policy graph: keys, sharing, distribution, loss, state, size."""

import pytest
import torch
from tensordict import TensorDict
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchrl.envs.utils import set_exploration_type
from torchrl.objectives import ClipPPOLoss

from modules.config import ModelConfig
from modules.heads import ActionHeads
from modules.policy import (
    make_actor_value,
    make_collection_policy,
    make_market_encoder,
    market_encoder,
)

HEADS = {"direction": 3, "size": 4, "stop_loss": 10, "take_profit": 4}
ACTIONS = [("action", head) for head in HEADS]
LOG_PROBS = [("action", f"{head}_log_prob") for head in HEADS]
BARS, FEATURES, WINDOW, ACCOUNT = 60, 3, 8, 5
TINY = ModelConfig(
    d_model=16,
    num_layers=2,
    num_heads=2,
    ff_dim=24,
    num_context_blocks=2,
    context_ff_dim=20,
    account_dim=12,
    features_dim=14,
)


def make_model(cfg=TINY, *, features=None, gain=100.0):
    """A seeded model; `gain` enlarges the heads' tiny first logits so that differences show."""
    torch.manual_seed(0)
    if features is None:
        features = torch.randn(BARS, FEATURES)
    num_features = features.shape[1]
    model = make_actor_value(
        cfg,
        features=features,
        loc=torch.full((num_features,), 0.1),
        scale=torch.full((num_features,), 1.5),
        window=WINDOW,
        num_actions=HEADS,
        num_account=ACCOUNT,
    )
    with torch.no_grad():
        model.get_policy_head()[0].module.linear.weight.mul_(gain)
        model.get_value_head().module.linear.weight.normal_()  # it starts at 0
    return model


def states(*batch, seed=1):
    """Observations of batch [..., accounts]."""
    generator = torch.Generator().manual_seed(seed)
    bar = torch.randint(WINDOW, BARS, (*batch[:-1], 1, 1), generator=generator)
    account = torch.randn(*batch, ACCOUNT, generator=generator)
    return TensorDict({"bar": bar.expand(*batch, 1).clone(), "account": account}, batch)


def act(model, td, kind="RANDOM"):
    with torch.no_grad(), set_exploration_type(kind):
        return make_collection_policy(model)(td.clone())


def minibatch(model, *batch):
    """What a learner trains on: a rollout's entries, advantages and targets."""
    td = act(model, states(*batch))
    for key in LOG_PROBS:  # as if collected by a slightly different policy
        td[key] += 0.1 * torch.randn(batch)
    td["advantage"], td["value_target"] = torch.randn(2, *batch, 1)
    return td


def make_loss(model):
    return ClipPPOLoss(
        model.get_policy_operator(),
        model.get_value_head(),
        clip_epsilon=0.2,
        clip_value=0.2,
        normalize_advantage=True,
        entropy_coeff={("action", f"{head}_entropy"): 0.01 for head in HEADS},
        loss_critic_type="l2",
    )


def total(out):
    return out["loss_objective"] + out["loss_entropy"] + out["loss_critic"]


def count_windows(model):
    """A list that fills with the number of windows of every encoder call."""
    calls = []
    encoder = market_encoder(model).module["encoder"].module
    encoder.register_forward_hook(lambda _m, args, _out: calls.append(args[0].shape[0]))
    return calls


# The graph.


def test_the_printed_graph_names_the_keys_in_the_order_of_the_data():
    text = repr(make_model())
    places = [
        text.index(f"out_keys=['{key}']")
        for key in ("window", "tokens", "market_state", "account_state", "agent_state", "params")
    ]
    assert places == sorted(places)
    assert text.index("out_keys=['state_value']") > places[-1]
    model = make_model()
    assert model.in_keys == ["bar", "account"]
    assert model.get_policy_operator().in_keys == ["bar", "account"]
    assert model.get_value_operator().in_keys == ["bar", "account"]


def test_the_encoder_alone_is_a_subsequence_of_the_trunk():
    model = make_model()
    encoder = model.module[0].select_subsequence(out_keys=["market_state"])
    assert encoder.in_keys == ["bar"]
    out = encoder(states(3, 4).exclude("account"))
    assert out["market_state"].shape == (3, 4, TINY.d_model)
    assert "tokens" not in out


def test_the_encoder_takes_windows_of_one_s_own():
    model = make_model()
    encoder = market_encoder(model)
    by_pointer = encoder(TensorDict({"bar": torch.tensor([[20], [30]])}, [2]))
    raw = torch.stack([model_table(model)[t - WINDOW + 1 : t + 1] for t in (20, 30)])
    own = TensorDict({"window": encoder.module["window"].module.normalise(raw)}, [2])
    by_window = encoder.select_subsequence(in_keys=["window"])(own)
    torch.testing.assert_close(by_window["market_state"], by_pointer["market_state"])


def test_a_fresh_encoder_needs_neither_table_nor_account():
    encoder = make_market_encoder(TINY, num_features=FEATURES, window=WINDOW)
    assert encoder.in_keys == ["window"]
    out = encoder(TensorDict({"window": torch.randn(5, WINDOW, FEATURES)}, [5]))
    assert out["tokens"].shape == (5, WINDOW + 1, TINY.d_model)
    assert out["market_state"].shape == (5, TINY.d_model)


def test_the_trunk_compiles_into_one_graph():
    model = make_model()
    compiled = torch.compile(model.module[0], backend="eager", fullgraph=True)
    expected = model.module[0](states(3, 4))["agent_state"]
    torch.testing.assert_close(compiled(states(3, 4))["agent_state"], expected)


def model_table(model):
    return market_encoder(model).module["window"].module.features


# Acting.


@pytest.mark.parametrize("batch", [(4,), (3, 4), (2, 3, 4), (3, 1)])
def test_a_rollout_stores_actions_log_probabilities_and_value_alone(batch, device):
    model = make_model().to(device)
    td = act(model, states(*batch).to(device))
    leaves = set(td.keys(include_nested=True, leaves_only=True))
    assert leaves == {"bar", "account", "state_value", *ACTIONS, *LOG_PROBS}
    for key, count in zip(ACTIONS, HEADS.values(), strict=True):
        assert td[key].dtype == torch.int64
        assert td[key].shape == batch
        assert 0 <= int(td[key].min()) <= int(td[key].max()) < count
    assert td["state_value"].shape == (*batch, 1)
    assert {td[key].dtype for key in ("state_value", *LOG_PROBS)} == {torch.float32}


def test_collecting_encodes_each_path_once_for_actions_and_value():
    model = make_model()
    calls = count_windows(model)
    act(model, states(3, 4))
    assert calls == [3]


def test_the_collection_policy_shares_the_model_s_parameters():
    model = make_model()
    policy = make_collection_policy(model)
    assert {id(p) for p in policy.parameters()} == {id(p) for p in model.parameters()}


def test_collected_values_are_the_critic_s():
    model = make_model()
    td = states(3, 4)
    with torch.no_grad():
        critic = model.get_value_operator()(td.clone())
    assert torch.equal(act(model, td)["state_value"], critic["state_value"])


def test_the_deterministic_policy_takes_each_head_s_most_likely_category():
    model = make_model()
    td = act(model, states(6, 4), "DETERMINISTIC")
    with torch.no_grad():
        trunk = model.module[0](states(6, 4))
        logits = model.get_policy_head()[0](trunk)["params"]
    for head in HEADS:
        assert torch.equal(td["action", head], logits[head, "logits"].argmax(-1))
        assert td["action", head].unique().numel() > 1


def test_sampled_actions_follow_the_logits():
    model = make_model()
    td = states(1, 4000)
    td["account"] = td["account"][:, :1].expand(1, 4000, ACCOUNT)
    out = act(model, td)
    for head, count in HEADS.items():
        action, log_prob = out["action", head][0], out["action", f"{head}_log_prob"][0]
        for category in range(count):
            chosen = action == category
            assert chosen.any()
            probability = float(log_prob[chosen][0].exp())
            assert abs(float(chosen.float().mean()) - probability) < 0.04


def test_the_first_policy_is_close_to_uniform():
    model = make_model(gain=1.0)
    td = act(model, states(20, 4))
    for head, count in HEADS.items():
        probability = td["action", f"{head}_log_prob"].exp()
        torch.testing.assert_close(
            probability, torch.full_like(probability, 1 / count), atol=0.02, rtol=0.05
        )


def test_sampling_from_logits_that_are_not_finite_raises():
    model = make_model(features=torch.full((BARS, FEATURES), float("nan")))
    with pytest.raises(RuntimeError, match="probability tensor contains"):
        act(model, states(2, 3))


@pytest.mark.parametrize("heads", [{}, {"direction": 3, "size": 0}])
def test_heads_without_categories_are_refused(heads):
    with pytest.raises(ValueError, match=r"num_actions=.* is not allowed"):
        ActionHeads(4, heads)


# Causality.


def test_bars_after_the_pointer_leave_every_output_bit_identical():
    features = torch.randn(BARS, FEATURES)
    last = 30
    future = features.clone()
    future[last + 1 :] = 1e3 * torch.randn(BARS - last - 1, FEATURES)
    td = states(5, 4)
    td["bar"] = td["bar"].clamp_max(last)
    one, two = (act(make_model(features=f), td, "DETERMINISTIC") for f in (features, future))
    for key in ("state_value", *ACTIONS, *LOG_PROBS):
        assert torch.equal(one[key], two[key])
    future[last] += 1.0
    td["bar"] = torch.full_like(td["bar"], last)
    changed = act(make_model(features=future), td)
    assert not torch.equal(changed["state_value"], act(make_model(), td)["state_value"])


# Sharing and the loss.


def losses_and_gradients(model, batch):
    model.zero_grad()
    out = make_loss(model)(batch)
    total(out).backward()
    names = ("loss_objective", "loss_entropy", "loss_critic", "kl_approx", "clip_fraction")
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    return {name: out[name].detach().mean() for name in names}, grads


@pytest.mark.parametrize("batch", [(6, 4), (2, 3, 4)])
def test_sharing_a_window_gives_the_losses_and_gradients_of_separate_lanes(batch):
    model = make_model()
    shared = minibatch(model, *batch)
    separate = shared.reshape(-1, 1)  # every account on a path of its own
    losses, gradients = losses_and_gradients(model, shared)
    plain_losses, plain_gradients = losses_and_gradients(model, separate)
    for name, value in losses.items():
        torch.testing.assert_close(value, plain_losses[name], atol=1e-5, rtol=1e-5)
    for name, gradient in gradients.items():
        scale = float(plain_gradients[name].abs().max())
        torch.testing.assert_close(
            gradient, plain_gradients[name], atol=1e-5 * max(scale, 1e-3), rtol=1e-5, msg=name
        )


def test_the_loss_encodes_each_path_once_for_actor_and_critic():
    model = make_model()
    batch = minibatch(model, 6, 4)
    calls = count_windows(model)
    make_loss(model)(batch)
    assert calls == [6]


@pytest.mark.parametrize("batch", [(6, 4), (2, 3, 4), (5, 1)])
def test_the_loss_is_finite_and_reaches_every_parameter(batch, device):
    model = make_model()
    data = minibatch(model, *batch).to(device)
    loss = make_loss(model.to(device))
    out = loss(data)
    total(out).backward()
    assert total(out).isfinite()
    trained = {id(p) for p in loss.parameters()}
    for name, parameter in model.named_parameters():
        assert id(parameter) in trained, name
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_the_loss_does_not_copy_the_table():
    model = make_model()
    tables = [b for b in make_loss(model).buffers() if b.shape == (BARS, FEATURES)]
    assert {b.data_ptr() for b in tables} == {model_table(model).data_ptr()}


@pytest.mark.parametrize("batch", [(6, 4), (2, 3, 4)])
def test_the_ratio_of_an_unchanged_policy_is_one(batch):
    model = make_model()
    td = act(model, states(*batch))
    items = td.reshape(-1, batch[-1])[torch.randperm(td.numel() // batch[-1])]
    with torch.no_grad():
        again = model.get_policy_operator().get_dist(items.clone()).log_prob(items)
    for key in LOG_PROBS:
        torch.testing.assert_close(again[key], items[key], atol=1e-6, rtol=1e-6)


def test_log_probabilities_and_value_stay_float32_under_autocast():
    model = make_model()
    exact = act(model, states(6, 4), "DETERMINISTIC")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        td = act(model, states(6, 4), "DETERMINISTIC")
    for key in ("state_value", *LOG_PROBS):
        assert td[key].dtype == torch.float32
    assert not torch.equal(td["state_value"], exact["state_value"])
    torch.testing.assert_close(td["state_value"], exact["state_value"], atol=0.1, rtol=0.1)


# State and size.


def test_a_model_comes_back_from_its_state_with_its_normaliser():
    model, other = make_model(), make_model(gain=1.0)
    gather = market_encoder(model).module["window"].module
    gather.loc.fill_(0.7)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert [k.rsplit(".", 1)[-1] for k in state if "market.module.module.window" in k] == [
        "loc",
        "scale",
    ]
    other.load_state_dict(state, strict=True)
    td = states(3, 4)
    one, two = act(model, td, "DETERMINISTIC"), act(other, td, "DETERMINISTIC")
    for key in ("state_value", *ACTIONS, *LOG_PROBS):
        assert torch.equal(one[key], two[key])


def test_a_checkpoint_of_other_buckets_is_refused():
    state = make_model().state_dict()
    state["module.1.module.0.module.linear.weight"] = torch.zeros(20, TINY.features_dim)
    with pytest.raises(RuntimeError, match="size mismatch"):
        make_model().load_state_dict(state)


@pytest.mark.parametrize(
    "key",
    [
        "d_model",
        "num_layers",
        "ff_dim",
        "num_context_blocks",
        "context_ff_dim",
        "account_dim",
        "features_dim",
    ],
)
def test_every_size_of_the_configuration_changes_the_network(key):
    larger = ModelConfig(**{**vars(TINY), key: 2 * getattr(TINY, key)})
    one, two = (sum(p.numel() for p in make_model(c).parameters()) for c in (TINY, larger))
    assert two > one


def test_heads_and_clip_of_the_configuration_arrive():
    model = make_model(ModelConfig(**{**vars(TINY), "num_heads": 4, "feature_clip": 2.5}))
    attending = [m.num_heads for m in model.modules() if hasattr(m, "num_heads")]
    assert attending == [4] * 4
    assert market_encoder(model).module["window"].module.clip == 2.5


def test_the_default_network_has_the_published_size_and_cost():
    model = make_actor_value(
        ModelConfig(),
        features=torch.randn(100, 17),
        loc=torch.zeros(17),
        scale=torch.ones(17),
        window=64,
        num_actions=HEADS,
        num_account=8,
    )
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(7.65e6, rel=0.03)
    td = TensorDict({"bar": torch.full((2, 1, 1), 70), "account": torch.zeros(2, 1, 8)}, [2, 1])
    counter = FlopCounterMode(display=False)
    # The counter sees through the mathematical attention alone.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        make_collection_policy(model)(td)
    assert counter.get_total_flops() / 2 == pytest.approx(693e6, rel=0.01)
