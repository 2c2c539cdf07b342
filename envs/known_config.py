"""Which known-answer market is drawn, and its parameters."""

from dataclasses import dataclass

from envs.checks import require, require_at_least, require_between, require_positive

# The parameters that each market has, with their defaults; `docs/markets.md` says what they mean.
MARKETS: dict[str, dict[str, float]] = {
    "martingale": {},
    "heavy_tails": {"garch_alpha": 0.1, "garch_beta": 0.85, "tail_df": 5.0},
    "drift": {"drift_bps": 2.0},
    "ar1": {"half_life": 32.0, "snr": 0.09},
    "planted": {"half_life": 32.0, "snr": 0.09},
    "regimes": {"regime_bps": 5.0, "regime_bars": 128.0},
    "bracket": {"displacement_bps": 60.0},
}
PARAMETERS = sorted({key for parameters in MARKETS.values() for key in parameters})


@dataclass
class SyntheticConfig:
    """A generated market whose best policy is known; see ``docs/markets.md``.

    Raises:
        ValueError: for a value out of range, or a parameter that the market does not have.
    """

    # martingale, heavy_tails, drift, ar1, planted, regimes, bracket; empty: no generated market.
    market: str = ""
    # Of the generator: another seed, other bars of the same market.
    seed: int = 0
    # Bars, in whole segments of segment_bars; every segment starts at a price of 60,000.
    bars: int = 204_800
    segment_bars: int = 2048
    # Standard deviation of what nobody can predict of a bar's log return.
    sigma_bps: float = 20.0
    # Parameters of single markets; null: the market's default.
    drift_bps: float | None = None
    half_life: float | None = None
    snr: float | None = None
    regime_bps: float | None = None
    regime_bars: float | None = None
    garch_alpha: float | None = None
    garch_beta: float | None = None
    tail_df: float | None = None
    displacement_bps: float | None = None

    def __post_init__(self) -> None:
        names = ", ".join(MARKETS)
        known = self.market in MARKETS or not self.market
        require(known, "data.synthetic.market", self.market, f"one of {names}")
        require_between("data.synthetic.seed", self.seed, 0, 2**31 - 1)
        require_at_least("data.synthetic.segment_bars", self.segment_bars, 2)
        require_at_least("data.synthetic.bars", self.bars, self.segment_bars)
        require_between("data.synthetic.sigma_bps", self.sigma_bps, 0.1, 1000.0)
        for key in PARAMETERS:
            if getattr(self, key) is not None:
                self._check_parameter(key)
        if self.market == "heavy_tails":
            total = self["garch_alpha"] + self["garch_beta"]
            require(total < 1.0, "data.synthetic.garch_alpha + garch_beta", total, "under 1")

    def _check_parameter(self, key: str) -> None:
        value, name = getattr(self, key), f"data.synthetic.{key}"
        owners = [market for market, own in MARKETS.items() if key in own]
        require(self.market in owners, name, value, f"unset here: only {', '.join(owners)} has it")
        if key == "drift_bps":
            require_between(name, value, -50.0, 50.0)
        elif key == "tail_df":
            require_between(name, value, 2.1, 1000.0)
        elif key in ("garch_alpha", "garch_beta"):
            require_between(name, value, 0.0, 0.999)
        elif key == "regime_bars":
            require(value > 2.0, name, value, "more than 2: a shorter regime tells nothing")
        elif key == "displacement_bps":
            require_between(name, value, 20.0, 1000.0)
        else:
            require_positive(name, value)

    def __getitem__(self, key: str) -> float:
        """A parameter of the market, its default where none was given."""
        value = getattr(self, key)
        return MARKETS[self.market][key] if value is None else value
