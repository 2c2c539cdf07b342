"""From a pointer into the market to the normalised window of bars that a network sees.

Shapes: N bars of the table, F features, L bars of a window, `...` any batch.
"""

import torch
from torch import Tensor, nn


class BarWindow(nn.Module):
    r"""Gathers the last `window` bars up to a pointer, normalised and clipped.

    .. math:: x = \mathrm{clip}((f - loc) / scale, -clip, clip)

    The table stays out of the ``state_dict`` (it is data), the normaliser is in it: a checkpoint
    must not be read with the statistics of another table.

    Args:
        features: float32 [N, F], raw features of every bar.
        loc: float32 [F], subtracted.
        scale: float32 [F], divided by; finite and above 0.
        window: L, bars that a network sees.
        clip: bound of the normalised values.

    Raises:
        ValueError: if shapes or values do not fit, naming the argument and what is allowed.
    """

    features: Tensor
    loc: Tensor
    scale: Tensor
    offsets: Tensor

    def __init__(
        self, features: Tensor, loc: Tensor, scale: Tensor, *, window: int, clip: float
    ) -> None:
        super().__init__()
        _check_table(features, loc, scale, window)
        self.clip = clip
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("offsets", torch.arange(1 - window, 1), persistent=False)
        # Own memory: loading a checkpoint writes into these, and must not write into the table's.
        self.register_buffer("loc", loc.detach().clone())
        self.register_buffer("scale", scale.detach().clone())

    def forward(self, bar: Tensor) -> Tensor:
        """Windows of the bars at the pointers; rows before the first bar repeat the first.

        Args:
            bar: int64 [..., 1], rows of the table; the last bar of a window is the pointer's own.

        Returns:
            float32 [..., L, F], oldest bar first.
        """
        # A negative row would wrap around to the end of the table, that is into the future.
        rows = (bar + self.offsets).clamp_min(0)
        return self.normalise(self.features[rows])

    def stretch(self, bars_NC: Tensor) -> Tensor:
        """The windows of consecutive bars, each bar once.

        Args:
            bars_NC: int64 [N, C], each row C consecutive bars.

        Returns:
            float32 [N, L - 1 + C, F], oldest bar first.
        """
        count = bars_NC.shape[1]
        ahead = torch.arange(1 - self.offsets.numel(), count, device=bars_NC.device)
        return self.normalise(self.features[(bars_NC[:, :1] + ahead).clamp_min(0)])

    def normalise(self, features: Tensor) -> Tensor:
        """Normalised and clipped features of any bars, raw float32 [..., F]."""
        return ((features - self.loc) / self.scale).clamp(-self.clip, self.clip)

    def extra_repr(self) -> str:
        """Sizes, for the printed graph."""
        bars, features = self.features.shape
        return f"bars={bars}, window={self.offsets.numel()}, features={features}, clip={self.clip}"


def _check_table(features: Tensor, loc: Tensor, scale: Tensor, window: int) -> None:
    if features.ndim != 2 or features.dtype != torch.float32:
        raise ValueError(
            f"features: {features.dtype} of shape {tuple(features.shape)} is not allowed: "
            "float32 [bars, features]"
        )
    for name, value in (("loc", loc), ("scale", scale)):
        if value.shape != features.shape[1:] or value.dtype != torch.float32:
            raise ValueError(
                f"{name}: {value.dtype} of shape {tuple(value.shape)} is not allowed: "
                f"float32 [{features.shape[1]}], one value for each feature"
            )
    if not (loc.isfinite().all() and scale.isfinite().all() and (scale > 0).all()):
        raise ValueError("loc, scale: only finite values are allowed, and only scales above 0")
    if not 1 <= window <= features.shape[0]:
        raise ValueError(
            f"window={window} is not allowed: from 1 to the {features.shape[0]} bars of the table"
        )
