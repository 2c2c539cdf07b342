"""Every parameter of the simulator: name, type, default, unit, allowed range.

The names are those of ``docs/simulator.md``. Keys carry their unit: ``_bps`` is 1e-4 of a price or
a notional, ``_pct`` is a percentage of equity, ``_frac`` a fraction, ``_bars`` and ``_ticks``
counts, prices and cash are in quote currency, units in base currency.
"""

from dataclasses import dataclass, field

from envs.checks import require, require_at_least, require_between, require_positive

BPS = 1e-4
FINEST_GRID = 1e-18  # one wei; its inverse is still an int64
_COST_KEYS = ("taker_fee_bps", "maker_fee_bps", "slippage_bps", "stop_slippage_bps")


@dataclass
class EnvConfig:
    """The market environment: its grid of lanes, its episodes, its actions and its costs.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # The grid of lanes: `paths` market trajectories, `accounts` living on each of them.
    paths: int = 16
    accounts: int = 16
    # Worker processes under a ParallelEnv, each with paths / workers paths; 0: in this process.
    workers: int = 2
    # Compile the step: the same numbers sooner, after some seconds in each process; on a CPU
    # it needs a C++ compiler. Held-out episodes are not compiled. null: on CUDA,
    # which workers are not.
    compile: bool | None = None

    # Episodes and observation.
    window: int = 64
    episode_bars: int = 240
    initial_cash: float = 100_000.0

    # The action's buckets.
    risk_pct: float = 1.0
    risk_multiples: list[float] = field(default_factory=lambda: [0.5, 1.0, 1.5, 2.0])
    stop_step_bps: float = 25.0
    stop_steps: int = 10
    take_profit_r: list[float] = field(default_factory=lambda: [0.0, 1.0, 2.0, 3.0])
    trailing: bool = False

    # Limits of an order.
    max_leverage: float = 3.0
    max_units: float | None = None
    max_participation: float | None = None
    tick_size: float = 0.1
    lot_size: float = 1e-8
    min_units: float = 5e-5

    # Costs.
    taker_fee_bps: float = 5.0
    maker_fee_bps: float = 2.0
    slippage_bps: float = 5.0
    stop_slippage_bps: float = 5.0
    tp_through_ticks: float = 1.0
    funding_bps_per_day: float = 0.0
    allow_zero_costs: bool = False

    # Margin and ruin.
    maintenance_margin_rate: float = 0.004
    ruin_equity_frac: float = 0.1
    flatten_at_end: bool = False

    # Reward: `reward_scale` times what is left of the change of log equity after the two penalties.
    reward_scale: float = 100.0
    drawdown_penalty: float = 0.0
    turnover_penalty: float = 0.0

    def __post_init__(self) -> None:
        self._check_grid()
        self._check_costs()
        self._check_buckets()
        self._check_limits()

    @property
    def lanes(self) -> int:
        """Accounts in the whole batch, over all paths and workers."""
        return self.paths * self.accounts

    @property
    def num_actions(self) -> dict[str, int]:
        """Categories of each action head, in the order of the trace's columns."""
        return {
            "direction": 3,
            "size": len(self.risk_multiples),
            "stop_loss": self.stop_steps,
            "take_profit": len(self.take_profit_r),
        }

    def _check_grid(self) -> None:
        for key in ("paths", "accounts", "window", "episode_bars", "stop_steps"):
            require_at_least(f"env.{key}", getattr(self, key), 1)
        require_at_least("env.workers", self.workers, 0)
        require(
            self.workers == 0 or self.paths % self.workers == 0,
            "env.workers",
            self.workers,
            f"0, or a divisor of env.paths={self.paths}",
        )
        require_positive("env.initial_cash", self.initial_cash)

    def _check_buckets(self) -> None:
        require_between("env.risk_pct", self.risk_pct, 0.05, 100.0)
        for key in ("risk_multiples", "take_profit_r"):
            value = getattr(self, key)
            fits = isinstance(value, list | tuple) and len(value) >= 1
            require(fits, f"env.{key}", value, "a list of at least one number")
        for multiple in self.risk_multiples:
            require_positive("env.risk_multiples", multiple)
        for multiple in self.take_profit_r:
            require_between("env.take_profit_r", multiple, 0.0, 1000.0)
        widest = self.stop_step_bps * self.stop_steps
        require(
            widest < 1.0 / BPS,
            "env.stop_step_bps * env.stop_steps",
            widest,
            "under 10000 bps: a long's stop would lie at or below a price of 0",
        )
        slippage = max(self.slippage_bps, self.stop_slippage_bps)
        require(
            self.stop_step_bps >= max(5.0, 3.0 * slippage),
            "env.stop_step_bps",
            self.stop_step_bps,
            f"at least 5, and at least three times the slippage ({slippage:g} bps)",
        )

    def _check_costs(self) -> None:
        for key in _COST_KEYS:
            value = getattr(self, key)
            fits = 0.1 <= value <= 100.0 or (value == 0.0 and self.allow_zero_costs)
            require(
                fits,
                f"env.{key}",
                value,
                "0.1 to 100 basis points (1 bp = 0.01 %); 0 needs env.allow_zero_costs=true",
            )
        require_between("env.funding_bps_per_day", self.funding_bps_per_day, 0.0, 100.0)
        require_between("env.tp_through_ticks", self.tp_through_ticks, 0.0, 1e6)
        for key in ("drawdown_penalty", "turnover_penalty"):
            require_between(f"env.{key}", getattr(self, key), 0.0, 1e6)
        require_positive("env.reward_scale", self.reward_scale)

    def _check_limits(self) -> None:
        for key in ("max_leverage", "min_units"):
            require_positive(f"env.{key}", getattr(self, key))
        for key in ("tick_size", "lot_size"):
            require_between(f"env.{key}", getattr(self, key), FINEST_GRID, 1e12)
        for key in ("max_units", "max_participation"):
            if getattr(self, key) is not None:
                require_positive(f"env.{key}", getattr(self, key))
        require_between("env.maintenance_margin_rate", self.maintenance_margin_rate, 1e-6, 0.5)
        require_between("env.ruin_equity_frac", self.ruin_equity_frac, 0.01, 0.99)
        exit_cost = (self.taker_fee_bps + max(self.slippage_bps, self.stop_slippage_bps)) * BPS
        require(
            exit_cost < self.maintenance_margin_rate,
            "env.taker_fee_bps + the larger slippage",
            exit_cost / BPS,
            f"under env.maintenance_margin_rate ({self.maintenance_margin_rate / BPS:g} bps)",
        )
        limit = 1.0 / (self.maintenance_margin_rate + exit_cost)
        require(
            self.max_leverage < limit,
            "env.max_leverage",
            self.max_leverage,
            f"under {limit:.4g}: a position would be liquidated at its own entry",
        )
