"""Files that Arrow tables are appended to: CSV in whole lines, or Parquet."""

import contextlib
import os
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from envs.checks import require

_CSV = pa.csv.WriteOptions(include_header=False, quoting_style="none")


class TraceFile(Protocol):
    """A file that grows by tables of one schema."""

    def append(self, rows: pa.Table) -> None:
        """Write the rows after those that are there."""

    def close(self) -> None:
        """Make the file durable."""


def open_trace_file(path: Path, schema: pa.Schema) -> TraceFile:
    """A new file at `path`, replacing what is there; the suffix says which kind.

    Raises:
        ValueError: for a suffix other than ``.csv`` and ``.parquet``.
        OSError: if the file cannot be created.
    """
    suffixes = (".csv", ".parquet")
    require(path.suffix in suffixes, "trace file", str(path), f"a name in {' or '.join(suffixes)}")
    return CsvFile(path, schema) if path.suffix == ".csv" else ParquetFile(path, schema)


class CsvFile:
    """Comma-separated lines. Floats are the shortest decimals that read back as the same double.

    Cells are never quoted: the texts that reach this file hold nothing that would need it, and
    Arrow refuses one that does. An empty cell is a null. Times are ISO 8601.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._size = 0
        # Unbuffered: the file's size is then known after every write, whatever goes wrong.
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115
        self._write((",".join(schema.names) + "\n").encode())

    def append(self, rows: pa.Table) -> None:
        """Write the rows; if the disk refuses some, the file ends with the last whole line.

        Raises:
            OSError: naming the file.
        """
        lines = pa.BufferOutputStream()
        pa.csv.write_csv(_with_iso_times(rows), lines, _CSV)
        self._write(memoryview(lines.getvalue()))

    def close(self) -> None:
        """Flush to the disk and close."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def _write(self, data: bytes | memoryview) -> None:
        done = 0
        try:
            while done < len(data):
                done += self._file.write(data[done:])
        except OSError as error:
            whole = bytes(data[:done]).rfind(b"\n") + 1
            os.ftruncate(self._file.fileno(), self._size + whole)
            self._file.seek(0, os.SEEK_END)
            message = f"{error.strerror}; rows are missing, the file ends with its last whole line"
            raise OSError(error.errno, message, str(self._path)) from error
        self._size += done


class ParquetFile:
    """Parquet, a row group for every table; not readable before it is closed."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pa.parquet.ParquetWriter(path, schema, compression="zstd")

    def append(self, rows: pa.Table) -> None:
        """Write the rows as one row group."""
        self._writer.write_table(rows)

    def close(self) -> None:
        """Write the footer and close."""
        self._writer.close()


def _with_iso_times(rows: pa.Table) -> pa.Table:
    """Times as text like ``2025-01-31T23:45:00Z``, with fractions only where there are any."""
    for i, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            times = rows.column(i).combine_chunks().dictionary_encode()
            texts = pa.DictionaryArray.from_arrays(times.indices, _iso(times.dictionary))
            rows = rows.set_column(i, field.name, texts.cast(pa.string()))
    return rows


def _iso(times: pa.Array) -> pa.Array:
    with contextlib.suppress(pa.ArrowInvalid):  # a fraction of a second would be lost
        times = times.cast(pa.timestamp("s", "UTC"))
    return pa.compute.strftime(times, format="%Y-%m-%dT%H:%M:%SZ")
