"""Download bars: ``python pipelines/download.py symbol=BTC/USDT timeframe=1m start=2024-01-01``.

Writes a folder that ``data.path=FOLDER`` takes: a parquet file a month, and a manifest with source,
span, rows and hash of each. Months that are there are not fetched again; a month that has not ended
goes on where it stopped. However the program ends, the folder holds whole months only.
"""

from pipelines.ending import end_plainly

if __name__ == "__main__":
    end_plainly()

import sys

from pipelines.config import DownloadConfig, load_config

if __name__ == "__main__":
    # Before what loads for seconds: --help and a mistake are answered at once.
    CONFIG = load_config("download", sys.argv[1:])

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tqdm import tqdm

from envs.bar_files import time_text
from envs.bar_folder import FolderManifest, MonthFile
from pipelines.exit_codes import INTERRUPTED, NETWORK, REFUSED
from pipelines.market_data.binance_vision import BinanceVision
from pipelines.market_data.ccxt_source import CcxtSource
from pipelines.market_data.fresh_bars import FOUND, FreshBars, Span, month_spans
from pipelines.market_data.month_store import MonthStore
from pipelines.market_data.patience import BadDataError, Patience
from pipelines.number_text import counted
from pipelines.refusal import plain_failures, plain_refusals

# Clocks that differ by less are not worth a word.
_SKEW_NS = 60 * 10**9
# Of a folder that a person has named; everything else that the system refuses is the disk's.
_REFUSED = (ValueError, FileExistsError, NotADirectoryError, BlockingIOError)


class Source(Protocol):
    """Where bars come from: `BinanceVision`, `CcxtSource`."""

    def now_ns(self, first: str) -> tuple[int | None, int]:
        """The source's clock, None if it tells none, and ours."""
        ...

    def fetch(
        self, month: str, span: Span, since: int, now_ns: int, advance: Callable[[int], None]
    ) -> FreshBars:
        """All bars of a span within a month, from `since` on."""
        ...


@dataclass
class Outcome:
    """What became of the months that were asked for, ``"2025-01"``."""

    fetched: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    # Whether an empty one has bars that open between the multiples of the timeframe.
    off_grid: bool = False
    refused: list[str] = field(default_factory=list)


def main(cfg: DownloadConfig) -> int:
    """Download what is missing, say what there is, return the exit code."""
    try:
        with plain_failures():
            return run(cfg)
    except KeyboardInterrupt:
        print("\nstopped: whole months are kept; the same command goes on", file=sys.stderr)
        return INTERRUPTED


def run(cfg: DownloadConfig) -> int:
    """Open folder and source, download, report.

    Raises:
        SourceError: if the source cannot be reached.
        OSError: if the disk refuses.
    """
    with plain_refusals(_REFUSED):
        store = MonthStore(cfg.folder, describe(cfg))
    try:
        with plain_refusals():
            source = open_source(cfg)
            span, now_ns = wanted_span(cfg, source)
        outcome = download(source, store, span, now_ns, title=f"{cfg.symbol} {cfg.timeframe}")
        return report(cfg, store, outcome)
    finally:
        store.close()


def describe(cfg: DownloadConfig) -> FolderManifest:
    """What all months of the folder will have in common."""
    return FolderManifest(cfg.source, cfg.exchange_name, cfg.symbol, cfg.timeframe, cfg.interval_s)


def open_source(cfg: DownloadConfig) -> Source:
    """The source that the configuration names.

    Raises:
        SourceError: if it cannot be reached.
        ValueError: if it does not have what is asked for.
    """
    patience = Patience(cfg.http)
    if cfg.source == "ccxt":
        return CcxtSource(cfg, patience)
    return BinanceVision(cfg, patience)


def wanted_span(cfg: DownloadConfig, source: Source) -> tuple[Span, int]:
    """What is asked for, as far as its bars have closed; and the time, ns since 1970 UTC.

    A bar has closed when it has by the source's clock and by ours. A clock that is wrong can so
    delay a bar, and never lets a part of one in.

    Raises:
        SourceError: if the source cannot be reached.
        ValueError: if no bar can have closed since the start.
    """
    theirs, ours = source.now_ns(f"{cfg.start}"[:7])
    theirs = ours if theirs is None else theirs
    now_ns = min(theirs, ours)
    if abs(theirs - ours) > _SKEW_NS:
        says = [time_text(clock - clock % 10**9) for clock in (theirs, ours)]
        print(
            f"the source's clock says {says[0]}, this computer's {says[1]}: the earlier one "
            "decides which bar is the last that has closed",
            file=sys.stderr,
        )
    interval_ns = cfg.interval_s * 10**9
    closed = now_ns - now_ns % interval_ns
    end = closed if cfg.end_ns is None else min(cfg.end_ns, closed)
    if end <= cfg.start_ns:
        raise ValueError(
            f"start={cfg.start!r} is not allowed: no bar has closed since; it is "
            f"{time_text(now_ns)}"
        )
    return Span(cfg.start_ns, end), now_ns


