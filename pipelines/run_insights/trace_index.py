"""A trace made quick to ask: its rows in parquet files in which a lane's rows lie together.

A trace is written in the order of time, and a question is about one lane of many. So it is read
once, in pieces of bounded size; each piece is sorted by lane, and is a parquet file of small row
groups, of which a question reads those with its lane and frames. A CSV file that has grown is read
from where it was left.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from filelock import FileLock

from envs.durable import remove_folder, write_file
from envs.trace_schema import COLUMNS, SCHEMA

FORMAT = 2
PAID = "funding_paid"
_LEFT_OUT = ("run_id", "split")
PIECE_BYTES = 64 * 2**20
_PIECE_ROWS = 250_000
_GROUP_ROWS = 16_384
_SEAM = 4_096
_LONGEST_LINE = 65_536
_INDEX = "index.json"
# What says which row it is: one without is damage.
_NAMED_BY = ("asset", "env_frame", "lane", "episode", "step", "timestamp")
_AS_WRITTEN = pa.csv.ConvertOptions(
    column_types={field.name: field.type for field in SCHEMA},
    null_values=[""],
    strings_can_be_null=True,
)


@dataclass(frozen=True)
class TraceIndex:
    """What is known of an indexed trace.

    Attributes:
        folder: of the parquet files.
        source_bytes: of the trace that have been read.
        source_time: when it was last changed, in ns.
        seam: sha256 of the last bytes that were read: a trace that was cut off differs there.
        pieces: parquet files.
        rows: in all of them.
        first_frame: of all rows.
        last_frame: likewise.
        paid: funding that each lane has paid, by its number as text.
        markets: names of those that it has bars of, in order.
    """

    folder: str
    source_bytes: int = 0
    source_time: int = 0
    seam: str = ""
    pieces: int = 0
    rows: int = 0
    first_frame: int = 0
    last_frame: int = 0
    paid: dict[str, float] | None = None
    markets: list[str] = field(default_factory=list)
    format: int = FORMAT

    @property
    def files(self) -> list[str]:
        """The parquet files, in the order of time."""
        return [str(Path(self.folder) / _piece_name(number)) for number in range(self.pieces)]

    @property
    def lanes(self) -> list[int]:
        """Numbers of the lanes, in order."""
        return sorted(map(int, self.paid or {}))


def index_trace(path: Path, folder: Path) -> TraceIndex:
    """The index of a trace, made or brought up to date.

    Args:
        path: ``*.csv`` or ``*.parquet``; a CSV file may still grow.
        folder: for the index, made if there is none. One process at a time writes to it.

    Raises:
        ValueError: if the file is no trace, naming it.
        OSError: if it cannot be read, or the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        known = _read_index(path, folder)
        try:
            pieces = (
                _parquet_pieces(path, known)
                if path.suffix == ".parquet"
                else _csv_pieces(path, known)
            )
            for rows, end, seam in pieces:
                _require_named(path, rows)
                known = _add_piece(known, rows, end, seam)
                _write_index(folder, known)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a trace, or damaged: {error}") from error
        known = replace(known, source_time=path.stat().st_mtime_ns)
        _write_index(folder, known)
    if not known.rows:
        raise ValueError(f"{path}: the trace has no rows yet")
    return known


def is_lost(known: TraceIndex) -> bool:
    """Whether what was indexed is no longer there, or cannot be read; the latter is read anew then.

    A loss of power may leave files without their bytes, which nobody sees by their names.
    """
    stored = Path(known.folder) / _INDEX
    try:
        if stored.read_bytes() != _encoded(known):
            return True
        for name in known.files:
            with pa.parquet.ParquetFile(name) as file:
                for _ in file.iter_batches(_GROUP_ROWS):
                    pass
    except (pa.ArrowException, OSError):
        stored.unlink(missing_ok=True)
        return True
    return False


def _read_index(path: Path, folder: Path) -> TraceIndex:
    """What has been indexed of the trace as it is now; an empty index if that is of no use."""
    fresh = TraceIndex(str(folder), paid={})
    try:
        values = json.loads((folder / _INDEX).read_text("utf-8"))
        known = TraceIndex(**{**values, "folder": str(folder)})
    except (OSError, ValueError, TypeError):
        known = fresh
    if known.format != FORMAT or not _is_continued(path, known):
        known = fresh
    if not known.pieces and any(folder.iterdir()):
        remove_folder(folder)
        folder.mkdir()
    return known


def _is_continued(path: Path, known: TraceIndex) -> bool:
    """Whether what was read of a trace still stands in it, and its files are there."""
    if not all(os.path.isfile(file) for file in known.files):
        return False
    if path.suffix == ".parquet":
        stat = path.stat()
        return (stat.st_size, stat.st_mtime_ns) == (known.source_bytes, known.source_time)
    with open(path, "rb") as file:
        return _seam(file, known.source_bytes) == known.seam


