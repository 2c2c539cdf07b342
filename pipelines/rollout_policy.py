"""The policy of a rollout: the windows of all its steps encoded before the first of them.

In a market that does not react, the bars that a path will come to are known as soon as its episode
has begun. A few large batches (of a streaming encoder, a few passes) then say what one batch a
step would, without the latency of a transformer in every step.
"""

from typing import cast

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModule, TensorDictModuleBase
from torch import Tensor, nn
from torchrl.modules import ActorValueOperator

from envs.ledger import LEDGER
from modules.path_encoder import PathEncoder
from modules.policy import make_collection_policy
from pipelines.cuda_graph import CudaGraph
from pipelines.precision import mixed

_LAST_BAR = LEDGER.index("last_bar")
# Tokens encoded at a time: enough for large matrix products, few enough for a CPU's caches; on a
# GPU 4,096 windows of 65.
_TOKENS = {"cpu": 4_096, "cuda": 266_240}


class EncodeAhead(TensorDictModuleBase):
    """Writes ``market_state`` [..., K, D] for the K accounts of every path.

    Encodes as many steps at once as are announced and as the path nearest to its end still has;
    without an announcement, one.

    Args:
        encode: states of consecutive bars; a compiled module is one too.
    """

    def __init__(self, encode: PathEncoder) -> None:
        super().__init__()
        self.in_keys, self.out_keys = ["bar", "ledger"], ["market_state"]
        self.encode = encode
        self.announce(0)

    def announce(self, steps: int) -> None:
        """Promise so many calls, at consecutive bars until a path ends, under today's weights."""
        self.left, self.at = steps, 0
        self.bars = self.states = torch.empty(0, 0)

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the states of the bars that the paths have come to.

        Raises:
            RuntimeError: if a path is not where it had to be (asynchronously on CUDA).
        """
        bar = tensordict["bar"][..., 0, 0].reshape(-1)
        if self.at == self.bars.shape[1]:
            steps = 1
            if self.left > 1:
                last = tensordict["ledger"][..., 0, _LAST_BAR].reshape(-1)
                steps = max(1, min(self.left, int((last - bar).min())))
            self.bars = bar[:, None] + torch.arange(steps, device=bar.device)
            self.states, self.at = self._encode_all(self.bars), 0
        arrived = (bar == self.bars[:, self.at]).all()
        torch._assert_async(arrived, "a path is not at the bar that was encoded for it")
        states = self.states[:, self.at]
        self.at, self.left = self.at + 1, self.left - 1
        batch = tensordict.batch_size
        states = states.view(*batch[:-1], 1, -1).expand(*batch, -1)
        return tensordict.set("market_state", states)

    def _encode_all(self, bars: Tensor) -> Tensor:
        """In batches of one shape: bars that nobody asked for fill the last one up."""
        steps = bars.shape[1] if self.encode.is_streaming else 1
        rows = bars.reshape(-1, steps)
        size = -(-_TOKENS[bars.device.type] // self.encode.tokens(steps))
        size = min(size, len(rows))
        filled = torch.cat([rows, rows[-1:].expand(-len(rows) % size, -1)])
        states = torch.cat([self.encode(batch) for batch in filled.split(size)])
        return states[: len(rows)].reshape(*bars.shape, -1)


class RolloutPolicy(TensorDictModuleBase):
    """Actions, their log-probabilities and the value, for a collector or a replay.

    Args:
        model: actor and critic, whose parameters are shared.
        precision: of the matrix products, see `pipelines.precision`.
        hindsight: a critic to run beside the model's own.
        encode: the model's `PathEncoder`, perhaps compiled; None: a new one.
        with_logits: write the logits of every head too, which `pipelines.held_out.ties` compares.
        is_graphed: capture all but the encoder as a CUDA graph, with the exploration of then.
    """

    def __init__(
        self,
        model: ActorValueOperator,
        precision: str = "float32",
        hindsight: TensorDictModuleBase | None = None,
        encode: PathEncoder | None = None,
        *,
        with_logits: bool = False,
        is_graphed: bool = False,
    ) -> None:
        super().__init__()
        ahead = EncodeAhead(PathEncoder(model) if encode is None else encode)
        # A graph begins after the encoder; without one, a module more would cost a CPU a twentieth.
        given = TensorDictModule(nn.Identity(), ["market_state"], ["market_state"])
        market = given if is_graphed else ahead
        self.act = make_collection_policy(model, hindsight, market, with_logits=with_logits)
        self.before = ahead if is_graphed else None
        device = next(model.parameters()).device
        self.graph = CudaGraph(self._act, device) if is_graphed else None
        self.precision = precision
        self._of_lanes = [key for key in self.act.in_keys if key != "market_state"]
        self.in_keys = list(dict.fromkeys([*ahead.in_keys, *self._of_lanes]))
        self.out_keys = self.act.out_keys

    @property
    def ahead(self) -> EncodeAhead:
        """What encodes: the first module of the policy, or the one before its graph."""
        return cast(EncodeAhead, self.act[0] if self.before is None else self.before)

    def announce(self, steps: int) -> None:
        """See `EncodeAhead.announce`."""
        self.ahead.announce(steps)

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Act in a TensorDict [..., paths, accounts] of the environment."""
        with mixed(self.precision, tensordict["bar"].device):
            if self.graph is None:
                return self.act(tensordict)
            seen = self.ahead(tensordict.select(*self.ahead.in_keys))
        inputs = tensordict.select(*self._of_lanes).set("market_state", seen["market_state"])
        return tensordict.update(self.graph(inputs))

    def _act(self, tensordict: TensorDictBase) -> dict[NestedKey, Tensor]:
        with mixed(self.precision, tensordict["account"].device):
            acted = self.act(tensordict)
        return {key: acted[key] for key in self.out_keys}
