"""Linear layers: how they begin, and how a machine multiplies by them.

A tensor core loads 16 bytes at a time, eight numbers of bfloat16. Rows that are no multiple of that
go through older kernels, at half the speed or less: they are filled up with zeros.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from modules.cpu_product import onednn_linear, prefers_onednn

_ALIGNED = 8


@torch.no_grad()
def init_linear(layer: nn.Linear, *, blocks: int = 1) -> None:
    """Glorot-uniform weight, zero bias; `blocks` projections fused into one layer count as many."""
    for weight in layer.weight.chunk(blocks):
        nn.init.xavier_uniform_(weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Linear(nn.Linear):
    """A linear layer of any width, which on a GPU is multiplied at an aligned one.

    On an AMD CPU large products are oneDNN's: see `onednn_linear` for what there is not.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As every linear layer; [..., in_features] to [..., out_features]."""
        if x.is_cuda:
            return aligned_linear(x, self.weight, self.bias)
        if prefers_onednn(x, self.weight):
            return onednn_linear(x, self.weight, self.bias)
        return super().forward(x)


def aligned(size: int) -> int:
    """The size, or the next one that is."""
    return size + -size % _ALIGNED


def fill_up(tensor: Tensor, *sizes: int) -> Tensor:
    """The tensor with zeros after its last dimensions, as many as `sizes`, or the tensor itself."""
    missing = [size - given for size, given in zip(sizes, tensor.shape[-len(sizes) :], strict=True)]
    if not any(missing):
        return tensor
    return F.pad(tensor, [x for count in reversed(missing) for x in (0, count)])


def aligned_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`torch.nn.functional.linear`, multiplied at aligned widths."""
    out, wide = weight.shape[0], aligned(weight.shape[1])
    filled = fill_up(weight, aligned(out), wide)
    if bias is not None:
        bias = fill_up(bias, aligned(out))
    return F.linear(fill_up(x, wide), filled, bias)[..., :out]
