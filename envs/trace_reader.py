"""A finished trace: its rows for pandas, and as a smaller file."""

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from envs.durable import UNFINISHED, sync_folder
from envs.trace_schema import COLUMNS, REASON_COLUMNS, SCHEMA

# An empty cell is a null, and nothing else is: a run may be called NA.
_AS_WRITTEN = pa.csv.ConvertOptions(
    column_types={field.name: field.type for field in SCHEMA},
    null_values=[""],
    strings_can_be_null=True,
)


def pack_trace(path: Path) -> Path:
    """Replace a finished CSV trace by the Parquet file of the same rows, whose path is returned.

    The CSV file goes only when the other one is on the disk.
    """
    packed = path.with_suffix(".parquet")
    unfinished = packed.with_name(f".{packed.name}{UNFINISHED}")
    with (
        pa.csv.open_csv(path, convert_options=_AS_WRITTEN) as rows,
        pa.parquet.ParquetWriter(unfinished, SCHEMA, compression="zstd") as writer,
    ):
        for batch in rows:
            writer.write_batch(batch)
    with open(unfinished, "rb") as file:
        os.fsync(file.fileno())
    unfinished.rename(packed)
    sync_folder(packed.parent)
    path.unlink()
    return packed


def read_trace(path: str | Path) -> pd.DataFrame:
    """The rows of a trace file as `to_frame` has them; floats are the very ones that were written.

    Raises:
        ValueError: for a file without the columns of a trace, or a damaged one.
    """
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            rows = pa.parquet.read_table(path)
        else:
            rows = pa.csv.read_csv(path, convert_options=_AS_WRITTEN)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: damaged, or cut off: {error}") from error
    if tuple(rows.column_names) != COLUMNS:
        missing = [name for name in COLUMNS if name not in rows.column_names]
        raise ValueError(f"{path}: not a trace, or not in order; columns missing: {missing}")
    return to_frame(rows)


def to_frame(rows: pa.Table) -> pd.DataFrame:
    """Rows with the columns of `SCHEMA` for pandas.

    Empty numbers are NaN, empty reasons the empty string, times are UTC.
    """
    return rows.to_pandas().fillna(dict.fromkeys(REASON_COLUMNS, ""))
