"""The CSV file that Arrow tables are appended to, in whole lines."""

import contextlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

_CSV = pa.csv.WriteOptions(include_header=False, quoting_style="none")


class CsvFile:
    """Comma-separated lines; floats are the shortest decimals that read back as the same double.

    Cells are never quoted: the texts that reach this file hold nothing that would need it, and
    Arrow refuses one that does. An empty cell is a null. Times are ISO 8601.

    Args:
        path: of the file; one that is there is replaced.
        schema: of the rows.
        keep: go on in the file that is there, after so many bytes; the rest is cut off.

    Attributes:
        size: bytes of the whole lines written so far.

    Raises:
        ValueError: if the file is a link, or to be gone on with and no trace, or too short.
        OSError: if the file cannot be created, or opened again.
    """

    def __init__(self, path: Path, schema: pa.Schema, keep: int | None = None) -> None:
        if path.is_symlink():
            raise ValueError(f"{path}: a symbolic link; a trace is written to a plain file")
        self._path, self.size = path, 0
        header = (",".join(schema.names) + "\n").encode()
        # Unbuffered: the file's size is then known after every write, whatever goes wrong.
        if keep is None:
            self._file = open(path, "wb", buffering=0)  # noqa: SIM115
            self._write(header)
        else:
            self._file = open(path, "r+b", buffering=0)  # noqa: SIM115
            self.size = keep
            try:
                self._cut(header)
            except ValueError:
                self._file.close()
                raise

    def _cut(self, header: bytes) -> None:
        """Leave the lines that are wanted of a file that went on beyond them."""
        there = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        if self._file.read(len(header)) != header:
            raise ValueError(f"{self._path}: not a trace of this program, its header is another")
        if there < self.size:
            raise ValueError(
                f"{self._path}: {there} bytes long, and the checkpoint counts on {self.size}"
            )
        self._file.truncate(self.size)
        self._file.seek(self.size)

    def append(self, rows: pa.Table) -> None:
        """Write the rows; if the disk refuses some, the file ends with the last whole line.

        Raises:
            OSError: naming the file.
        """
        lines = pa.BufferOutputStream()
        pa.csv.write_csv(_with_iso_times(rows), lines, _CSV)
        self._write(memoryview(lines.getvalue()))

    def sync(self) -> None:
        """Make durable what has been written."""
        os.fsync(self._file.fileno())

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
            os.ftruncate(self._file.fileno(), self.size + whole)
            self._file.seek(0, os.SEEK_END)
            message = f"{error.strerror}; rows are missing, the file ends with its last whole line"
            raise OSError(error.errno, message, str(self._path)) from error
        self.size += done


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
