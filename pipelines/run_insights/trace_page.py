"""The page of a trace, made of Dash's parts: controls, charts, trades."""

from typing import Any

import pandas as pd
from dash import dcc, html

from pipelines.number_text import counted, signed_money
from pipelines.price_decimals import price_decimals
from pipelines.run_insights.trace_answer import Answer
from pipelines.run_insights.trace_figures import NOTHING
from pipelines.run_insights.trace_index import TraceIndex
from pipelines.run_insights.trace_queries import METRICS
from pipelines.run_insights.trace_trades import ORDERS
from pipelines.run_insights.trace_view import PAGE_ROWS, TraceView

PREFIX = "/trace/"
# More lanes than that are not listed, but may be named in the address.
_MOST_LANES = 2_000
_ORDER_WORDS = {"time": "in time", "best": "best first", "worst": "worst first"}
_GRAPH = {
    "responsive": True,
    "displaylogo": False,
    "plotlyServerURL": "",
    "modeBarButtons": [["zoom2d", "pan2d", "toImage"]],
}
_PRICES = ("entry_price", "exit_price")
HEIGHTS = {"metric-chart": 260, "candle-chart": 460}
_KEYS = (
    "Keys: ← → earlier and later, + - nearer and farther, 0 all of it, p n previous and next "
    "trade. Draw sideways over a chart to look closer, click it twice for all of it."
)


def layout() -> html.Div:
    """The parts of every page of a trace, empty."""
    return html.Div(
        [
            dcc.Location(id="url", refresh="callback-nav"),
            dcc.Store(id="shown"),
            dcc.Store(id="ready"),
            dcc.Interval(id="poll", interval=500, disabled=True),
            html.Header([html.H1(id="head"), html.P(id="about", className="about")]),
            html.Main(
                [
                    html.Div(
                        [
                            _field("trace", dcc.Dropdown(id="trace", clearable=False), "wide"),
                            _field("metric", dcc.Dropdown(list(METRICS), id="metric",
                                                          clearable=False), "wide"),
                            _field("market", dcc.Dropdown(id="market", clearable=False)),
                            _field("lane", dcc.Dropdown(id="lane", clearable=False)),
                            _field("episode", _number("episode", "all")),
                            _field("from frame", _number("first", "the first")),
                            _field("to frame", _number("last", "the last")),
                        ],
                        className="controls",
                    ),
                    html.Nav(id="moves", className="controls"),
                    html.P(id="message", className="small", **{"aria-live": "polite"}),
                    _graph("metric-chart", "the metric over the frames"),
                    _graph("candle-chart", "bars with entries, exits, stops and targets"),
                    html.Section(
                        [
                            html.H2("Trades of this lane"),
                            _field("order", dcc.Dropdown(
                                [{"label": _ORDER_WORDS[name], "value": name} for name in ORDERS],
                                id="order", clearable=False)),
                            html.Div(id="trades"),
                        ],
                        id="trade-section",
                    ),
                    html.P(_KEYS, className="small"),
                ]
            ),
        ]
    )  # fmt: skip


def lane_options(index: TraceIndex) -> list[dict[str, Any]]:
    """All lanes together, and each of them."""
    lanes = [{"label": f"lane {lane}", "value": lane} for lane in index.lanes[:_MOST_LANES]]
    return [{"label": "all lanes", "value": -1}, *lanes]


def market_options(index: TraceIndex) -> list[dict[str, str]]:
    """All markets together, and each of them."""
    return [{"label": "all markets", "value": ""},
            *({"label": name, "value": name} for name in index.markets)]  # fmt: skip


def moves(index: TraceIndex, view: TraceView, found: Answer) -> list[Any]:
    """Links to the views beside this one; the page's keys follow them."""
    part = found.part
    whole = view.first is None and view.last is None
    near = view.moved(index, part, zoom=0.5)
    steps = (
        ("earlier", "◀ earlier", view.moved(index, part, by=-0.5), part.first == index.first_frame),
        ("later", "later ▶", view.moved(index, part, by=0.5), part.last == index.last_frame),
        ("nearer", "+ nearer", near, near.search == view.search),
        ("farther", "- farther", view.moved(index, part, zoom=2.0), whole),
        ("whole", "0 all", view.changed(first=None, last=None), whole),
    )
    links = [_link(word, target.search, f"move-{name}", off) for name, word, target, off in steps]
    links.append(_link("previous trade", found.before, "move-before", not found.before))
    links.append(_link("next trade", found.after, "move-after", not found.after))
    return links


