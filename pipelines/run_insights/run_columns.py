"""The columns of the table of runs: what a cell shows, and what it is sorted by."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.held_out.result import POLICY
from pipelines.number_text import (
    NONE,
    duration,
    minute,
    number,
    percent,
    signed_percent,
)
from pipelines.run_insights.judged import HOLD, Judged
from pipelines.run_insights.replays import Replay
from pipelines.run_insights.run_files import finite
from pipelines.run_insights.run_records import RunRecord, at_market
from pipelines.run_insights.run_records import number as number_of
from pipelines.source import short_revision

_MISSING = object()
# Where a run lies, and how it was started, is not what it is.
_PLACES = ("run.root", "run.dir", "resume")
_SECRET = re.compile(r"(?i)secret|token|passw|credential|api_?key")


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: to be read; a line for each market, if there are several.
        key: to be sorted by: a number or a text; None comes last.
    """

    text: str
    key: float | str | None


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        title: of its head.
        kind: class of its style: ``number``, ``key`` or ``word``.
        cell: of a run.
    """

    title: str
    kind: str
    cell: Callable[[RunRecord], Cell]


def differing_keys(records: Sequence[RunRecord]) -> list[str]:
    """Keys of the configuration in which runs differ, in order; a missing key is a difference.

    Runs whose configuration cannot be read do not count.
    """
    configs = [record.config for record in records if record.config]
    names = dict.fromkeys(name for config in configs for name in config if name not in _PLACES)
    return [
        name
        for name in names
        if len({_plain(config.get(name, _MISSING)) for config in configs}) > 1
    ]


def columns(records: Sequence[RunRecord], price_per_hour: float | None) -> list[Column]:
    """The columns, without those that would be empty in every row."""
    found = [
        Column("state", "word", lambda run: Cell(run.state.word, run.state.word)),
        Column("verdict", "word", _verdict),
        _figure("return", POLICY, "total_return", signed_percent),
        _figure("buy-and-hold", HOLD, "total_return", signed_percent),
        _figure("max drawdown", POLICY, "max_drawdown", percent),
        _figure("trades", POLICY, "trades", number),
        Column("other replay", "number", _other_replays),
        Column("written, UTC", "word", _written),
        Column("frames", "number", lambda run: _cell(run.curves.frames, number)),
        Column("frames/s", "number", lambda run: _cell(run.curves.speed, number)),
        Column("time", "number", lambda run: _cell(run.curves.hours, _hours)),
    ]
    if price_per_hour is not None:
        found.append(Column("cost", "number", lambda run: _cost(run, price_per_hour)))
    found += [
        *(_key_column(name) for name in differing_keys(records)),
        Column("device", "word", lambda run: _word(str(run.config.get("device", "")))),
        Column("commit", "word", lambda run: _word(short_revision(run.commit))),
        Column("notes", "notes", lambda run: _word("; ".join(notes(run)))),
    ]
    return [column for column in found if any(column.cell(run).text != NONE for run in records)]


def notes(run: RunRecord) -> list[str]:
    """Why a run is not finished, what is wrong with its files, the verdict's first reason."""
    verdict = [at_market(each.market, each.reason) for each in run.judged if each.word]
    older = [f"the {what} is of {each.earlier}" for what, found in
             (("verdict", run.judged), ("replay", run.replays)) for each in found
             if each.earlier]  # fmt: skip
    lines = (run.state.reason, *run.problems, *dict.fromkeys(older), *verdict)
    return [line for line in lines if line]


def judged_cells(judged: Judged) -> list[Cell]:
    """An evaluation of several runs: verdict, figures, reason."""
    policy, hold = judged.policy, judged.hold
    return [
        _word(judged.word or "damaged"),
        _cell(number_of(policy, "total_return_fraction"), signed_percent),
        _cell(number_of(hold, "total_return_fraction"), signed_percent),
        _cell(number_of(policy, "max_drawdown_fraction"), percent),
        _word(judged.reason),
    ]


JUDGED_TITLES = ("evaluation", "verdict", "return", "buy-and-hold", "max drawdown", "because")


def _key_column(name: str) -> Column:
    def cell(run: RunRecord) -> Cell:
        value = run.config.get(name, _MISSING)
        if value is _MISSING:
            return Cell(NONE, None)
        if _SECRET.search(name):
            return Cell("hidden", "")
        found = finite(value)
        return Cell(_plain(value).strip('"'), _plain(value) if found is None else found)

    return Column(name, "key", cell)


def _figure(title: str, account: str, name: str, show: Callable[[Any], str]) -> Column:
    def cell(run: RunRecord) -> Cell:
        found = run.figures(account, name)
        if not found:
            return Cell(NONE, None)
        # Of several markets the mean is what rows are sorted by. The checkpoint is named once.
        lines = [
            _qualified(f"{market} {show(value)}".strip(), run.earlier(market) * (title == "return"))
            for market, value in found.items()
        ]
        return Cell("\n".join(lines), sum(found.values()) / len(found))

    return Column(title, "number", cell)


def _other_replays(run: RunRecord) -> Cell:
    """Returns of what is not the run's held-out bars, with what they are of."""
    return _word("\n".join(_other(replay) for replay in run.replays if replay.other))


def _other(replay: Replay) -> str:
    figure = number_of(replay.metrics.get(POLICY, {}), "total_return")
    text = NONE if figure is None else signed_percent(figure)
    return f"{at_market(replay.market, replay.other)} {text}"


def _verdict(run: RunRecord) -> Cell:
    lines = [_qualified(each.word, each.market, each.earlier) for each in run.judged if each.word]
    return _word("\n".join(lines))


def _qualified(text: str, *words: str) -> str:
    """A result, and behind it what it is of, if that does not go without saying."""
    said = "; ".join(filter(None, words))
    return f"{text} ({said})" if said else text


def _written(run: RunRecord) -> Cell:
    return Cell(minute(run.state.when) or NONE, run.state.when or None)


def _cost(run: RunRecord, price_per_hour: float) -> Cell:
    hours = run.curves.hours
    return _cell(None if hours is None else hours * price_per_hour, lambda cost: f"{cost:,.2f}")


def _hours(hours: float | None) -> str:
    return NONE if hours is None else duration(3_600.0 * hours)


def _cell(value: float | None, show: Callable[[Any], str]) -> Cell:
    return Cell(NONE if value is None else show(value), value)


def _word(text: str) -> Cell:
    return Cell(text or NONE, text or None)


def _plain(value: object) -> str:
    return "" if value is _MISSING else json.dumps(value, sort_keys=True)


def curve_names(records: Iterable[RunRecord]) -> list[str]:
    """Names of all curves, in the order in which runs have them."""
    return list(dict.fromkeys(name for record in records for name in record.curves.points))
