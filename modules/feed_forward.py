"""The feed-forward network of a transformer block."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from modules.cpu_product import product, weight_gradient
from modules.kernels import has_kernels
from modules.linear import Linear, aligned, fill_up, init_linear


class FeedForward(nn.Sequential):
    """Linear, ReLU, linear, on each token by itself.

    On a GPU, and on a CPU in full precision, it is one operation: the hooks of its layers are not
    called, and there is neither a second derivative nor `torch.func.grad` or `vmap`.

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
        rows = tokens.reshape(-1, tokens.shape[-1]).contiguous()
        layers = widen.weight, widen.bias, narrow.weight, narrow.bias
        if tokens.is_cuda:
            return _on_gpu(rows, *layers).view(tokens.shape)
        if torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
            return super().forward(tokens)
        return _OnCPU.apply(rows, *layers).view_as(tokens)


def _on_gpu(x_ND: Tensor, widen: Tensor, bias: Tensor, narrow: Tensor, narrow_bias: Tensor) -> Any:
    """`feed_forward` at aligned widths, in the dtype that autocast would choose."""
    hidden, wide = aligned(widen.shape[0]), aligned(widen.shape[1])
    filled: tuple[Tensor, ...] = (
        fill_up(x_ND, wide),
        *(fill_up(widen, hidden, wide), fill_up(bias, hidden)),
        *(fill_up(narrow, wide, hidden), fill_up(narrow_bias, wide)),
    )
    if torch.is_autocast_enabled("cuda"):  # it knows torch's own operations only
        filled = tuple(tensor.to(torch.get_autocast_dtype("cuda")) for tensor in filled)
    return feed_forward(*filled)[0][:, : x_ND.shape[-1]]


@torch.library.custom_op("pricetaker::feed_forward", mutates_args=())
def feed_forward(
    x_ND: Tensor, widen_HD: Tensor, bias_H: Tensor, narrow_DH: Tensor, narrow_bias_D: Tensor
) -> tuple[Tensor, Tensor]:
    """Linear, ReLU, linear: [N, D], and the rectified hidden tokens [N, H], for the gradient.

    They are rectified while they are still in registers: a compiler leaves the product to a
    library, and reads and writes its result once more. No gradient goes through the second result.
    """
    hidden_NH = torch._addmm_activation(bias_H, x_ND, widen_HD.t())
    return torch.addmm(narrow_bias_D, hidden_NH, narrow_DH.t()), hidden_NH


@feed_forward.register_fake
def _(
    x_ND: Tensor, widen_HD: Tensor, bias_H: Tensor, narrow_DH: Tensor, narrow_bias_D: Tensor
) -> tuple[Tensor, Tensor]:
    rows = x_ND.shape[0]
    return x_ND.new_empty(rows, narrow_DH.shape[0]), x_ND.new_empty(rows, widen_HD.shape[0])


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    x_ND, widen_HD, _, narrow_DH, _ = inputs
    ctx.set_materialize_grads(False)  # hidden tokens' worth of zeros
    ctx.save_for_backward(x_ND, output[1], widen_HD, narrow_DH)


@once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
def _feed_forward_backward(
    ctx: Any, grad_ND: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    if grad_ND is None:
        return (None,) * 5
    x_ND, hidden_NH, widen_HD, narrow_DH = ctx.saved_tensors
    grad_NH, of_bias = relu_gradient(grad_ND, narrow_DH, hidden_NH)
    of_narrow_bias = _column_sums(grad_ND)
    of_narrow = grad_ND.t() @ hidden_NH
    return grad_NH @ widen_HD, grad_NH.t() @ x_ND, of_bias, of_narrow, of_narrow_bias


feed_forward.register_autograd(_feed_forward_backward, setup_context=_save)


@torch.library.custom_op("pricetaker::relu_gradient", mutates_args=())
def relu_gradient(grad_ND: Tensor, narrow_DH: Tensor, hidden_NH: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient before the ReLU [N, H], and its sums over the tokens [H], that of the bias."""
    if has_kernels(grad_ND):
        from modules.relu_kernel import launch

        return launch(grad_ND.contiguous(), narrow_DH.contiguous(), hidden_NH.contiguous())
    grad_NH = torch.ops.aten.threshold_backward(grad_ND @ narrow_DH, hidden_NH, 0)
    return grad_NH, _column_sums(grad_NH)


@relu_gradient.register_fake
def _(grad_ND: Tensor, narrow_DH: Tensor, hidden_NH: Tensor) -> tuple[Tensor, Tensor]:
    return hidden_NH.new_empty(hidden_NH.shape), grad_ND.new_empty(narrow_DH.shape[1])


def _column_sums(x_NC: Tensor) -> Tensor:
    """[C], added up in float32 or more."""
    enough = torch.promote_types(x_NC.dtype, torch.float32)
    return x_NC.sum(0, dtype=enough).to(x_NC.dtype)


class _OnCPU(Function):
    """The same, with as little memory written as can be: it takes most of a CPU's training.

    The hidden tokens are biased, rectified and, going back, cut off where they lie.
    """

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, widen: Tensor, bias: Tensor, narrow: Tensor, narrow_bias: Tensor
    ) -> Tensor:
        # No ReLU in the product: oneDNN's makes a zero of what is no number.
        hidden_NH = product(x_ND, widen, bias).relu_()
        ctx.save_for_backward(x_ND, hidden_NH, widen, narrow)
        return product(hidden_NH, narrow, narrow_bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, ...]:
        x_ND, hidden_NH, widen, narrow = ctx.saved_tensors
        grad_ND = grad_ND.contiguous()
        grad_NH = product(grad_ND, narrow.t())
        torch.ops.aten.threshold_backward.grad_input(grad_NH, hidden_NH, 0, grad_input=grad_NH)
        return (
            product(grad_NH, widen.t()),
            weight_gradient(grad_NH, x_ND),
            _column_sums(grad_NH),
            weight_gradient(grad_ND, hidden_NH),
            _column_sums(grad_ND),
        )
