"""Questions to an indexed trace, answered in few rows whatever its length: DuckDB over parquet."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd

from envs.checks import require_one_of
from envs.config import BPS, EnvConfig
from pipelines.refusal import first_line
from pipelines.run_insights.trace_index import TraceIndex

# Metrics in the price or the units of one market: those of several make no common axis.
OF_ONE_MARKET = ("close", "position", "requested_units")
# What may be drawn over the frames, and its unit.
METRICS = {
    "equity": "quote currency",
    "drawdown": "fraction",
    "position": "units",
    "reward": "of the step",
    "cash": "quote currency",
    "close": "quote currency",
    "direction_value": "-1 short, 0 flat, 1 long",
    "risk_multiple": "times the risk",
    "stop_distance_bps": "bps",
    "take_profit_r": "times the stop's distance",
    "log_prob": "nats, of the action",
    "state_value": "of the critic",
    "requested_units": "units",
    "fee": "quote currency",
    "slippage_cost": "quote currency",
    "funding": "quote currency",
}
MAX_BUCKETS = 800
MAX_CANDLES = 800
MAX_EPISODES = 20
MAX_TRADES = 1_000_000
_MEMORY = "512MB"
_SPILLED = ".spilled"  # folder in the cache for what does not fit

_WHERE = """FROM read_parquet($files)
    WHERE env_frame BETWEEN $first AND $last
      AND ($lane IS NULL OR lane = $lane) AND ($episode IS NULL OR episode = $episode)
      AND ($market IS NULL OR asset = $market)"""
_TRADES = """
WITH fills AS (
  SELECT * FROM read_parquet($files)
  WHERE lane = $lane AND ($episode IS NULL OR episode = $episode)
    AND ($market IS NULL OR asset = $market)
    AND (entry_units <> 0 OR open_exit_units <> 0 OR exit_units <> 0)
), entries AS (
  SELECT *, row_number() OVER (PARTITION BY episode ORDER BY env_frame) AS number
  FROM fills WHERE entry_units <> 0
), either AS (
  SELECT episode, env_frame, step, timestamp, open_exit_price AS price,
    open_exit_reason AS reason, funding_paid - funding AS paid, 0 AS late
  FROM fills WHERE open_exit_units <> 0
  UNION ALL
  SELECT episode, env_frame, step, timestamp, exit_price, exit_reason, funding_paid, 1
  FROM fills WHERE exit_units <> 0
), exits AS (
  SELECT *, row_number() OVER (PARTITION BY episode ORDER BY env_frame, late) AS number FROM either
)
SELECT e.episode, e.asset AS market, e.entry_units AS units, e.env_frame AS entry_frame,
  e.timestamp AS entry_time, e.entry_fill_price AS entry_price, x.env_frame AS exit_frame,
  x.timestamp AS exit_time, x.price AS exit_price, x.reason AS exit_reason,
  x.step + x.late - e.step AS bars_held,
  e.entry_units * (x.price - e.entry_fill_price)
    - abs(e.entry_units) * (e.entry_fill_price * $taker
      + x.price * CASE x.reason WHEN 'take_profit' THEN $maker ELSE $taker END)
    - (x.paid - (e.funding_paid - e.funding)) AS profit
