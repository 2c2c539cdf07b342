"""The value head: normalised inside, in units of the reward outside."""

import pytest
import torch

from modules.heads import RETURN_DECAY, ValueHead


@pytest.fixture
def head():
    torch.manual_seed(0)
    head = ValueHead(6)
    with torch.no_grad():
        head.linear.weight.normal_()
        head.linear.bias.normal_()
    return head


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (-40.0, 1e-3), (7.0, 300.0)])
def test_tracking_returns_changes_no_value(head, mean, spread):
    features = torch.randn(50, 6)
    before = head(features).detach()
    head.track(mean + spread * torch.randn(1_000))
    assert float(head.scale) == pytest.approx(spread, rel=0.1)
    assert float(head.loc) == pytest.approx(mean, abs=0.2 * spread)
    size = float(before.abs().max()) + abs(mean)
    torch.testing.assert_close(head(features), before, atol=1e-5 * size, rtol=1e-4)


def test_it_starts_at_nothing_whatever_the_features():
    assert (ValueHead(4)(torch.randn(3, 4)) == 0).all()


def test_the_latest_returns_weigh_most(head):
    for _ in range(200):
        head.track(torch.randn(100))
    for _ in range(100):
        head.track(5.0 + torch.randn(100))
    assert float(head.loc) == pytest.approx(5.0, abs=0.2)


def test_what_is_known_of_the_returns_is_the_decayed_mean_of_all_of_them(head):
    torch.manual_seed(4)
    rollouts = [shift + 3.0 * torch.randn(50) for shift in (0.0, 8.0, -2.0)]
    for returns in rollouts:
        head.track(returns)
    weights = torch.tensor([RETURN_DECAY**2, RETURN_DECAY, 1.0])
    means = torch.stack([returns.mean() for returns in rollouts])
    squares = torch.stack([returns.square().mean() for returns in rollouts])
    mean = (weights * means).sum() / weights.sum()
    square = (weights * squares).sum() / weights.sum()
    torch.testing.assert_close(head.loc, mean)
    torch.testing.assert_close(head.scale, (square - mean**2).sqrt())


def test_a_market_that_pays_nothing_breaks_nothing(head):
    features = torch.randn(50, 6)
    for _ in range(50):
        head.track(torch.zeros(100))
    assert head(features).isfinite().all()
