"""The rows of a trace file, chunk by chunk, and what is said of one that does not add up."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import csv, parquet

_CHUNK_BYTES = 2 << 20  # of CSV, some 7,000 rows
_CHUNK_ROWS = 7_000


class Row(NamedTuple):
    """One line of a trace, its columns in order; None is an empty cell, times are ns since 1970."""

    run_id: str
    split: str
    asset: str
    env_frame: int
    lane: int
    episode: int
    step: int
    timestamp: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    direction: int
    size: int
    stop_loss: int
    take_profit: int
    direction_value: int
    risk_multiple: float
    stop_distance_bps: float
    take_profit_r: float
    log_prob: float | None
    state_value: float | None
    open_exit_reason: str | None
    open_exit_units: float | None
    open_exit_price: float | None
    requested_units: float | None
    entry_units: float | None
    entry_fill_price: float | None
    exit_reason: str | None
    exit_units: float | None
    exit_price: float | None
    fee: float
    slippage_cost: float
    funding: float
    cash: float
    position: float
    entry_price: float | None
    stop_price: float | None
    take_profit_price: float | None
    equity: float
    drawdown: float
    reward: float
    terminated: bool
    truncated: bool


_KINDS = {str: pa.string(), int: pa.int64(), bool: pa.bool_()}
_SCHEMA = {
    name: pa.timestamp("ns", "UTC")
    if name == "timestamp"
    else _KINDS.get(kind, pa.string() if kind == str | None else pa.float64())
    for name, kind in Row.__annotations__.items()
}
OUTCOME = Row._fields[Row._fields.index("open_exit_reason") : Row._fields.index("reward") + 1]
OUTCOME_SLICE = slice(Row._fields.index(OUTCOME[0]), Row._fields.index(OUTCOME[-1]) + 1)


@dataclass(frozen=True)
class Finding:
    """The first thing that is wrong with a trace.

    Attributes:
        row: number of the row in the file, 1 is the first after the header.
        lane: of the row.
        time_ns: opening time of its bar.
        column: the first one, in the order of the bar's events, that is wrong.
        expected: what the rules give.
        found: what the row says.
        rule: its id in ``docs/simulator.md``.
        why: the numbers behind it.
    """

    row: int
    lane: int | None
    time_ns: int | None
    column: str
    expected: Any
    found: Any
    rule: str
    why: str = ""


class DoesNotAddUp(Exception):  # noqa: N818 - a verdict on a file, not an error of the program
    """Raised with the `Finding` at the first row that cannot be explained."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding)
        self.finding = finding


def read_sidecar(path: Path) -> dict[str, Any]:
    """The JSON beside a trace.

    Raises:
        OSError: if there is none, or no trace.
        ValueError: if it is no JSON object with parameters, or these are not those of all rows.
    """
    path.stat()  # of a name that is mistyped the trace is what a person knows
    beside = path.with_suffix(".json")
    try:
        about = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{beside}: no JSON, or cut off: {error}") from error
    missing = [k for k in ("simulator", "interval_s", "data") if k not in about]
    if missing:
        raise ValueError(f"{beside}: no key {missing[0]!r}: not what lies beside a trace")
    if about.get("changed"):
        raise ValueError(
            f"{path}: from frame {about['changed'][0]:,} on the run was another (resume=changed): "
            "the rows before it were played under other parameters than those beside the trace, "
            "or in episodes that were left there"
        )
    return dict(about)


def read_chunks(path: Path) -> Iterator[list[list[Any]]]:
    """The columns of some thousand rows at a time, as lists of plain values.

    Raises:
        OSError: if there is no such file.
        ValueError: if its columns are not those of a trace (R-TRACE-1), or a cell cannot be read.
    """
    for batch in _batches(path):
        columns = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name == "timestamp":
                column = column.cast(pa.timestamp("ns", "UTC")).cast(pa.int64())
            columns.append(column.to_pylist())
        yield columns


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    if path.suffix == ".parquet":
        file = parquet.ParquetFile(path)
        _require_columns(path, file.schema_arrow.names)
        yield from file.iter_batches(_CHUNK_ROWS)
        return
    with path.open(encoding="utf-8") as file:
        _require_columns(path, file.readline().rstrip("\r\n").split(","))
    convert = csv.ConvertOptions(column_types=_SCHEMA, strings_can_be_null=True, null_values=[""])
    read = csv.ReadOptions(block_size=_CHUNK_BYTES, use_threads=False)
    with csv.open_csv(path, read_options=read, convert_options=convert) as reader:
        yield from reader


def _require_columns(path: Path, names: list[str]) -> None:
    if tuple(names) != Row._fields:
        wrong = set(Row._fields) ^ set(names)
        what = f"{', '.join(sorted(wrong))} missing or unknown" if wrong else "not in their order"
        raise ValueError(f"{path}: columns are not those of a trace (R-TRACE-1): {what}")
