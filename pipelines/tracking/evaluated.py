"""A policy's account over tiles that it was not trained on, for the eyes of a person."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from envs.bar_table import BarTable
from envs.config import BPS, EnvConfig
from envs.trace_reader import read_trace
from pipelines.config import RunConfig
from pipelines.held_out.baselines import buy_and_hold
from pipelines.held_out.figure import Chart, draw_chart
from pipelines.held_out.replay_inputs import replay_folder
from pipelines.held_out.result import POLICY, Result
from pipelines.held_out.rollout import split_tiles
from pipelines.judging.metrics import Metrics, completed_trades, in_order, measure
from pipelines.run_folder import RunFolder

# Of a table of trades: W&B shows no more rows, and a browser bears no more.
MAX_TRADES = 10_000

_NO_RESULTS = ("tiles", "bars")


@dataclass(frozen=True)
class Evaluated:
    """One evaluation.

    Attributes:
        name: ``val`` or ``replay``, the first part of its metrics' names.
        rows: the trace, from `pipelines.judging.metrics.in_order`.
        hold: buy-and-hold over the same bars, likewise.
        cfg: the simulator's parameters.
        interval_s: length of a bar in seconds.
    """

    name: str
    rows: pd.DataFrame
    hold: pd.DataFrame
    cfg: EnvConfig
    interval_s: float

    @cached_property
    def scalars(self) -> dict[str, float]:
        """The account's figures by ``<name>/<figure>``; without a trade there is no hit rate."""
        return figures(self.name, measure(self.rows, self.cfg))

    def trades(self) -> pd.DataFrame:
        """Closed positions in the order of time, at most `MAX_TRADES`: what gained or lost most.

        Returns:
            Columns `tile`, `side`, `units`, `entry_time`, `entry_price`, `exit_time`, `exit_price`,
            `exit_reason`, `bars_held`, `profit` (quote currency, net of costs) and `profit_bps` (of
            what was paid for it).
        """
        trades = completed_trades(self.rows, self.cfg)
        trades = trades.loc[trades["profit"].abs().nlargest(MAX_TRADES).index].sort_index()
        paid = trades["units"].abs() * trades["entry_price"]
        return pd.DataFrame(
            {
                "tile": trades["tile"],
                "side": trades["units"].map(lambda units: "long" if units > 0 else "short"),
                "units": trades["units"].abs(),
                "entry_time": [time.isoformat() for time in trades["entry_time"]],
                "entry_price": trades["entry_price"],
                "exit_time": [time.isoformat() for time in trades["exit_time"]],
                "exit_price": trades["exit_price"],
                "exit_reason": trades["exit_reason"],
                "bars_held": trades["bars_held"],
                "profit": trades["profit"],
                "profit_bps": trades["profit"] / paid / BPS,
            }
        )

    def chart(self) -> Chart:
        """Candles with every trade, equity beside buy-and-hold, position and drawdown."""
        return draw_chart(self.rows, self.hold, self.cfg, interval_s=self.interval_s)


def figures(name: str, metrics: Metrics) -> dict[str, float]:
    """An account's figures as ``<name>/<figure>``; without a trade there is no hit rate."""
    values = dataclasses.asdict(metrics).items()
    return {f"{name}/{k}": float(v) for k, v in values if k not in _NO_RESULTS and v is not None}


def baseline_returns(result: Result, name: str) -> dict[str, float]:
    """What accounts without any learning earned in a replay, as ``<name>/<account>_return``."""
    return {
        f"{name}/{account}_return": metrics.total_return
        for account, metrics in result.metrics.items()
        if account != POLICY
    }


def read_replay(run: RunFolder, cfg: RunConfig, asset: str) -> Evaluated:
    """The replay of a market with which a training has ended, from its trace in the run's folder.

    Its name is ``replay``, of several markets ``replay_<market>``.

    Raises:
        FileNotFoundError: if there is none.
    """
    folder = RunFolder(replay_folder(run, cfg.data, asset))
    name = "replay" if folder.path == run.path else folder.name
    table = BarTable.load(run.bars).one_asset(asset)
    bounds = split_tiles(table, cfg.env, cfg.replay.split, cfg.replay.episodes)
    return Evaluated(
        name=name,
        rows=in_order(read_trace(folder.trace("replay"))),
        hold=in_order(buy_and_hold(table, cfg.env, bounds)),
        cfg=cfg.env,
        interval_s=table.meta.interval_s,
    )
