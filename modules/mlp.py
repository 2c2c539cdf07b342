"""The market read by a multilayer perceptron: the smallest network that can learn."""

import math
from itertools import pairwise

from torch import Tensor, nn

from modules.fusion import init_orthogonal


class MlpEncoder(nn.Sequential):
    """A window flattened, then hidden layers of tanh.

    The reference network of actor-critic libraries, for comparisons with them and for markets that
    need no attention; orthogonal weights of gain sqrt(2) (Andrychowicz et al. 2021,
    arXiv 2006.05990).

    Args:
        num_features: features of a bar.
        window: bars of a window.
        d_model: width of the market's state.
        ff_dim: width of the hidden layers.
        num_layers: layers, the last one included.
    """

    def __init__(
        self, num_features: int, window: int, *, d_model: int, ff_dim: int, num_layers: int
    ) -> None:
        widths = [window * num_features, *[ff_dim] * (num_layers - 1), d_model]
        layers: list[nn.Module] = [nn.Flatten(-2)]
        for narrow, wide in pairwise(widths):
            linear = nn.Linear(narrow, wide)
            init_orthogonal(linear, gain=math.sqrt(2.0))
            layers += [linear, nn.Tanh()]
        super().__init__(*layers)

    def forward(self, window: Tensor) -> Tensor:
        """Encode; float32 [..., window, features] to [..., d_model]."""
        return super().forward(window)
