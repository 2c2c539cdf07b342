"""What a report is told."""

from dataclasses import dataclass

from envs.checks import require


@dataclass
class ReportConfig:
    """The page of an evaluation: ``python pipelines/report.py folder=PATH``.

    Raises:
        ValueError: without a folder.
    """

    # Folder of an evaluation, in which report.html is written.
    folder: str = ""
    # A tear sheet of the package quantstats beside it: pip install -e '.[report]'.
    quantstats: bool = False

    def __post_init__(self) -> None:
        require(bool(self.folder), "folder", self.folder, "an evaluation's, folder=PATH")
