"""A policy that is shown one closed bar at a time, as it would be in the market.

A bulk replay encodes all windows of a tile before its first step. Here a bar is looked at when it
has closed, after those before it and with nothing else at hand: what differs shows a replay that
looks ahead, or rounding (`pipelines.held_out.ties`).
"""

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.modules import ActorValueOperator

from modules.live import LiveMarket
from modules.path_encoder import PathEncoder
from modules.policy import make_collection_policy


class LiveEncoder(TensorDictModuleBase):
    """Writes ``market_state`` [..., K, D] for the K accounts of every path, bar by bar.

    Where a path does not go on at the next bar, in a new tile, it begins with the bars of a window.

    Args:
        model: from `modules.policy.make_actor_value`; its parameters are shared.
    """

    def __init__(self, model: ActorValueOperator) -> None:
        super().__init__()
        self.in_keys, self.out_keys = ["bar"], ["market_state"]
        self.market = LiveMarket(model)
        window = PathEncoder(model).window
        self.features, self.before = window.features, window.offsets.numel() - 1
        self.at: Tensor | None = None

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Take the bars that the paths have come to."""
        bar = tensordict["bar"][..., 0, 0]
        if self.at is None or not torch.equal(bar, self.at + 1):
            self.market.reset()
            for ago in range(self.before, 0, -1):
                self.market.push(self.features[(bar - ago).clamp_min(0)])
        state = self.market.push(self.features[bar])
        self.at = bar.clone()
        if state is None:
            raise RuntimeError("the window is not full: not every bar before was seen")
        return tensordict.set("market_state", state[..., None, :].expand(*tensordict.shape, -1))


def make_live_policy(model: ActorValueOperator) -> TensorDictModuleBase:
    """The policy of `model`, for `pipelines.held_out.rollout.play_tiles`."""
    return make_collection_policy(model, None, LiveEncoder(model), with_logits=True)
