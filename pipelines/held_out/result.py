"""A held-out result: what the policy earned, beside what accounts without any learning earned."""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from envs.durable import write_file
from envs.table_meta import TableMeta
from pipelines.judging.metrics import Metrics
from pipelines.judging.period_returns import DAY_S
from pipelines.number_text import counted, minute, money, percent, signed_percent, wrapped

# Under these the page says that the numbers mean nothing. With 100 trades the hit rate is still
# uncertain by 5 percentage points; over a year an annual Sharpe ratio by 1.
MIN_TRADES = 100
MIN_DAYS = 365.0
POLICY = "policy"
IN_SAMPLE = "In-sample"  # what notes of bars that were trained or chosen on begin with


@dataclass(frozen=True)
class Replayed:
    """What was replayed: bars, not outcomes. Times are ISO 8601, UTC."""

    run: str
    asset: str
    split: str
    source_name: str
    source_sha256: str
    interval_s: float
    first_bar: str  # opening times
    last_bar: str
    bars: int
    tiles: int
    gaps: int  # places between tiles where bars are missing or cannot be traded

    @property
    def days(self) -> float:
        """Time that was traded, gaps left out."""
        return self.bars * self.interval_s / DAY_S

    @property
    def line(self) -> str:
        """What was played, for a terminal."""
        return (
            f"{self.asset} {self.split}: {counted(self.bars, 'bar')} in "
            f"{counted(self.tiles, 'tile')}, {minute(self.first_bar)} to "
            f"{minute(self.last_bar)} UTC, {self.source_name}"
        )

    @classmethod
    def describe(
        cls, hold: pd.DataFrame, meta: TableMeta, *, run: str, split: str, tiles: int
    ) -> "Replayed":
        """What is covered by the rows of buy-and-hold, which has one for every bar of the tiles."""
        times = hold["timestamp"]
        return cls(
            run=run,
            asset=meta.asset,
            split=split,
            source_name=meta.source_name or "bars without a file",
            source_sha256=meta.source_sha256,
            interval_s=meta.interval_s,
            first_bar=times.iloc[0].isoformat(),
            last_bar=times.iloc[-1].isoformat(),
            bars=len(hold),
            tiles=tiles,
            gaps=int(stretches(times, meta.interval_s).iloc[-1]),
        )


@dataclass(frozen=True)
class Result:
    """The policy's metrics beside the baselines', by name, in the order they are shown.

    `random` is the account of median return among `random_accounts`; `random_interval` holds the
    5 % and the 95 % quantile of their chained returns. `notes` are doubts, `remarks` what else was
    found out. `beside` names the policies of other runs.
    `checkpoint` has ``iteration`` and ``sha256`` of the one that was played.
    """

    replayed: Replayed
    metrics: dict[str, Metrics]
    random_interval: tuple[float, float]
    random_accounts: int
    notes: list[str]
    remarks: list[str] = dataclasses.field(default_factory=list)
    beside: list[str] = dataclasses.field(default_factory=list)
    checkpoint: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return dataclasses.asdict(self) | {"caveats": caveats(self)}

    def save(self, path: Path) -> None:
        """Write the result as JSON, whole or not at all."""
        text = json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"
        write_file(path, text.encode())

    def table(self) -> list[tuple[str, ...]]:
        """Header and rows of the comparison as text, the policy first."""
        rows: list[tuple[str, ...]] = [("", "return", "max drawdown", "trades", "fees")]
        for name, metrics in self.metrics.items():
            rows.append(
                (
                    name if name in self.beside else name.replace("_", "-"),
                    signed_percent(metrics.total_return),
                    percent(metrics.max_drawdown),
                    f"{metrics.trades:,}",
                    money(metrics.fees),
                )
            )
        return rows

    def random_sentence(self) -> str:
        """How the random accounts spread."""
        low, high = map(signed_percent, self.random_interval)
        return (
            f"random: the median of {self.random_accounts} accounts with uniform actions; "
            f"90 % of them returned {low} to {high}"
        )


def stretches(times: pd.Series, interval_s: float) -> pd.Series:
    """Number of the unbroken run of bars that each time belongs to, from 0."""
    return (times.diff() > pd.Timedelta(seconds=1.5 * interval_s)).cumsum()


def caveats(result: Result) -> list[str]:
    """Why the numbers may mean less than they seem to, in plain sentences."""
    policy, replayed = result.metrics[POLICY], result.replayed
    found = list(result.notes)
    if policy.trades == 0:
        found.append("The policy did not trade.")
    elif policy.trades < MIN_TRADES:
        error = 50.0 / math.sqrt(policy.trades)
        found.append(
            f"Too few trades to mean anything: with {policy.trades}, the hit rate alone is "
            f"uncertain by ±{error:.0f} percentage points (one standard error)."
        )
    if replayed.days < MIN_DAYS:
        error = math.sqrt(365.0 / replayed.days)
        found.append(
            f"Too little time to mean anything: over {replayed.days:.3g} days an annual Sharpe "
            f"ratio is uncertain by ±{error:.1f} (one standard error), so skill cannot be told "
            "from luck."
        )
    if policy.ruined:
        found.append(
            f"The account was ruined in {policy.ruined} of {counted(policy.tiles, 'tile')}."
        )
    return found


def as_text(result: Result) -> str:
    """The comparison for a terminal, with everything that qualifies it: doubts have a mark."""
    lines = [*wrapped(result.replayed.line), *aligned(result.table())]
    for line in (result.random_sentence(), *result.remarks):
        lines += wrapped(line)
    for line in caveats(result):
        lines += wrapped(line, "! ")
    return "\n".join(lines)


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines whose columns are as wide as their widest cell, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for name, *cells in rows:
        numbers = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *numbers]).rstrip())
    return lines
