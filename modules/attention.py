"""The multi-head attention that the transformer blocks are made of.

Shapes: B batch, T tokens, D width, H heads.
"""

from contextlib import nullcontext

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from modules.linear import Linear, aligned, aligned_linear, fill_up, init_linear
from modules.window_attention import filled_head, fits, window_attention


class SelfAttention(nn.Module):
    """Every token attends every token; one matrix multiplication projects q, k and v.

    Args:
        d_model: D, width of a token.
        num_heads: H, a divisor of D.
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(d_model, 3 * d_model)
        self.out = Linear(d_model, d_model)
        init_linear(self.qkv, blocks=3)
        init_linear(self.out)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Attend; [B, T, D] to [B, T, D]."""
        head = x_BTD.shape[-1] // self.num_heads
        if x_BTD.is_cuda and head != filled_head(head):
            return self._with_heads_of(filled_head(head), x_BTD)
        return self.out(_attend_all(self.qkv(x_BTD), self.num_heads, head**-0.5))

    def _with_heads_of(self, wide: int, x_BTD: Tensor) -> Tensor:
        """The same with zeros at the end of every head, for which a GPU's kernels are made."""
        heads, head = self.num_heads, x_BTD.shape[-1] // self.num_heads
        weight = fill_up(self.qkv.weight.unflatten(0, (3 * heads, head)), wide, x_BTD.shape[-1])
        bias = fill_up(self.qkv.bias.unflatten(0, (3 * heads, head)), wide)
        qkv = aligned_linear(x_BTD, weight.flatten(0, 1), bias.flatten())
        mixed = _attend_all(qkv, heads, head**-0.5)
        back = fill_up(self.out.weight.unflatten(1, (heads, head)), wide).flatten(1)
        return aligned_linear(mixed, back, self.out.bias)


class QueryAttention(nn.Module):
    r"""One query attends a sequence of tokens, none of which is projected.

    A head's logit is :math:`q \cdot W_k x = (W_k^T q) \cdot x` and its result
    :math:`\sum_t w_t W_v x_t = W_v \sum_t w_t x_t`: the query moves into the tokens' space, and
    only their weighted mean is projected. That is exact, and takes the T keys and values, which
    one query alone would read, out of the cost. A bias of the keys would add the same number to
    all logits of a head, so there is none.

    Args:
        d_model: D, width of the query and of a token.
        num_heads: H, a divisor of D.
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = Linear(d_model, d_model)
        self.k = Linear(d_model, d_model, bias=False)
        self.v = Linear(d_model, d_model)
        self.out = Linear(d_model, d_model)
        for layer in (self.q, self.k, self.v, self.out):
            init_linear(layer)

    def forward(self, query_B1D: Tensor, tokens_BTD: Tensor) -> Tensor:
        """Attend; [B, 1, D] and [B, T, D] to [B, 1, D]."""
        heads = (self.num_heads, -1)
        q_BHd = self.q(query_B1D).unflatten(-1, heads).squeeze(-3)
        k_HdD, v_HdD = (layer.weight.unflatten(0, heads) for layer in (self.k, self.v))
        sought_BHD = torch.einsum("...hd,hdm->...hm", q_BHd, k_HdD) * q_BHd.shape[-1] ** -0.5
        look = _look_aligned if tokens_BTD.is_cuda else _look
        mixed_BHd = torch.einsum("...hm,hdm->...hd", look(sought_BHD, tokens_BTD), v_HdD)
        return self.out((mixed_BHd.flatten(-2) + self.v.bias).unsqueeze(-2))


def _look(sought_BHD: Tensor, tokens_BTD: Tensor) -> Tensor:
    """The mean of the tokens by the softmax of what each head seeks in them; [B, H, D]."""
    weights_BHT = (sought_BHD @ tokens_BTD.mT).softmax(-1).to(tokens_BTD.dtype)
    return weights_BHT @ tokens_BTD


def _look_aligned(sought_BHD: Tensor, tokens_BTD: Tensor) -> Tensor:
    """The same for a GPU: rows of the weights are heads, not tokens, and filled up (`Linear`)."""
    heads, width = sought_BHD.shape[-2:]
    filled = fill_up(sought_BHD, aligned(heads), width)
    weights_BTH = (tokens_BTD @ filled.mT).softmax(-2).to(tokens_BTD.dtype)
    return (weights_BTH.mT @ tokens_BTD)[..., :heads, :]


def _attend_all(qkv_BTX: Tensor, num_heads: int, scale: float) -> Tensor:
    """Every token attends every token; [B, T, 3 D], q, k and v side by side, to [B, T, D]."""
    if fits(qkv_BTX, num_heads):
        return window_attention(qkv_BTX, num_heads, scale)
    q, k, v = qkv_BTX.chunk(3, dim=-1)
    return attend(q, k, v, num_heads, scale=scale)


def attend(
    q_BQD: Tensor,
    k_BTD: Tensor,
    v_BTD: Tensor,
    num_heads: int,
    bias_HQT: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Scaled dot-product attention of projected tokens, head by head; returns [B, Q, D].

    The scale is that of the heads' width, unless it is given. A bias is added to the logits, -inf
    for what is not to be seen. A CPU has a fused kernel for one that needs no gradient, which
    rounds otherwise: in less than float32 the rollout and the update would be two policies by it,
    so that neither gets it.
    """

    def split(x: Tensor) -> Tensor:  # a view: [B, T, D] as [B, H, T, D / H]
        return x.unflatten(-1, (num_heads, -1)).transpose(-2, -3)

    # With a batch dimension of its own, a bias that needs no gradient goes to the fused kernel.
    bias = None if bias_HQT is None else bias_HQT.to(q_BQD.dtype)[None]
    unfused = bias is not None and q_BQD.is_cpu and q_BQD.dtype != torch.float32
    with sdpa_kernel(SDPBackend.MATH) if unfused else nullcontext():
        mixed_BHQd = F.scaled_dot_product_attention(
            split(q_BQD), split(k_BTD), split(v_BTD), bias, scale=scale
        )
    return mixed_BHQd.transpose(-2, -3).flatten(-2)
