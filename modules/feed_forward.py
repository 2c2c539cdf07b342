"""The feed-forward network of a transformer block."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from modules.linear import Linear, aligned, fill_up, init_linear


class FeedForward(nn.Sequential):
    """Linear, ReLU, linear, on each token by itself.

    On a CPU in full precision it is one operation, on a GPU the first two layers are: their hooks
    are not called, and there is neither a second derivative nor `torch.func.grad` or `vmap`.

    Args:
        d_model: D, width of a token.
        hidden: width between the two layers.
    """

    def __init__(self, d_model: int, hidden: int) -> None:
        widen, narrow = Linear(d_model, hidden), Linear(hidden, d_model)
        init_linear(widen)
        init_linear(narrow)
        super().__init__(widen, nn.ReLU(), narrow)

    def forward(self, tokens: Tensor) -> Tensor:
        """Every token by itself; [..., D] to [..., D]."""
        widen, narrow = cast(Linear, self[0]), cast(Linear, self[2])
        rows = tokens.reshape(-1, tokens.shape[-1])
        if tokens.is_cuda:
            return narrow(_widen(rows, widen.weight, widen.bias)).view(tokens.shape)
        if torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
            return super().forward(tokens)
        out = _OnCPU.apply(rows, widen.weight, widen.bias, narrow.weight, narrow.bias)
        return out.view_as(tokens)


def _widen(rows_ND: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Linear and ReLU at once, on a GPU."""
    hidden, wide = aligned(weight.shape[0]), aligned(weight.shape[1])
    filled = _cast(fill_up(rows_ND, wide), fill_up(weight, hidden, wide), fill_up(bias, hidden))
    return linear_relu(*filled)[:, : len(weight)]


def _cast(*tensors: Tensor) -> list[Tensor]:
    """As autocast would, which knows nothing of operations that are not torch's own."""
    if not torch.is_autocast_enabled("cuda"):
        return list(tensors)
    return [tensor.to(torch.get_autocast_dtype("cuda")) for tensor in tensors]


@torch.library.custom_op("pricetaker::linear_relu", mutates_args=())
def linear_relu(x_ND: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU of a linear layer, [N, D] to [N, hidden], rectified while it is still in registers.

    A compiler leaves the product to a library, and reads and writes its result once more.
    """
    return torch._addmm_activation(bias, x_ND, weight.t())


@linear_relu.register_fake
def _(x_ND: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x_ND.new_empty(x_ND.shape[0], weight.shape[0])


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    x_ND, weight, _ = inputs
    ctx.save_for_backward(x_ND, weight, output)


def _linear_relu_backward(ctx: Any, grad_NH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x_ND, weight, hidden_NH = ctx.saved_tensors
    grad_NH = torch.ops.aten.threshold_backward(grad_NH, hidden_NH, 0)
    enough = torch.promote_types(grad_NH.dtype, torch.float32)
    of_bias = grad_NH.sum(0, dtype=enough).to(grad_NH.dtype)
    return grad_NH @ weight, grad_NH.t() @ x_ND, of_bias


linear_relu.register_autograd(_linear_relu_backward, setup_context=_save)


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
