"""What the audit is told."""

from dataclasses import dataclass, field

from envs.checks import require, require_at_least, require_between, require_one_of
from envs.config import EnvConfig
from envs.data_config import DataConfig

AUDIT_CHECKS = ("trace", "free_lunch")


@dataclass
class AuditConfig:
    """One audit: ``python pipelines/audit.py trace=FILE data.path=FILE``.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # trace (does a trace add up) or free_lunch (does anybody earn on a market without drift).
    check: str = "trace"
    # The trace to explain, CSV or parquet, with the JSON of its name beside it.
    trace: str | None = None
    # Of check=free_lunch: independent episodes of every policy.
    episodes: int = 4_000
    # Of check=free_lunch: of the coins.
    seed: int = 0
    # Of check=trace: `path` or `assets` (none: the embedded bars), `fill_gap_bars`, as in the run.
    data: DataConfig = field(default_factory=DataConfig)
    # Of check=free_lunch: the rules to play under, but for the costs; a trace has its own.
    env: EnvConfig = field(default_factory=EnvConfig)

    def __post_init__(self) -> None:
        require_one_of("check", self.check, AUDIT_CHECKS)
        given = self.check != "trace" or bool(self.trace)
        require(given, "trace", self.trace, "the file to explain, trace=FILE")
        suffix = not self.trace or self.trace.endswith((".csv", ".parquet"))
        require(suffix, "trace", self.trace, "a name in .csv or .parquet")
        require_at_least("episodes", self.episodes, 100)
        require_between("seed", self.seed, 0, 2**31 - 1)
