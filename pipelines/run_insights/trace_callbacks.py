"""What the page of a trace answers: controls and charts change its address, that all the rest."""

from typing import Any
from urllib.parse import parse_qsl

from dash import Dash, Input, Output, State, ctx, html, no_update
from dash.exceptions import PreventUpdate

from pipelines.number_text import counted
from pipelines.run_insights.trace_answer import Answer, answer
from pipelines.run_insights.trace_figures import NOTHING, Figure
from pipelines.run_insights.trace_index import TraceIndex, has_more
from pipelines.run_insights.trace_page import (
    HEIGHTS,
    lane_options,
    market_options,
    moves,
    trades_table,
)
from pipelines.run_insights.trace_queries import IndexGoneError
from pipelines.run_insights.trace_store import TraceStore
from pipelines.run_insights.trace_view import TraceView

_CONTROLS = ("trace", "metric", "market", "lane", "episode", "first", "last", "order")
_CHARTS = ("metric-chart", "candle-chart")
_CHOICES = 5  # outputs that say what the controls offer
# A small trace is read within the first answer.
_PATIENCE_S = 1.0


def register(app: Dash, store: TraceStore) -> None:
    """Controls and charts change the address, and the address all that is shown, in one callback.

    While a trace is read a second one asks how far that is: answers of the first take longer than
    the time between two questions, and a newer question would make Dash drop them.
    """

    @app.callback(
        Output("url", "search"),
        Output("shown", "data"),
        Output("poll", "disabled"),
        Output("head", "children"),
        Output("about", "children"),
        Output("message", "children"),
        Output("trace", "options"),
        Output("market", "options"),
        Output("market-field", "hidden"),
        Output("lane", "options"),
        Output("episode-field", "hidden"),
        *(Output(name, "value") for name in _CONTROLS),
        *(Output(name, "figure") for name in _CHARTS),
        *(Output(name, "style") for name in _CHARTS),
        Output("moves", "children"),
        Output("trades", "children"),
        Output("trade-section", "hidden"),
        Input("url", "search"),
        Input("ready", "data"),
        *(Input(name, "value") for name in _CONTROLS),
        *(Input(name, "relayoutData") for name in _CHARTS),
        State("shown", "data"),
    )
    def update(search: str | None, _: int | None, *rest: Any) -> tuple[Any, ...]:
        given = dict(zip((*_CONTROLS, *_CHARTS, "shown"), rest, strict=True))
        return _update(store, search or "", given)

    @app.callback(
        Output("ready", "data"),
        Output("poll", "disabled", allow_duplicate=True),
        Output("message", "children", allow_duplicate=True),
        Input("poll", "n_intervals"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    def look(number: int | None, search: str | None) -> tuple[Any, ...]:
        try:
            view = TraceView.read(search or "")
            name = view.trace or next(iter(store.traces(view.run)))
            index, share = store.index(view.run, name)
        except (ValueError, OSError):  # the answer itself says what is wrong
            return number, True, no_update
        if index is not None:
            return number, True, no_update
        return no_update, False, _reading(name, share)


def _update(store: TraceStore, search: str, given: dict[str, Any]) -> tuple[Any, ...]:
    """The values of all the outputs, for whatever has changed."""
    changed = {name.rpartition(".")[0] for name in ctx.triggered_prop_ids}
    shown = given["shown"]
    if shown is not None:
        # A chart that is drawn asks too, and Dash then drops the answer to a choice made just
        # before: what a control holds and the page does not show is a change as well.
        known = shown["controls"] | shown["charts"]
        changed |= {name for name, value in known.items() if given[name] != value}
    try:
        view = TraceView.read(search)
        # Of a page that shows nothing yet only the address counts: its controls are still empty.
        if shown is not None:
            for name in changed.intersection(_CONTROLS):
                view = _controlled(view, name, given[name])
            for name in changed.intersection(_CHARTS):
                view = _zoomed(view, given[name] or {})
            # Of a trace that is being read the answer to "ready" may have been dropped likewise.
            seen = view.search == shown["search"] and not shown.get("reading")
            if seen and "ready" not in changed:
                raise PreventUpdate
        answer = _shown(store, view)
        answer[1]["charts"] = {name: given[name] for name in _CHARTS}
        return answer
    except (ValueError, OSError) as error:
        return _refused(store, str(error), search, given)


def _controlled(view: TraceView, name: str, value: Any) -> TraceView:
    if value is None and name not in ("episode", "first", "last"):
        return view
    if isinstance(value, float):
        value = int(value)
    return view if getattr(view, name) == value else view.changed(**{name: value})


def _zoomed(view: TraceView, told: dict[str, Any]) -> TraceView:
    """The view after a chart was drawn over, or clicked twice."""
    if told.get("xaxis.autorange"):
        return view.changed(first=None, last=None)
    try:
        first, last = (round(float(told[f"xaxis.range[{i}]"])) for i in (0, 1))
    except (KeyError, TypeError, ValueError, OverflowError):
        return view
    return view.changed(first=max(first, 0), last=max(last, 0), trade=view.trade)


def _shown(store: TraceStore, view: TraceView) -> tuple[Any, ...]:
    traces = list(store.traces(view.run))
    if not traces:
        raise ValueError(f"the run {view.run} has no trace")
    name = view.trace or traces[0]
    store.index(view.run, name)  # reading begins, of one that is known if it has grown
    store.wait(view.run, name, _PATIENCE_S)
    index, share = store.index(view.run, name)
    if index is not None:
        try:
            return _frame(view, traces, name, index, store=store)
        except IndexGoneError:
            if not store.is_lost(view.run, name, index):
                raise
    return _frame(view, traces, name, None, _reading(name, share), poll=True)


def _reading(name: str, share: float) -> str:
    return f"{name} is being read: {share:.0%}."


def _frame(
    view: TraceView,
    traces: list[str],
    name: str,
    index: TraceIndex | None,
    words: str = "",
    *,
    poll: bool = False,
    store: TraceStore | None = None,
) -> tuple[Any, ...]:
    controls = {field: getattr(view, field) for field in _CONTROLS} | {"trace": name}
    lanes, markets, several, charts = no_update, no_update, False, (NOTHING, NOTHING)
    links: list[Any] = []
    trades: list[Any] = []
    candles, about = False, ""
    if index is not None and store is not None:
        found = answer(store.queries, index, view, store.path(view.run, name))
        lanes, words = (
            lane_options(index),
            " ".join([*_grown(store, view.run, name, index), *found.notes]),
        )
        markets, several = market_options(index), len(index.markets) > 1
        controls |= {"lane": -1 if found.part.lane is None else found.part.lane}
        controls |= {"first": found.part.first, "last": found.part.last}
        candles = found.candles is not None
        charts = (found.metric, found.candles or NOTHING)
        links, trades = moves(index, view, found), trades_table(index, view, found)
        about = _about(index, found)
    styles = [_style(name, figure) for name, figure in zip(_CHARTS, charts, strict=True)]
    values = [controls[field] for field in _CONTROLS]
    head = _head(view.run)
    shown = {"search": view.search, "reading": poll,
             "controls": dict(zip(_CONTROLS, values, strict=True))}  # fmt: skip
    return (view.search, shown, not poll, head, about, words, traces, markets, not several, lanes,
            view.lane == -1, *values, *charts, *styles, links, trades, not candles)  # fmt: skip


def _grown(store: TraceStore, run: str, name: str, index: TraceIndex) -> list[str]:
    """Whether a trace has more than is shown."""
    more = has_more(store.path(run, name), index)
    return ["The trace has grown since: load the page again for the rest of it."] if more else []


def _about(index: TraceIndex, found: Answer) -> str:
    """How much the trace holds, and which markets are looked at."""
    lane, episode = found.part.lane, found.part.episode
    seen = "all lanes" if lane is None else f"lane {lane}"
    seen += "" if episode is None else f", episode {episode}"
    return (
        f"{counted(index.rows, 'row')}, {counted(len(index.lanes), 'lane')}, "
        f"frames to {index.last_frame:,}; "
        f"{seen}: {', '.join(found.markets)}"
    )


def _style(name: str, figure: Figure) -> dict[str, str]:
    """The height of a chart; one that shows nothing has none."""
    return {"height": f"{HEIGHTS[name]}px"} if figure is not NOTHING else {"display": "none"}


def _refused(store: TraceStore, words: str, search: str, given: dict[str, Any]) -> tuple[Any, ...]:
    """What is wrong, and the run's other traces; the controls stay as they are."""
    run = dict(parse_qsl(search.lstrip("?"))).get("run", "")
    try:
        traces = list(store.traces(run))
    except (ValueError, OSError):
        run, traces = "", []
    words = words.replace(f"{store.root}/", "")
    controls, charts = ({name: given[name] for name in names} for names in (_CONTROLS, _CHARTS))
    shown = {"search": search, "controls": controls, "charts": charts}
    kept = [no_update] * (_CHOICES - 1 + len(_CONTROLS))
    styles = [_style(name, NOTHING) for name in _CHARTS]
    return (no_update, shown, True, _head(run), "", f"Not shown: {words}.", traces, *kept,
            NOTHING, NOTHING, *styles, [], [], True)  # fmt: skip


def _head(run: str) -> list[Any]:
    return [html.A("All runs", href="/"), *([" / ", run] if run else [])]
