"""More than anybody can win: a bound on the equity of an account that knows every bar to come."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from envs.bar_table import BarTable
from envs.config import BPS, EnvConfig
from pipelines.held_out.candidate import Candidate

# Tiles that are bounded at a time, a bound on the memory.
_TILES = 512


def most_equity(bars: np.ndarray, cfg: EnvConfig) -> np.ndarray:
    """More than any sequence of actions can make of 1, after each bar.

    A position of ``u`` units is opened at the open of bar ``i``, flat, on a cash ``E``. Its fill
    ``p`` is the open plus slippage, or worse, and the leverage cap holds after its fee ``f``:
    ``u p <= L (E - u p f)``, hence ``u p <= K E`` with ``K = L / (1 + L f)``. Closed at ``x``, with
    ``g`` the smaller of the two fees, it leaves at most ``E (1 + a (s (x / p - 1) - f - g x / p))``
    for a side ``s`` and some ``0 <= a <= K``: linear in ``a``, so at most ``E`` times the larger of
    1 and the value at ``K``; funding only takes. A liquidation at its floor leaves 0. At the open
    of a bar nothing is filled better than at the open, and within a bar or at its close, where at
    most one exit follows, nothing better than at its high (a long) or low (a short). So

    - ``flat[k]``, flat before the orders of bar ``k``, is the largest of being flat after bar
      ``k - 1`` and of ``flat[i]`` grown by a position from the open of ``i < k`` to that of ``k``;
    - flat after bar ``k`` is the largest of ``flat[k]`` and of ``flat[i]`` grown by a position from
      the open of ``i <= k`` to the best price of bar ``k``;
    - the equity after bar ``k`` is the larger of that and of ``flat[i]`` with a position from the
      open of ``i <= k``, marked at the close without any exit.

    Args:
        bars: float64 [..., N, at least 4], open, high, low, close; nothing is opened in the first.
        cfg: leverage and costs; whatever else it holds, sizes, stops, grids, only takes.

    Returns:
        float64 [..., N].
    """
    taker, slippage = cfg.taker_fee_bps * BPS, cfg.slippage_bps * BPS
    fee_out = min(cfg.taker_fee_bps, cfg.maker_fee_bps) * BPS
    size = cfg.max_leverage / (1 + cfg.max_leverage * taker)
    opens, high, low, close = np.moveaxis(bars[..., :4], -1, 0)
    flat = np.zeros_like(opens)
    after, equity = np.ones_like(opens[..., 0]), np.ones_like(opens)

    def most(side: int, price: np.ndarray, fee: float, until: int) -> np.ndarray:
        """The best of the positions opened in bars 1 to `until`, closed at `price` [...]."""
        entry = opens[..., 1 : until + 1] * (1 + side * slippage)
        ratio = price[..., None] / entry
        growth = np.maximum(1, 1 + size * (side * (ratio - 1) - taker - fee * ratio))
        return (flat[..., 1 : until + 1] * growth).max(-1, initial=0.0)

    for k in range(1, opens.shape[-1]):
        left = [most(side, opens[..., k], fee_out, k - 1) for side in (1, -1)]
        flat[..., k] = np.maximum.reduce([*left, after])
        best = [most(1, high[..., k], fee_out, k), most(-1, low[..., k], fee_out, k)]
        after = np.maximum.reduce([*best, flat[..., k]])
        marked = [most(side, close[..., k], 0.0, k) for side in (1, -1)]
        equity[..., k] = np.maximum.reduce([*marked, after])
    return equity


def foresight_growth(table: BarTable, cfg: EnvConfig, bounds: Tensor) -> np.ndarray:
    """The bound at the end of every tile, as a multiple of what it begins with.

    Args:
        table: the bars.
        cfg: leverage and costs.
        bounds: int64 [tiles, 2], first and last bar of every tile.

    Returns:
        float64 [tiles].
    """
    ohlcv = table.ohlcv.cpu().numpy()
    first, last = bounds.numpy().T
    length = last - first
    growth = np.ones(len(first))
    for begin in range(0, len(first), _TILES):
        part = slice(begin, begin + _TILES)
        steps = np.minimum(np.arange(length[part].max() + 1), length[part, None])
        # After the end of a shorter tile its last bar stands still, which nobody earns from: only
        # the value at its own end is read.
        equity = most_equity(ohlcv[first[part, None] + steps], cfg)
        growth[part] = np.take_along_axis(equity, length[part, None], -1)[:, 0]
    return growth


@dataclass(frozen=True)
class Foresight:
    """More than anybody can win on these bars, knowing all of them: see `most_equity`.

    Attributes:
        log_growth: the bound on the log of final over initial equity, over all tiles; None: more
            than a float can hold.
        policy_log_growth: the policy's; None if it lost everything.
        share_fraction: the latter over the former.
    """

    log_growth: float | None
    policy_log_growth: float | None
    share_fraction: float | None


def bound_foresight(candidate: Candidate, policy_growth: float) -> Foresight:
    """The policy's growth, a multiple of what it began with, beside the bound."""
    growth = foresight_growth(candidate.table, candidate.env, candidate.bounds)
    bound = float(np.log(growth).sum())
    own = float(np.log(policy_growth)) if policy_growth > 0.0 else None
    known = bool(np.isfinite(bound))
    share = own / bound if known and own is not None and bound > 0.0 else None
    return Foresight(bound if known else None, own, share)
