"""What the check of a file of bars is told."""

from dataclasses import dataclass, field

from envs.checks import require
from envs.config import EnvConfig
from envs.data_config import DataConfig


@dataclass
class CheckConfig:
    """One look at a file of bars: ``python pipelines/check_data.py data.path=FILE``.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # Folder for the page and the JSON of its numbers, both named after the file; with data.assets
    # a page each, named after the market.
    out: str = "checks"
    # The file or folder, and how it is cut, as for a training.
    data: DataConfig = field(default_factory=DataConfig)
    # Of this only `window` and `episode_bars` count: they decide what a split can hold.
    env: EnvConfig = field(default_factory=EnvConfig)

    def __post_init__(self) -> None:
        market = self.data.synthetic.market
        require(not market, "data.synthetic.market", market, "unset: a file is checked")
        require(bool(self.out), "out", self.out, "a folder")
