"""Everything that a page shows of a view: the charts' values, the trades, and words about both."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from envs.checks import read_json, require
from envs.config import EnvConfig
from envs.trace_beside import path_beside, read_simulator
from pipelines.number_text import counted
from pipelines.run_insights.trace_figures import (
    MAX_MARKS,
    NOTHING,
    Figure,
    candle_figure,
    metric_figure,
)
from pipelines.run_insights.trace_index import TraceIndex
from pipelines.run_insights.trace_queries import (
    MAX_CANDLES,
    MAX_TRADES,
    OF_ONE_MARKET,
    Part,
    TraceQueries,
)
from pipelines.run_insights.trace_trades import (
    by_reason,
    entered_at,
    largest,
    neighbours,
    open_within,
    page_of,
)
from pipelines.run_insights.trace_view import PAGE_ROWS, TraceView

# Bars before and after a trade that its link shows.
_ROOM_BARS = 40


@dataclass(frozen=True)
class Answer:
    """What a page shows.

    Attributes:
        part: that is looked at.
        markets: of the part.
        metric: the chart of the metric.
        candles: the chart of the bars; None for all lanes.
        trades: a page of the lane's trades, with the columns of `TraceQueries.trades`, and `link`,
            the address of the view of each; they stay when the range moves.
        reasons: of their exits.
        before: address of the trade before the one that is pointed at, or before the range.
        after: likewise.
        more: whether another page of trades follows.
        notes: what is not shown.
    """

    part: Part
    markets: list[str]
    metric: Figure
    candles: Figure | None
    trades: pd.DataFrame
    reasons: pd.DataFrame
    before: str
    after: str
    more: bool
    notes: list[str]


def answer(queries: TraceQueries, index: TraceIndex, view: TraceView, trace: Path) -> Answer:
    """Ask a trace all that a page shows.

    Raises:
        ValueError: if the view does not fit the trace.
    """
    part = _around_episode(queries, index, view, view.part(index))
    cfg, notes = _parameters(trace)
    markets = queries.markets(index, part)
    if part.lane is None:
        figure = _metric(queries, index, view.metric, part, markets, None, notes)
        notes.append("Choose one lane to see its bars and trades.")
        nothing = pd.DataFrame()
        return Answer(part, markets, figure, None, nothing, nothing, "", "", False, notes)
    episodes = queries.episodes(index, part)
    step = _frames_a_bar(episodes)
    trades = queries.trades(index, part, cfg)
    if len(trades) == MAX_TRADES:
        notes.append(f"Of this lane's trades the first {MAX_TRADES:,} are shown.")
    pages = max(math.ceil(len(trades) / PAGE_ROWS), 1)
    require(view.page < pages, "page", view.page, f"0 to {pages - 1}")
    listed = page_of(trades, view.order, view.page, PAGE_ROWS)
    chosen = entered_at(trades, view.trade)
    if chosen is None and view.trade is not None:
        notes.append(f"No trade was entered in frame {view.trade:,}.")
    place = part.first if view.trade is None else view.trade
    before, after = (
        "" if near is None else _link(index, view, near, step) for near in neighbours(trades, place)
    )
    candles = _candles(queries, index, part, episodes, trades, chosen, notes)
    return Answer(
        part=part,
        markets=markets,
        metric=_metric(queries, index, view.metric, part, markets, chosen, notes),
        candles=candles,
        trades=listed.assign(link=[_link(index, view, row, step) for _, row in listed.iterrows()]),
        reasons=by_reason(trades),
        before=before,
        after=after,
        more=len(trades) > (view.page + 1) * PAGE_ROWS,
        notes=notes,
    )


def _around_episode(queries: TraceQueries, index: TraceIndex, view: TraceView, part: Part) -> Part:
    """The range of the chosen episode, where no other one is asked for."""
    if part.episode is None or view.first is not None or view.last is not None:
        return part
    found = queries.episodes(index, part)
    place = f"lane {part.lane}" + (f" in {part.market}" if part.market else "")
    require(len(found) == 1, "episode", view.episode, f"one of {place}")
    return replace(part, first=int(found["first"].iloc[0]), last=int(found["last"].iloc[0]))


def _metric(
    queries: TraceQueries,
    index: TraceIndex,
    metric: str,
    part: Part,
    markets: list[str],
    chosen: pd.Series | None,
    notes: list[str],
) -> Figure:
    """The chart of a metric; none of one whose values of several markets are not comparable."""
    if metric in OF_ONE_MARKET and len(markets) > 1:
        names = ", ".join(markets)
        notes.append(f"No {metric}: it is of several markets here, {names}; choose one.")
        return NOTHING
    return metric_figure(queries.series(index, part, metric), metric, part, chosen)


def _candles(
    queries: TraceQueries,
    index: TraceIndex,
    part: Part,
    episodes: pd.DataFrame,
    trades: pd.DataFrame,
    chosen: pd.Series | None,
    notes: list[str],
) -> Figure:
    """The candles of the first episodes of a part, and of few enough bars."""
    episodes, part = _one_market(queries, index, part, episodes, chosen, notes)
    total = 0 if episodes.empty else int(episodes["total"].iloc[0])
    if not total:
        notes.append("There is no bar in this range.")
    if len(episodes) < total:
        notes.append(
            f"Bars are of the first {len(episodes)} of {counted(total, 'episode')} in this range; "
            "choose an episode, or a shorter range."
        )
    # The first and the last candle of an episode may be parts of one.
    every = math.ceil(int(episodes["rows"].sum()) / (MAX_CANDLES - 2 * len(episodes))) or 1
    if every > 1:
        notes.append(f"A candle is {every} bars; entries and exits keep their own price.")
    drawn = part if len(episodes) == total else replace(part, last=int(episodes["last"].max()))
    inside = open_within(trades, drawn)
    if part.market is not None:
        inside = inside[inside["market"] == part.market]
    if len(inside) > MAX_MARKS:
        notes.append(f"Marked are the {MAX_MARKS} trades that gained or lost most.")
    marks = largest(inside, MAX_MARKS)
    return candle_figure(queries.candles(index, drawn, every), marks, drawn, chosen)


def _one_market(
    queries: TraceQueries,
    index: TraceIndex,
    part: Part,
    episodes: pd.DataFrame,
    chosen: pd.Series | None,
    notes: list[str],
) -> tuple[pd.DataFrame, Part]:
    """Of several markets that of the trade that is pointed at, else that of the first episode.

    Prices of two markets make no common axis.
    """
    if episodes.empty:
        return episodes, part
    market = str(episodes["market"].iloc[0] if chosen is None else chosen["market"])
    part = replace(part, market=market)
    total = int(episodes["total"].iloc[0])
    if len(index.markets) < 2:
        return episodes, part
    episodes = queries.episodes(index, part)
    others = total - (0 if episodes.empty else int(episodes["total"].iloc[0]))
    if others:
        notes.append(
            f"Bars are of {market} alone; {counted(others, 'episode')} in this range are of other "
            "markets: choose a market."
        )
    return episodes, part


def _link(index: TraceIndex, view: TraceView, trade: pd.Series, step: int) -> str:
    """Address of the bars around a trade; the table stays where it is."""
    entry, end = int(trade["entry_frame"]), int(trade["exit_frame"])
    first = max(entry - _ROOM_BARS * step, index.first_frame)
    last = min(end + _ROOM_BARS * step, index.last_frame)
    return view.changed(first=first, last=last, trade=entry, page=view.page).search


def _frames_a_bar(episodes: pd.DataFrame) -> int:
    """Frames from one step of a lane to its next."""
    several = episodes[episodes["rows"] > 1]
    if several.empty:
        return 1
    row = several.iloc[0]
    return max(1, round((row["last"] - row["first"]) / (row["rows"] - 1)))


def _parameters(trace: Path) -> tuple[EnvConfig, list[str]]:
    """The parameters beside a trace; without them profits are before fees, which is said."""
    try:
        cfg = read_simulator(trace)
        changed = read_json(path_beside(trace)).get("changed")
        late = "The run was changed: profits are reckoned with the fees of its last rows."
        return cfg, [late] if changed else []
    except (OSError, ValueError) as error:
        free = EnvConfig(taker_fee_bps=0.0, maker_fee_bps=0.0, slippage_bps=0.0,
                         stop_slippage_bps=0.0, allow_zero_costs=True)  # fmt: skip
        reason = error.strerror if isinstance(error, OSError) else "damaged"
        sidecar = path_beside(trace).name
        return free, [f"Profits are before fees: {sidecar}: {reason}"]
