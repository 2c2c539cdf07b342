"""What a page of a trace shows, as its address says it: a link to it can be shared."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from urllib.parse import parse_qsl, urlencode

from envs.checks import require, require_at_least, require_one_of
from pipelines.run_insights.trace_index import TraceIndex
from pipelines.run_insights.trace_queries import METRICS, Part
from pipelines.run_insights.trace_trades import ORDERS

PAGE_ROWS = 25
_LEAST_FRAMES = 16
_MOST_DIGITS = 18


@dataclass(frozen=True)
class TraceView:
    """The state of a page.

    Attributes:
        run: name of the run's folder under the folder of all runs.
        trace: name of the file.
        metric: that is drawn over the frames.
        market: empty: all.
        lane: None: the first one; -1: all.
        episode: of the lane; None: all.
        first: frame; None: the first one.
        last: frame; None: the last one.
        order: of the trades in the table.
        page: of that table, from 0.
        trade: frame of the entry of the trade that is pointed at.

    Raises:
        ValueError: for a value that is not allowed, naming it.
    """

    run: str = ""
    trace: str = ""
    metric: str = "equity"
    market: str = ""
    lane: int | None = None
    episode: int | None = None
    first: int | None = None
    last: int | None = None
    order: str = "time"
    page: int = 0
    trade: int | None = None

    def __post_init__(self) -> None:
        require_one_of("metric", self.metric, list(METRICS))
        require_one_of("order", self.order, list(ORDERS))
        require_at_least("page", self.page, 0)
        for name, low in (("lane", -1), ("episode", 0), ("first", 0), ("last", 0), ("trade", 0)):
            value = getattr(self, name)
            if value is not None:
                require_at_least(name, value, low)

    @classmethod
    def read(cls, search: str) -> "TraceView":
        """The view of an address's ``?key=value&…``; other keys are left alone.

        Raises:
            ValueError: for a value that is not allowed.
        """
        known = {field.name: field.type for field in fields(cls)}
        words = dict(parse_qsl(search.lstrip("?"), max_num_fields=50))
        given: dict[str, str | int] = {}
        for name in known.keys() & words.keys():
            text = words[name]
            given[name] = text if known[name] is str else _whole(name, text)
        return cls(**given)  # type: ignore[arg-type]

    @property
    def search(self) -> str:
        """The address of the view, from ``?`` on, without what goes without saying."""
        return "?" + urlencode(
            {
                field.name: getattr(self, field.name)
                for field in fields(self)
                if getattr(self, field.name) != field.default
            }
        )

    def changed(self, **changes: object) -> "TraceView":
        """The view with other values; another place has no page of trades and no trade yet."""
        given: Mapping[str, object] = changes
        if given.keys() & {"market", "lane", "episode", "first", "last", "trace", "order"}:
            given = {"page": 0, "trade": None, **given}
        if "trace" in given:
            given = {"market": "", "lane": None, **given}
        if given.keys() & {"market", "lane"}:
            given = {"episode": None, **given}
        if "episode" in given:
            given = {"first": None, "last": None, **given}
        return replace(self, **given)  # type: ignore[arg-type]

    def part(self, index: TraceIndex) -> Part:
        """The part of a trace that is looked at.

        Raises:
            ValueError: if the trace has no such market or lane, or the range holds no frame.
        """
        lane = index.lanes[0] if self.lane is None else self.lane
        first = index.first_frame if self.first is None else max(self.first, index.first_frame)
        last = index.last_frame if self.last is None else min(self.last, index.last_frame)
        allowed = f"frames from {index.first_frame:,} to {index.last_frame:,}, the first one first"
        require(first <= last, "first and last", (self.first, self.last), allowed)
        if self.market:
            require_one_of("market", self.market, index.markets)
        market = self.market or None
        if lane == -1:
            require(self.episode is None, "episode", self.episode, "none, of all lanes")
            return Part(first, last, market=market)
        few = ", ".join(map(str, index.lanes[:10])) + ", …" * (len(index.lanes) > 10)
        require(lane in index.lanes, "lane", lane, f"one of {few}")
        return Part(first, last, lane, self.episode, market)

    def moved(
        self, index: TraceIndex, part: Part, *, by: float = 0.0, zoom: float = 1.0
    ) -> "TraceView":
        """The view of a range `zoom` times as long, moved by a share of its length."""
        length, lanes = part.last - part.first, max(len(index.lanes), 1)
        least = _LEAST_FRAMES * lanes
        if zoom <= 1.0:  # a range that was drawn may be shorter, and stays as long
            least = min(least, max(length, lanes))
        wanted = min(max(round(length * zoom), least), index.last_frame - index.first_frame)
        middle = part.first + length / 2 + by * length
        first = min(max(round(middle - wanted / 2), index.first_frame), index.last_frame - wanted)
        return self.changed(first=first, last=first + wanted)


def _whole(name: str, text: str) -> int:
    plain = text.removeprefix("-")
    fits = plain.isascii() and plain.isdigit() and len(plain) <= _MOST_DIGITS
    require(fits, name, text, "a whole number")
    return int(text)
