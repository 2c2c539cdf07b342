"""The feed-forward network of a transformer block."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from modules.linear import init_linear


class FeedForward(nn.Sequential):
    """Linear, ReLU, linear, on each token by itself.

    On a CPU in full precision it is one operation: hooks of the layers are not called, and there is
    neither a second derivative nor `torch.func.grad` or `vmap` of it.

    Args:
        d_model: D, width of a token.
        hidden: width between the two layers.
    """

    def __init__(self, d_model: int, hidden: int) -> None:
        widen, narrow = nn.Linear(d_model, hidden), nn.Linear(hidden, d_model)
        init_linear(widen)
        init_linear(narrow)
        super().__init__(widen, nn.ReLU(), narrow)

    def forward(self, tokens: Tensor) -> Tensor:
        """Every token by itself; [..., D] to [..., D]."""
        mixed = torch.is_autocast_enabled("cpu")
        if not tokens.is_cpu or mixed or torch.compiler.is_compiling():
            return super().forward(tokens)
        widen, _, narrow = self
        rows = tokens.reshape(-1, tokens.shape[-1])
        out = _OnCPU.apply(rows, widen.weight, widen.bias, narrow.weight, narrow.bias)
        return out.view_as(tokens)


class _OnCPU(Function):
    """The same, with as little memory written as can be: it takes most of a CPU's training.

    The hidden tokens are biased, rectified and, going back, cut off where they lie. The gradient of
    the wide weight is computed as the transpose of what autograd would compute: the same sums, in
    an order that MKL is a quarter faster in (docs/speed.md).
    """

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, widen: Tensor, bias: Tensor, narrow: Tensor, narrow_bias: Tensor
    ) -> Tensor:
        hidden_NH = torch.mm(x_ND, widen.t()).add_(bias).relu_()
        ctx.save_for_backward(x_ND, hidden_NH, widen, narrow)
        return torch.addmm(narrow_bias, hidden_NH, narrow.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, ...]:
        x_ND, hidden_NH, widen, narrow = ctx.saved_tensors
        ones_N = grad_ND.new_ones(len(grad_ND))  # a product sums faster than a sum
        grad_NH = grad_ND @ narrow
        torch.ops.aten.threshold_backward.grad_input(grad_NH, hidden_NH, 0, grad_input=grad_NH)
        return (
            grad_NH @ widen,
            (x_ND.t() @ grad_NH).t(),
            ones_N @ grad_NH,
            grad_ND.t() @ hidden_NH,
            ones_N @ grad_ND,
        )
