"""The folder of a download: whole months under a manifest, whenever the program ends."""

import contextlib
import hashlib
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd

from envs.bar_files import OHLCV, file_sha256, time_text
from envs.bar_folder import MANIFEST, MONTH_FILE, FolderManifest, MonthFile, read_month
from envs.durable import make_writable, sweep_unfinished, write_file
from pipelines.folder_lock import LOCK, lock_folder
from pipelines.market_data.fresh_bars import FreshBars, Span, within

# Bars that are fetched again when a month goes on: an exchange may have revised its last ones.
REVISED_BARS = 10


class MonthStore:
    """Writes the months of one market; the manifest names whole files only, at any time.

    A month that grows is written to a file of another name, then the manifest, then the file of
    before is removed.

    Args:
        folder: made if it is not there.
        about: what is downloaded, without months.

    Attributes:
        manifest: what the folder holds.
        damaged: months whose file was missing or changed; the manifest in memory is without them.

    Raises:
        BlockingIOError: if another download writes to the folder.
        FileExistsError: if there is something else in it.
        ValueError: if it holds the bars of another market, its manifest cannot be read, or there
            is a symbolic link in it.
    """

    def __init__(self, folder: Path, about: FolderManifest) -> None:
        self.folder = folder
        self.manifest = about
        self.damaged: list[MonthFile] = []
        self._made = [path for path in (folder, *folder.parents) if not path.exists()]
        make_writable(folder)
        ours = (folder / MANIFEST).is_file()
        if not ours and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise FileExistsError(
                f"out={str(folder)!r} is not allowed: there is something else in it"
            )
        self._lock = lock_folder(folder, "another download is writing to this folder")
        try:
            sweep_unfinished(folder)
            if (folder / MANIFEST).is_file():
                self._open(about)
            else:
                self._write_manifest()
        except BaseException:
            self._lock.release()
            raise

    def covers(self, month: str, span: Span) -> bool:
        """Whether a month has been fetched for the whole of a span."""
        entry = self._entry(month)
        return entry is not None and Span(*entry.span_ns).holds(span)

    def plan(self, month: str, span: Span) -> tuple[Span, int]:
        """What to fetch so that a month has all of a span: the span, and from when on.

        A month that is there is never made shorter.
        """
        entry = self._entry(month)
        if entry is None:
            return span, span.start
        have = Span(*entry.span_ns)
        whole = span.hull(have)
        if span.start < have.start:
            return whole, whole.start
        overlap = REVISED_BARS * self.manifest.interval_s * 10**9
        return whole, max(have.start, have.end - overlap)

    def put(self, month: str, span: Span, fresh: FreshBars) -> int:
        """Write what has come of a month: what there was before it, and all that is fresh.

        Every bar comes from one answer as a whole.

        Args:
            month: ``"2025-01"``.
            span: what `plan` said.
            fresh: the answer.

        Returns:
            Bars in the month; 0 if neither the source nor the folder has any.

        Raises:
            OSError: if the disk refuses; the month stays as it was.
        """
        entry = self._entry(month)
        if not len(fresh.frame):
            return 0 if entry is None else self._extend(entry, fresh.until)
        fresh = fresh if entry is None else self._joined(entry, fresh)
        frame = within(fresh.frame, Span(span.start, fresh.until))
        blob = _to_parquet(frame)
        digest = hashlib.sha256(blob).hexdigest()
        entry = MonthFile(
            month=month,
            file=f"{month}.{digest[:8]}.parquet",
            rows=len(frame),
            sha256=digest,
            first=time_text(frame["time_ns"].iloc[0]),
            last=time_text(frame["time_ns"].iloc[-1]),
            start=time_text(span.start),
            end=time_text(fresh.until),
            origin=fresh.origin,
            found=dict(fresh.found),
        )
        write_file(self.folder / entry.file, blob)
        self._enter(entry)
        return len(frame)

    def close(self) -> None:
        """Let others write to the folder; leave none behind if not a single bar has come."""
        if not self.manifest.months and not self.damaged:
            for name in (MANIFEST, LOCK):
                (self.folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                for folder in self._made:
                    folder.rmdir()
        self._lock.release()

    def _open(self, about: FolderManifest) -> None:
        manifest = FolderManifest.read(self.folder)
        if manifest.identity != about.identity:
            held, asked = (
                " ".join(str(value) for value in known.identity.values())
                for known in (manifest, about)
            )
            raise ValueError(
                f"out={str(self.folder)!r} is not allowed: it holds the bars of {held}, not of "
                f"{asked}; name another folder"
            )
        self.manifest = manifest
        self._sweep_replaced()
        whole = [month for month in manifest.months if self._is_whole(month)]
        self.damaged = [month for month in manifest.months if month not in whole]
        self.manifest = replace(manifest, months=whole)

    def _is_whole(self, month: MonthFile) -> bool:
        path = self.folder / month.file
        return path.is_file() and file_sha256(path) == month.sha256

    def _entry(self, month: str) -> MonthFile | None:
        return next((entry for entry in self.manifest.months if entry.month == month), None)

    def _joined(self, entry: MonthFile, fresh: FreshBars) -> FreshBars:
        """The bars of a month before the fresh ones, and these."""
        old = read_month(self.folder, self.manifest, entry)
        old = old[old["time_ns"] < fresh.since]
        if not len(old):
            return fresh
        return replace(
            fresh,
            frame=pd.concat([old[["time_ns", *OHLCV]], fresh.frame]),
            origin=list(dict.fromkeys([*entry.origin, *fresh.origin])),
            found=Counter(entry.found) + fresh.found,
        )

    def _extend(self, entry: MonthFile, until: int) -> int:
        """Note that the source has no bar between a month's end and `until`."""
        if until > entry.span_ns[1]:
            self._enter(replace(entry, end=time_text(until)))
        return entry.rows

    def _enter(self, entry: MonthFile) -> None:
        others = [month for month in self.manifest.months if month.month != entry.month]
        self.damaged = [month for month in self.damaged if month.month != entry.month]
        months = sorted([*others, entry], key=lambda month: month.month)
        self.manifest = replace(self.manifest, months=months)
        self._write_manifest()
        self._sweep_replaced()

    def _write_manifest(self) -> None:
        """With the damaged months, too: what is missing must not look like a hole."""
        months = sorted([*self.manifest.months, *self.damaged], key=lambda month: month.month)
        blob = replace(self.manifest, months=months).to_bytes()
        write_file(self.folder / MANIFEST, blob)

    def _sweep_replaced(self) -> None:
        """Remove files of months that the manifest does not name."""
        named = {month.file for month in [*self.manifest.months, *self.damaged]}
        for path in self.folder.iterdir():
            if MONTH_FILE.fullmatch(path.name) and path.name not in named:
                path.unlink()


def _to_parquet(frame: pd.DataFrame) -> bytes:
    """The same bars give the same bytes."""
    times = pd.to_datetime(frame["time_ns"], unit="ns", utc=True).dt.as_unit("ms")
    table = pd.DataFrame({"timestamp": times, **{name: frame[name] for name in OHLCV}})
    file = io.BytesIO()
    table.to_parquet(file, index=False, compression="zstd")
    return file.getvalue()
