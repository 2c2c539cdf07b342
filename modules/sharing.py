"""One encoding of the market for all accounts that look at it."""

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey


class PerPath(TensorDictModuleBase):
    """Runs a module once for each path instead of once for each of the path's accounts.

    A TensorDict of batch [..., K] holds K accounts on every path, which share what they see of the
    market. The module reads the first account's entries as a TensorDict of batch [paths], and its
    outputs are expanded over the accounts without a copy; in the backward pass the gradients of
    the K accounts are summed before they enter the module. Losses and gradients are those of the
    module applied to every lane, at 1 / K of the cost.

    The entries under `in_keys` must be equal for all accounts of a path; the environment holds
    this, and nothing here checks it (comparing them would stall an accelerator).

    Args:
        module: reads and writes entries of a path, for any number of paths.
        out_keys: entries to hand to the accounts; the others are dropped.

    Raises:
        ValueError: in the call, for a TensorDict without a batch dimension of accounts.
    """

    def __init__(self, module: TensorDictModuleBase, out_keys: list[NestedKey]) -> None:
        super().__init__()
        self.module = module
        self.in_keys = list(module.in_keys)
        self.out_keys = out_keys

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write `out_keys` [..., K, *] into a TensorDict of batch [..., K]."""
        batch = tensordict.batch_size
        if not batch:
            raise ValueError(
                "PerPath: a TensorDict of batch size [] is not allowed: "
                "the last batch dimension must be the accounts of a path, [..., accounts]"
            )
        path = tensordict.select(*self.in_keys)[..., 0].reshape(-1)
        path = self.module(path).select(*self.out_keys)
        return tensordict.update(path.reshape(batch[:-1]).unsqueeze(-1).expand(batch))
