"""The simulator's configuration as its arithmetic needs it."""

from typing import NamedTuple

from envs.bar_table import BarTable
from envs.checks import require
from envs.config import BPS, EnvConfig
from envs.fills import GRID_TOLERANCE, Grid

SECONDS_A_DAY = 86_400.0


class Rules(NamedTuple):
    """Fractions instead of basis points and percentages, grids and prices instead of ticks."""

    ticks: Grid
    lots: Grid
    taker: float
    maker: float
    slippage: float
    stop_slippage: float
    touch: float  # how far off a touched price may lie
    through: float  # how far beyond a take-profit a bar must trade
    funding: float  # a bar, as a fraction of the notional
    margin: float
    ruin_equity: float
    risk: float
    max_leverage: float
    max_units: float | None
    max_participation: float | None
    min_units: float
    flatten_at_end: bool
    trailing: bool

    @classmethod
    def of(cls, cfg: EnvConfig, interval_s: float) -> "Rules":
        """The rules of a configuration on bars of `interval_s` seconds."""
        return cls(
            ticks=Grid(cfg.tick_size),
            lots=Grid(cfg.lot_size),
            taker=cfg.taker_fee_bps * BPS,
            maker=cfg.maker_fee_bps * BPS,
            slippage=cfg.slippage_bps * BPS,
            stop_slippage=cfg.stop_slippage_bps * BPS,
            touch=GRID_TOLERANCE * cfg.tick_size,
            through=(cfg.tp_through_ticks - GRID_TOLERANCE) * cfg.tick_size,
            funding=cfg.funding_bps_per_day * BPS * interval_s / SECONDS_A_DAY,
            margin=cfg.maintenance_margin_rate,
            ruin_equity=cfg.ruin_equity_frac * cfg.initial_cash,
            risk=cfg.risk_pct / 100.0,
            max_leverage=cfg.max_leverage,
            max_units=cfg.max_units,
            max_participation=cfg.max_participation,
            min_units=cfg.min_units,
            flatten_at_end=cfg.flatten_at_end,
            trailing=cfg.trailing,
        )


def check_tick(table: BarTable, cfg: EnvConfig) -> None:
    """Refuse a tick so coarse that rounding would distort the tightest stop, or take all of a sale.

    A sale slips down to its tick: under two ticks that may be a price of 0, at which a short would
    be of endlessly many units. One such open, as of a crash that lasted a second, is enough.

    Raises:
        ValueError: if it is over a third of the tightest stop distance at the lowest close, or over
            half of the lowest open.
    """
    coarsest = float(table.ohlcv[:, 3].min()) * cfg.stop_step_bps * BPS / 3.0
    half = float(table.ohlcv[:, 0].min()) / 2.0
    for most, told in (
        (coarsest, "a third of the tightest stop at the lowest close"),
        (half, "half of the lowest open"),
    ):
        allowed = f"at most {told}, {most:.3g}"
        require(cfg.tick_size <= most, "env.tick_size", cfg.tick_size, allowed)