def has_more(path: Path, known: TraceIndex) -> bool:
    """Whether a trace has whole lines after those that were read.

    Raises:
        OSError: if it cannot be read.
    """
    if path.suffix == ".parquet":
        return False
    with open(path, "rb") as file:
        file.seek(known.source_bytes)
        return b"\n" in file.read(_LONGEST_LINE)


def _csv_pieces(path: Path, known: TraceIndex) -> Iterator[tuple[pa.Table, int, str]]:
    """Whole lines that have not been read yet: rows, where they end, and the seam there."""
    with open(path, "rb") as file:
        header = file.readline()
        if header.rstrip(b"\r\n").decode("utf-8").split(",") != list(COLUMNS):
            raise ValueError(f"{path}: not a trace: its first line is not the columns of one")
        at = known.source_bytes or len(header)
        while True:
            file.seek(at)
            block = file.read(PIECE_BYTES)
            block = block[: block.rfind(b"\n") + 1]
            if not block:
                return
            rows = pa.csv.read_csv(
                io.BytesIO(block),
                read_options=pa.csv.ReadOptions(column_names=COLUMNS),
                convert_options=_AS_WRITTEN,
            )
            at += len(block)
            yield rows, at, _seam(file, at)


def _parquet_pieces(path: Path, known: TraceIndex) -> Iterator[tuple[pa.Table, int, str]]:
    """The rows of a parquet trace, which is whole or not there; none if they are indexed."""
    if known.pieces:
        return
    with pa.parquet.ParquetFile(path) as file:
        if tuple(file.schema_arrow.names) != COLUMNS:
            raise ValueError(f"{path}: not a trace: its columns are not those of one")
        for batch in file.iter_batches(_PIECE_ROWS):
            yield pa.table(batch).cast(SCHEMA), path.stat().st_size, ""


def _require_named(path: Path, rows: pa.Table) -> None:
    """Refuse rows of which it is not said when, and in which lane, they were."""
    missing = [name for name in _NAMED_BY if rows[name].null_count]
    if missing:
        raise ValueError(f"{path}: not a trace, or damaged: a row without {', '.join(missing)}")


def _add_piece(known: TraceIndex, rows: pa.Table, end: int, seam: str) -> TraceIndex:
    """The index with one more file of rows, sorted by lane, then by time."""
    if not len(rows):  # empty lines
        return replace(known, source_bytes=end, seam=seam)
    rows = rows.drop_columns(list(_LEFT_OUT))
    rows = rows.sort_by([("lane", "ascending"), ("env_frame", "ascending")])
    lane, funding = (rows[name].to_numpy() for name in ("lane", "funding"))
    paid, carried = _cumulate(lane, funding, known.paid or {})
    path = Path(known.folder) / _piece_name(known.pieces)
    pa.parquet.write_table(
        rows.append_column(PAID, pa.array(paid)),
        path,
        compression="zstd",
        compression_level=1,
        row_group_size=_GROUP_ROWS,
    )
    frames = pc.min_max(rows["env_frame"])
    return replace(
        known,
        source_bytes=end,
        seam=seam,
        pieces=known.pieces + 1,
        rows=known.rows + len(rows),
        first_frame=frames["min"].as_py() if not known.rows else known.first_frame,
        last_frame=frames["max"].as_py(),
        paid=(known.paid or {}) | carried,
        markets=sorted({*known.markets, *pc.unique(rows["asset"]).to_pylist()}),
    )


def _cumulate(
    lane: np.ndarray, funding: np.ndarray, before: dict[str, float]
) -> tuple[np.ndarray, dict[str, float]]:
    """Funding that a lane has paid up to and with each row, and after the last one of each lane.

    Args:
        lane: int64 [n], sorted.
        funding: float64 [n], of the row.
        before: of the rows before these, by lane.
    """
    total = np.cumsum(funding)
    first = np.flatnonzero(np.diff(lane, prepend=lane[0] - 1))
    start = np.array([before.get(str(number), 0.0) for number in lane[first]])
    base = start - (total[first] - funding[first])
    lengths = np.diff(first, append=len(lane))
    paid = total + np.repeat(base, lengths)
    last = first + lengths - 1
    return paid, {
        str(number): float(paid[row]) for number, row in zip(lane[first], last, strict=True)
    }


def _seam(file: Any, end: int) -> str:
    """Hash of the bytes before a place of a file; of fewer bytes where it is shorter."""
    file.seek(max(0, end - _SEAM))
    return hashlib.sha256(file.read(min(end, _SEAM))).hexdigest() if end else ""


def _piece_name(number: int) -> str:
    return f"piece-{number:06d}.parquet"


def _write_index(folder: Path, known: TraceIndex) -> None:
    write_file(folder / _INDEX, _encoded(known))


def _encoded(known: TraceIndex) -> bytes:
    return json.dumps(asdict(known)).encode()


def cache_folder(cache: Path, run: str, trace: str) -> Path:
    """Where the index of a run's trace is kept."""
    return cache / hashlib.sha256(f"{run}/{trace}".encode()).hexdigest()[:24]
