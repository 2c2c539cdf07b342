"""One encoding for all accounts of a path: same outputs, same gradients, K times fewer calls."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn

from modules.sharing import PerPath


class Recorder(nn.Module):
    """A small network that keeps the shapes it was called with."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 5))
        self.calls = []

    def forward(self, bar):
        """One output of width 5 for each bar."""
        self.calls.append(tuple(bar.shape))
        return self.net(bar.float())


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Recorder()


def per_path(net):
    twice = TensorDictSequential(
        TensorDictModule(net, ["bar"], ["hidden"]),
        TensorDictModule(torch.sin, ["hidden"], ["state"]),
    )
    return PerPath(twice, ["state"])


def lanes(*batch):
    """Bars that the accounts in the last dimension share."""
    bar = torch.randint(0, 9, (*batch[:-1], 1, 1)).expand(*batch, 1)
    return TensorDict({"bar": bar}, batch_size=batch)


@pytest.mark.parametrize("batch", [(4,), (1,), (3, 4), (3, 1), (2, 3, 4), (2, 2, 3, 4)])
def test_every_lane_gets_what_the_module_makes_of_its_path(net, batch):
    td = lanes(*batch)
    expected = torch.sin(net(td["bar"]))
    net.calls.clear()
    out = per_path(net)(td)
    assert out is td
    torch.testing.assert_close(out["state"], expected)
    assert net.calls == [(td.numel() // batch[-1], 1)]


def test_only_the_requested_entries_reach_the_lanes(net):
    assert set(per_path(net)(lanes(3, 4)).keys()) == {"bar", "state"}


def test_gradients_are_those_of_the_module_on_every_lane(net):
    td, weight = lanes(3, 4), torch.randn(3, 4, 5)
    (torch.sin(net(td["bar"])) * weight).sum().backward()
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    (per_path(net)(td)["state"] * weight).sum().backward()
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-5)


def test_the_expansion_copies_nothing(net):
    state = per_path(net)(lanes(3, 4))["state"]
    assert state.stride()[1] == 0


def test_a_batch_without_accounts_is_refused(net):
    with pytest.raises(ValueError, match=r"batch size \[\] is not allowed.*\[..., accounts\]"):
        per_path(net)(TensorDict({"bar": torch.zeros(1)}, batch_size=[]))
