"""The result of an evaluation: the verdict, and everything that it rests on."""

import dataclasses
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from envs.bar_files import file_sha256
from envs.durable import write_file
from pipelines.held_out.evaluation_files import EQUITY, EVALUATION, FORMAT, RETURNS
from pipelines.held_out.foresight import Foresight
from pipelines.held_out.held_out_baselines import Account
from pipelines.held_out.matched_random import MatchedRandom
from pipelines.held_out.result import Replayed
from pipelines.judging.bootstrap import Interval
from pipelines.judging.break_even import BreakEven
from pipelines.judging.known_looks import Looks
from pipelines.judging.opening import Receipt
from pipelines.judging.participation import Participation
from pipelines.judging.performance import Performance
from pipelines.judging.period_returns import PeriodReturns
from pipelines.judging.verdict import Verdict

# Points of an equity curve that are kept.
MAX_POINTS = 5_000


@dataclass(frozen=True)
class SeedResult:
    """The runs of one seed.

    Attributes:
        name: of the seed.
        runs: names of its runs, in the order of time.
        checkpoints: the iteration of each that was measured, and the hash of its manifest.
        performance: over all its bars.
        sharpe: of the aggregated returns, for a year, as the verdict has it.
        traces: files in the folder of the evaluation.
    """

    name: str
    runs: list[str]
    checkpoints: list[dict[str, str]]
    performance: Performance
    sharpe: float
    traces: list[str]


@dataclass(frozen=True)
class Costs:
    """What is left under other costs.

    Attributes:
        returns: total return of the judged account by the multiple of fees and slippage, a
            fraction.
        order_cost_bps: of a market order, per side, at multiple 1.
        break_even: where nothing is left.
    """

    returns: dict[float, float]
    order_cost_bps: float
    break_even: BreakEven


@dataclass(frozen=True)
class Evaluation:
    """A candidate on held-out bars.

    Attributes:
        verdict: word, reasons, conditions and findings.
        bars: what was played.
        accounts: the judged account, ``policy``, and the baselines; curves and figures.
        seeds: the runs of each seed.
        folds: of a walk-forward: spans of the parts, and the return of each seed and of
            buy-and-hold on the test part.
        costs: under multiples of the costs, and break-even.
        participation: in the volume of the bars, all seeds together.
        random: the policy among accounts with its own trades at other times.
        risk_share: of buy-and-hold that is as volatile as the policy.
        foresight: more than anybody can win.
        looks: at these bars, as the registry knew them when this one was written down.
        receipt: of the registry.
        registry: the file.
        about: configuration, hashes, versions.
        returns: of all accounts, over the periods that were tested.
        sharpes: of all accounts, of these returns, for a year.
        intervals: 95 % intervals of the judged account's figures, of these returns.
    """

    verdict: Verdict
    bars: Replayed
    accounts: dict[str, Account]
    seeds: list[SeedResult]
    folds: list[dict[str, Any]]
    costs: Costs
    participation: Participation
    random: MatchedRandom
    risk_share: float
    foresight: Foresight
    looks: Looks
    receipt: Receipt
    registry: str
    about: dict[str, Any]
    returns: PeriodReturns
    sharpes: dict[str, float]
    intervals: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Everything but the series, as plain values, the verdict first.

        Shapes and series are in the files beside it: see `save`.
        """
        plain = dataclasses.asdict
        return {
            "format": FORMAT,
            "verdict": self.verdict.to_json(),
            "bars": plain(self.bars) | {"days": self.bars.days},
            "accounts": {
                name: {
                    "equity": plain(account.equity),
                    "trades": None if account.trades is None else plain(account.trades),
                    "period_sharpe": self.sharpes[name],
                }
                for name, account in self.accounts.items()
            },
            "intervals": {name: plain(found) for name, found in self.intervals.items()},
            "seeds": [plain(seed) for seed in self.seeds],
            "folds": self.folds,
            "costs": {
                "returns": {f"{m:g}": total for m, total in self.costs.returns.items()},
                "order_cost_bps": self.costs.order_cost_bps,
                "break_even": plain(self.costs.break_even)
                | {"sentence": self.costs.break_even.sentence},
            },
            "participation": plain(self.participation)
            | {"flagged": self.participation.flagged, "sentence": self.participation.sentence},
            "random": plain(self.random) | {"sentence": self.random.sentence},
            "risk_matched_share": self.risk_share,
            "foresight": plain(self.foresight),
            "looks": plain(self.looks) | {"first": self.looks.earlier == 0},
            "receipt": plain(self.receipt) | {"file": self.registry},
            "about": self.about,
            "files": {
                "equity": EQUITY,
                "returns": RETURNS,
                "traces": [trace for seed in self.seeds for trace in seed.traces],
            },
        }

    def equity(self) -> pd.DataFrame:
        """Growth of every account at the close of at most `MAX_POINTS` bars, the last among them.

        The figures are of all bars; between two of these points a curve may have been lower.
        """
        curves = {name: account.curve for name, account in self.accounts.items()}
        frame = pd.concat(curves, axis="columns", sort=True).ffill().fillna(1.0)
        step = -(-len(frame) // MAX_POINTS)
        return frame.iloc[::-step].iloc[::-1]

    def save(self, folder: Path) -> None:
        """Write ``evaluation.json``, ``equity.parquet`` and ``returns.parquet``.

        The parquet files have a column for each account and one row a bar, or a period, by its
        beginning. The JSON file is the last that appears, with the hashes of the others: those of
        another evaluation, which was stopped before its end, are not taken for this one's.

        Args:
            folder: must exist and hold the traces; files of these names are replaced.

        Raises:
            OSError: if the disk refuses; each file is then whole, this one's or an earlier one's.
        """
        returns = self.returns.values.copy()
        returns["policy"] = returns[[seed.name for seed in self.seeds]].mean(axis=1)
        for name, frame in ((EQUITY, self.equity()), (RETURNS, returns)):
            file = io.BytesIO()
            frame.to_parquet(file)
            write_file(folder / name, file.getvalue())
        values = self.to_json()
        names = [EQUITY, RETURNS, *values["files"]["traces"]]
        values["files"]["sha256"] = {name: file_sha256(folder / name) for name in names}
        text = json.dumps(values, indent=2, allow_nan=False) + "\n"
        write_file(folder / EVALUATION, text.encode())
