"""What the pages about all runs are told."""

from dataclasses import dataclass

from envs.checks import require, require_between, require_positive


@dataclass
class InsightsConfig:
    """All runs under a folder on one page: ``python pipelines/insights.py``.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # Folder of the runs; those in folders below it are found too.
    runs: str = "runs"
    # The page; null: <runs>/insights.html.
    out: str | None = None
    # What an hour of the machine costs, in any currency; null: no costs are shown.
    price_per_hour: float | None = None
    # Serve the page, and the traces of the runs, to browsers of this machine: --serve.
    serve: bool = False
    # Port of 127.0.0.1 that is served; 0: any that is free.
    port: int = 8050
    # Folder for what is indexed of traces, which may be removed; null: <runs>/.insights.
    cache: str | None = None

    def __post_init__(self) -> None:
        require(bool(self.runs), "runs", self.runs, "a folder")
        require_between("port", self.port, 0, 65_535)
        if self.price_per_hour is not None:
            require_positive("price_per_hour", self.price_per_hour)
