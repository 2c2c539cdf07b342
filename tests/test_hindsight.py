"""The critic that sees the future: what it sees, and that nobody else does."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensordict import TensorDict

from modules.config import ModelConfig
from modules.hindsight import FutureBars, make_hindsight_critic
from modules.policy import make_actor_value, make_collection_policy

BARS, HORIZON, WINDOW = 50, 3, 4
RUNS = torch.tensor([[0, 20], [25, 50]])
HEADS = {"direction": 3, "size": 2}


def walk(seed=0):
    """float64 [BARS, 5]: bars of a random walk."""
    generator = torch.Generator().manual_seed(seed)
    close = (
        100.0 * (0.01 * torch.randn(BARS, generator=generator, dtype=torch.float64)).cumsum(0).exp()
    )
    high, low = close * 1.004, close * 0.997
    return torch.stack([close, high, low, close, torch.ones_like(close)], -1)


def test_the_future_is_how_high_how_low_and_where_after_1_2_4_bars():
    ohlcv = walk()
    future = FutureBars(ohlcv, RUNS, horizon=HORIZON)
    seen = (future(torch.tensor([[7]])) * future.scale).view(-1, 3)
    for row, bars in zip(seen, (1, 2, HORIZON), strict=True):
        path = (ohlcv[8 : 8 + bars, 1:4] / ohlcv[7, 3]).log()
        expected = torch.stack([path[:, 0].max(), path[:, 1].min(), path[-1, 2]]).float()
        torch.testing.assert_close(row, expected, atol=1e-6, rtol=1e-5)
    assert future.num_features == 9


def test_every_column_has_about_the_size_of_one():
    torch.manual_seed(0)
    close = (0.003 * torch.randn(20_000, dtype=torch.float64)).cumsum(0).exp()
    ohlcv = torch.stack([close] * 5, -1)
    future = FutureBars(ohlcv, torch.tensor([[0, 20_000]]), horizon=16)
    size = future(torch.arange(100, 19_000)[:, None]).square().mean(0).sqrt()
    assert ((size > 0.5) & (size < 1.5)).all()


TRAINED = [*range(20), *range(25, 50)]


@settings(max_examples=100)
@given(bar=st.sampled_from(TRAINED), changed=st.integers(0, BARS - 1))
def test_nothing_is_seen_before_the_bar_after_the_horizon_or_behind_the_run(bar, changed):
    end = 20 if bar < 20 else 50
    one, two = walk(), walk()
    two[changed, 1:4] *= 1.05
    futures = [FutureBars(ohlcv, RUNS, horizon=HORIZON) for ohlcv in (one, two)]
    before, after = (f(torch.tensor([[bar]])) * f.scale for f in futures)
    ahead = bar < changed <= bar + HORIZON and changed < end
    from_here = changed == bar < end - 1  # the close that the future is measured from
    assert torch.allclose(before, after, atol=1e-5) == (not (ahead or from_here))


def test_behind_the_end_of_a_run_the_price_stands_still():
    future = FutureBars(walk(), RUNS, horizon=HORIZON)
    assert (future(torch.tensor([[19]])) == 0).all()
    late = (future(torch.tensor([[18]])) * future.scale).view(-1, 3)
    torch.testing.assert_close(late[1:], late[:1].expand(2, 3), atol=1e-6, rtol=1e-5)


def test_a_horizon_of_nothing_is_refused():
    with pytest.raises(ValueError, match="horizon=0"):
        FutureBars(walk(), RUNS, horizon=0)


def build(ohlcv):
    torch.manual_seed(0)
    model = make_actor_value(
        ModelConfig(encoder="mlp", d_model=8, ff_dim=8, account_dim=8, features_dim=8, num_heads=1),
        features=torch.randn(BARS, 2, generator=torch.Generator().manual_seed(5)),
        loc=torch.zeros(2),
        scale=torch.ones(2),
        window=WINDOW,
        num_actions=HEADS,
        num_account=8,
    )
    critic = make_hindsight_critic(ohlcv, RUNS, horizon=HORIZON, features_dim=8, num_account=8)
    with torch.no_grad():
        critic.module[-1].module.head.linear.weight.normal_()
        model.get_value_head().module.linear.weight.normal_()
    return model, critic


def states():
    torch.manual_seed(2)
    bar = torch.randint(25, 45, (30, 1, 1)).expand(30, 2, 1).clone()
    return TensorDict({"bar": bar, "account": torch.randn(30, 2, 8)}, [30, 2])


def act(model, critic=None):
    torch.manual_seed(3)
    with torch.no_grad():
        return make_collection_policy(model, critic)(states())


def test_the_actor_never_sees_what_the_critic_sees():
    (model, critic), (other_model, other_critic) = build(walk(0)), build(walk(1))
    one, two = act(model, critic), act(other_model, other_critic)
    assert not torch.equal(one["hindsight_value"], two["hindsight_value"])
    for key in (("action", "direction"), ("action", "direction_log_prob"), "state_value"):
        assert torch.equal(one[key], two[key])
    alone = act(model)
    assert "hindsight_value" not in alone
    assert torch.equal(alone["action", "direction_log_prob"], one["action", "direction_log_prob"])


def test_no_parameter_of_the_critic_is_one_of_the_policy():
    model, critic = build(walk())
    policy = {id(p) for p in model.parameters()}
    assert not policy & {id(p) for p in critic.parameters()}


def test_no_gradient_of_the_policy_reaches_the_future():
    model, critic = build(walk())
    td = critic(model.module[0](states()))
    dist = model.get_policy_operator().get_dist(states())
    dist.log_prob(act(model))["action", "direction_log_prob"].sum().backward()
    assert all(p.grad is None for p in critic.parameters())
    assert td["hindsight_value"].shape == (30, 2, 1)