def trades_table(index: TraceIndex, view: TraceView, found: Answer) -> list[Any]:
    """A page of trades, each of which leads to its bars, and why they were closed."""
    if found.trades.empty:
        others = f" There are {len(index.lanes)} lanes." if len(index.lanes) > 1 else ""
        return [html.P(f"This lane has no trade here.{others}", className="small")]
    several = len(index.markets) > 1 and found.part.market is found.part.episode is None
    titles = (
        "entry, UTC",
        *("market",) * several,
        "episode",
        "side",
        "entry at",
        "exit at",
        "exit by",
        "bars",
        "profit",
    )
    head = html.Thead(html.Tr([html.Th(title, scope="col") for title in titles]))
    decimals = {
        market: price_decimals(trades[list(_PRICES)].to_numpy())
        for market, trades in found.trades.groupby("market")
    }
    rows = [
        _trade(row, view, several, decimals[row["market"]]) for _, row in found.trades.iterrows()
    ]
    last = view.page * PAGE_ROWS + len(found.trades)
    pages = html.Nav(
        [
            _link("◀ page", view.changed(page=max(view.page - 1, 0), trade=view.trade).search,
                  "page-before", view.page == 0),
            _link("page ▶", view.changed(page=view.page + 1, trade=view.trade).search,
                  "page-after", not found.more),
            html.Span(f"{view.page * PAGE_ROWS + 1:,} to {last:,}"),
        ],
        className="controls",
    )  # fmt: skip
    scroll = {"role": "region", "tabIndex": "0", "aria-label": "trades"}
    return [
        html.P(_reasons(found.reasons), className="small"),
        html.Div(html.Table([head, html.Tbody(rows)]), className="scroll", **scroll),
        pages,
    ]


def _reasons(reasons: pd.DataFrame) -> str:
    parts = [
        f"{counted(int(row['trades']), 'exit')} by {str(row['exit_reason']).replace('_', '-')} "
        f"({signed_money(row['profit'])})"
        for _, row in reasons.iterrows()
    ]
    return f"{counted(int(reasons['trades'].sum()), 'trade')}: {', '.join(parts)}."


def _trade(row: pd.Series, view: TraceView, several: bool, decimals: int) -> html.Tr:
    time = f"{row['entry_time']:%Y-%m-%d %H:%M}"
    entry, end = (f"{row[name]:,.{decimals}f}" for name in _PRICES)
    cells = (
        *(str(row["market"]),) * several,
        str(row["episode"]),
        "long" if row["units"] > 0 else "short",
        entry,
        end,
        str(row["exit_reason"]).replace("_", "-"),
        f"{int(row['bars_held']):,}",
        signed_money(row["profit"], 2),
    )
    link = dcc.Link(time, href=f"{PREFIX}{row['link']}")
    chosen = view.trade == int(row["entry_frame"])
    others = [
        html.Td(text, className="number" if i > 4 + several else "") for i, text in enumerate(cells)
    ]
    return html.Tr([html.Th(link, scope="row"), *others], className="chosen" if chosen else "")


def _link(words: str, search: str, name: str, off: bool) -> Any:
    if off:
        return html.A(words, **{"aria-disabled": "true"})
    return dcc.Link(words, href=f"{PREFIX}{search}", className=name)


def _field(title: str, control: Any, kind: str = "") -> html.Div:
    # A label of its own kind: Dash's controls are not what a label element can name.
    words = {"role": "group", "aria-label": title}
    return html.Div([html.Span(title), control], id=f"{control.id}-field",
                    className=f"field {kind}", **words)  # fmt: skip


def _number(name: str, placeholder: str) -> dcc.Input:
    return dcc.Input(id=name, type="number", min=0, step=1, debounce=True, placeholder=placeholder)


def _graph(name: str, words: str) -> html.Div:
    graph = dcc.Graph(
        id=name, figure=NOTHING, config=_GRAPH, style={"height": f"{HEIGHTS[name]}px"}
    )
    return html.Div(graph, className="chart", role="img", **{"aria-label": words})