def download(
    source: Source, store: MonthStore, span: Span, now_ns: int, *, title: str = ""
) -> Outcome:
    """Bring every month of a span, and those that are damaged, into the store.

    A month whose data stay wrong is left out and named, those after it are tried all the same.

    Raises:
        SourceError: if the source cannot be reached.
        OSError: if the disk refuses.
    """
    outcome = Outcome()
    months = _months_with_damaged(store, span)
    outcome.there = [month for month, part in months.items() if store.covers(month, part)]
    todo = {m: store.plan(m, months[m]) for m in sorted(months) if m not in outcome.there}
    interval_ns = store.manifest.interval_s * 10**9
    sizes = {m: -(-(part.end - since) // interval_ns) for m, (part, since) in todo.items()}
    with _Progress(title, sum(sizes.values())) as progress:
        for month, (part, since) in todo.items():
            try:
                fresh = source.fetch(month, part, since, now_ns, progress.within)
                rows = store.put(month, part, fresh)
                (outcome.fetched if rows else outcome.empty).append(month)
                outcome.off_grid |= not rows and bool(fresh.found["off_grid"])
            except BadDataError as error:
                outcome.refused.append(f"{month}: {error}")
            progress.finish(sizes[month])
    return outcome


def _months_with_damaged(store: MonthStore, span: Span) -> dict[str, Span]:
    """The months of a span, and those whose files are damaged, as far as they went."""
    months = dict(month_spans(span))
    for entry in store.damaged:
        have = Span(*entry.span_ns)
        months[entry.month] = months.get(entry.month, have).hull(have)
        print(f"{entry.file}: damaged or missing, fetched again", file=sys.stderr)
    return months


class _Progress:
    """A bar on a terminal, nothing elsewhere; counts the bars that have been asked for."""

    def __init__(self, title: str, total: int) -> None:
        self._bar = tqdm(total=total, desc=title, unit=" bars", disable=None)
        self._finished = 0

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def within(self, bars: int) -> None:
        """Of the month that is being fetched, so many have been asked for."""
        self._bar.update(self._finished + bars - self._bar.n)

    def finish(self, bars: int) -> None:
        """A month of so many bars is done."""
        self.within(bars)
        self._finished += bars


def report(cfg: DownloadConfig, store: MonthStore, outcome: Outcome) -> int:
    """Say what there is now, and return the exit code."""
    months: list[MonthFile] = store.manifest.months
    if outcome.empty:
        print(f"no bars in {_listed(outcome.empty)}")
    if months:
        rows = sum(month.rows for month in months)
        print(
            f"{cfg.symbol} {cfg.timeframe}: {rows:,} bars in {counted(len(months), 'month')}, "
            f"{months[0].first} to {months[-1].last}; fetched {len(outcome.fetched)}, "
            f"there already {len(outcome.there)}"
        )
        _print_found(months, outcome.fetched)
        print(f"use them: data.path={store.folder}")
    for line in outcome.refused:
        print(f"error: {line}", file=sys.stderr)
    if outcome.refused:
        return NETWORK
    if not months:
        why = "; is the market's name right, and had it begun?"
        if outcome.off_grid:
            why = (
                f" that open at multiples of {cfg.timeframe} in UTC, only some in between, as days "
                "of another time zone are; a shorter timeframe may fit"
            )
        market = f"{cfg.symbol} {cfg.timeframe}"
        print(f"error: {cfg.exchange_name} has no bars of {market} there{why}", file=sys.stderr)
        return REFUSED
    return 0


def _print_found(months: list[MonthFile], fetched: list[str]) -> None:
    for key, text in FOUND.items():
        count = sum(month.found.get(key, 0) for month in months if month.month in fetched)
        if count:
            print(f"{text}: {count:,}")


def _listed(months: list[str]) -> str:
    """Months as text, the middle left out if they are many."""
    if len(months) <= 4:
        return ", ".join(months)
    return f"{months[0]}, {months[1]}, … {months[-1]} ({len(months)} months)"


if __name__ == "__main__":
    raise SystemExit(main(CONFIG))