FROM entries e JOIN exits x USING (episode, number)
ORDER BY entry_frame LIMIT $most"""


class IndexGoneError(OSError):
    """What is indexed cannot be asked: gone, other files, or damaged, or too much for DuckDB."""


@dataclass(frozen=True)
class Part:
    """A part of a trace.

    Attributes:
        first: frame.
        last: frame, at least the first.
        lane: None: all.
        episode: of the lane; None: all.
        market: None: all.
    """

    first: int
    last: int
    lane: int | None = None
    episode: int | None = None
    market: str | None = None


class TraceQueries:
    """A connection that can read the files of one folder, and nothing else.

    Args:
        cache: folder with the indices.
    """

    def __init__(self, cache: Path) -> None:
        self._base = duckdb.connect()
        self._trades: OrderedDict[tuple[object, ...], pd.DataFrame] = OrderedDict()
        self._lock = threading.Lock()
        folder = str(cache.resolve()).replace("'", "''")
        for words in (
            f"memory_limit = '{_MEMORY}'",
            "parquet_metadata_cache = true",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            "TimeZone = 'UTC'",
            f"temp_directory = '{folder}/{_SPILLED}'",
            f"allowed_directories = ['{folder}']",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._base.execute(f"SET {words}")

    def series(
        self, index: TraceIndex, part: Part, metric: str, buckets: int = MAX_BUCKETS
    ) -> pd.DataFrame:
        """A metric over the frames, in at most `buckets` equal parts of their range.

        Returns:
            Columns `frame` (of the first row), `mean`, `low`, `high` (NaN where there is nothing),
            `rows`, `first_episode` and `last_episode`; one row for each part that has rows.

        Raises:
            ValueError: for another metric.
        """
        require_one_of("metric", metric, list(METRICS))
        text = f"""SELECT min(env_frame) AS frame, avg({metric}) AS mean, min({metric}) AS low,
            max({metric}) AS high, count(*) AS rows, min(episode) AS first_episode,
            max(episode) AS last_episode {_WHERE}
            GROUP BY (env_frame - $first) * $buckets // ($last - $first + 1) ORDER BY frame"""
        return self._ask(index, text, **_words(part), buckets=buckets)

    def episodes(self, index: TraceIndex, part: Part) -> pd.DataFrame:
        """The episodes of a lane that have rows in a part, in order.

        Returns:
            Columns `episode`, `market`, `first`, `last` (frames within the part), `rows`, and
            `total`, the number of such episodes, of which the first `MAX_EPISODES` are returned.
        """
        text = f"""SELECT episode, min(asset) AS market, min(env_frame) AS first,
            max(env_frame) AS last, count(*) AS rows, count(*) OVER () AS total {_WHERE}
            GROUP BY episode ORDER BY episode LIMIT $most"""
        return self._ask(index, text, **_words(part), most=MAX_EPISODES)

    def markets(self, index: TraceIndex, part: Part) -> list[str]:
        """Names of the markets that a part has bars of, in order."""
        if len(index.markets) < 2:
            return index.markets
        text = f"SELECT DISTINCT asset {_WHERE} ORDER BY asset"
        return self._ask(index, text, **_words(part))["asset"].tolist()

    def candles(self, index: TraceIndex, part: Part, every: int) -> pd.DataFrame:
        """Candles of a lane, each of `every` steps of one episode, at most.

        Returns:
            Columns `episode`, `frame`, `last_frame`, `timestamp`, `open`, `high`, `low`, `close`,
            and at the end of the candle `equity`, `position`, `stop_price`, `take_profit_price`.
        """

        def end(name: str) -> str:
            return f"arg_max_null({name}, env_frame) AS {name}"

        ends = ", ".join(map(end, ("equity", "position", "stop_price", "take_profit_price")))
        text = f"""SELECT episode, min(env_frame) AS frame, max(env_frame) AS last_frame,
            min(timestamp) AS timestamp, arg_min(open, env_frame) AS open, max(high) AS high,
            min(low) AS low, arg_max(close, env_frame) AS close, {ends} {_WHERE}
            GROUP BY episode, step // $every ORDER BY frame"""
        return self._ask(index, text, **_words(part), every=every)

    def trades(self, index: TraceIndex, part: Part, cfg: EnvConfig) -> pd.DataFrame:
        """The trades of a lane, an episode or a market, as `metrics.completed_trades` has them.

        Args:
            index: of the trace.
            part: with a lane; its range does not matter.
            cfg: the simulator's parameters; the fee rates are read.

        Returns:
            Columns `episode`, `market`, `units`, `entry_frame`, `entry_time`, `entry_price`,
            `exit_frame`, `exit_time`, `exit_price`, `exit_reason`, `bars_held` and `profit`, in
            the order of time; the first `MAX_TRADES`.
        """
        rates = {"taker": cfg.taker_fee_bps * BPS, "maker": cfg.maker_fee_bps * BPS}
        words = {"lane": part.lane, "episode": part.episode, "market": part.market}
        # Of a trace that was made anew rows and seam may be the same, as of a parquet file.
        made = (index.folder, index.rows, index.seam, index.source_time)
        key = (*made, *words.values(), *rates.values())
        # One at a time: those of a long lane take all the memory, and two pages may ask the same.
        with self._lock:
            if key in self._trades:
                self._trades.move_to_end(key)
                return self._trades[key]
            found = self._ask(index, _TRADES, **words, **rates, most=MAX_TRADES)
            self._trades[key] = found
            while sum(map(len, self._trades.values())) > MAX_TRADES and len(self._trades) > 1:
                self._trades.popitem(last=False)
        return found

    def _ask(self, index: TraceIndex, text: str, **words: object) -> pd.DataFrame:
        # A cursor of its own: several questions of one page, and of several, run at a time.
        with self._base.cursor() as cursor:
            try:
                return cursor.execute(text, {"files": index.files, **words}).df()
            except duckdb.Error as error:  # of a damaged file it may be of any kind
                reason = f"what is indexed of the trace cannot be asked: {first_line(error)}"
                raise IndexGoneError(reason) from error


def _words(part: Part) -> dict[str, object]:
    return {
        "first": part.first,
        "last": part.last,
        "lane": part.lane,
        "episode": part.episode,
        "market": part.market,
    }
