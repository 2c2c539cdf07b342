"""A zip archive of Binance's candles: its checksum, and the bars in it.

An archive is a stranger's file: only the one member that it must hold is looked at, nothing is
written anywhere, and nothing is unpacked beyond the size that so many bars can have.
"""

import hashlib
import io
import lzma
import re
import zipfile
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from envs.bar_files import OHLCV, plain_bars

# Open time, the five numbers, close time, and five more that are not read.
_COLUMNS = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "trades",
    "taker_buy_volume", "taker_buy_quote_volume", "ignore",
)  # fmt: skip
_KEPT = _COLUMNS[:6]
# A row of twelve long numbers has about 180 characters; and archives hold some rows twice.
_BYTES_A_BAR = 600
_SPARE_BYTES = 1 << 16
# Times from here on are microseconds, as `envs.bar_files` tells them apart.
_FIRST_US = 1e14
# What reading a damaged archive raises; the last two those packed with bz2 or LZMA.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError),
    *(OSError, lzma.LZMAError),
)


def size_limit(bars: int) -> int:
    """Most bytes that the text of so many bars can have; packed they have less."""
    return bars * _BYTES_A_BAR + _SPARE_BYTES


def verify(archive: bytes, checksum: bytes, name: str) -> str:
    """Compare an archive with the checksum beside it, ``<sha256>  <name>``.

    Returns:
        The SHA-256 of the archive.

    Raises:
        ValueError: if the checksum is none, is of another file, or is not that of the archive.
    """
    found = re.fullmatch(rb"\s*([0-9a-fA-F]{64})\s+\*?(\S+)\s*", checksum)
    if not found or found[2] != name.encode():
        raise ValueError(f"{name}.CHECKSUM: no checksum of this file: {checksum[:100]!r}")
    sha256 = hashlib.sha256(archive).hexdigest()
    if found[1].decode().lower() != sha256:
        raise ValueError(
            f"{name}: wrong checksum: it has {sha256[:16]}…, {found[1].decode()[:16]}… is promised"
        )
    return sha256


def unpack(archive: bytes, name: str, limit: int) -> bytes:
    """The text in an archive: its only member, of the archive's own name.

    Args:
        archive: the bytes of ``<name>.zip``.
        name: of the archive, with its ``.zip``.
        limit: most bytes that make sense.

    Raises:
        ValueError: for an archive that is damaged, encrypted, too large when unpacked, or holds
            anything else than ``<name>.csv``.
    """
    wanted = name.removesuffix(".zip") + ".csv"
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            names = opened.namelist()
            if names != [wanted]:
                raise ValueError(f"{name}: holds {names[:3]} instead of {wanted}")
            with opened.open(wanted) as member:
                text = member.read(limit + 1)
    except _DAMAGE as error:
        raise ValueError(f"{name}: damaged: {error}") from error
    if len(text) > limit:
        raise ValueError(f"{name}: more than {limit:,} bytes when unpacked, which makes no sense")
    return text


def parse_klines(text: bytes, source: str, interval_s: int) -> tuple[pd.DataFrame, int]:
    """The bars in the text of an archive, with or without a header, times in ms or us.

    When the exchange went down, some bars were cut: they close before their time, and the bars
    after them open at odd seconds (binance-public-data #14 and #77). These are left out.

    Args:
        text: comma-separated rows of twelve values.
        source: name of the file, for messages.
        interval_s: length of a whole bar.

    Returns:
        The whole bars as `envs.bar_files.read_bars` has them, and the number of those cut.

    Raises:
        ValueError: for text that is no table of bars, naming the row; for a header that has them
            in another order.
    """
    has_header = text.lstrip(b"\xef\xbb\xbf \"'")[:1].isalpha()
    if has_header:
        _require_order(text.partition(b"\n")[0].decode("utf-8", "replace"), source)
    options = csv.ReadOptions(
        column_names=list(_COLUMNS), skip_rows=int(has_header), use_threads=False
    )
    try:
        table = csv.read_csv(io.BytesIO(text), read_options=options)
    except pa.ArrowException as error:
        raise ValueError(f"{source}: cannot be read: {' '.join(str(error).split())}") from error
    bars = plain_bars(table.select(list(_KEPT)).to_pandas(), source)
    whole = _are_whole(table, interval_s)
    return bars[whole], int((~whole).sum())


def _require_order(header: str, source: str) -> None:
    """Refuse a header that says that a number stands in another place than its own."""
    names = [name.strip(" \"'\r").lower() for name in header.split(",")]
    for name in OHLCV:
        place = _COLUMNS.index(name)
        if name in names and names.index(name) != place:
            raise ValueError(
                f"{source}: column {names.index(name) + 1} is {name!r}, which is to be column "
                f"{place + 1}: {header.strip()[:100]!r}"
            )


def _are_whole(table: pa.Table, interval_s: int) -> np.ndarray:
    """Bool [N], whether a bar closes one interval after it opens, to the second."""
    opens, closes = (
        pd.to_numeric(table[name].to_pandas(), errors="coerce").to_numpy(np.float64)
        for name in ("open_time", "close_time")
    )
    a_second = np.where(opens < _FIRST_US, 1e3, 1e6)
    length_s = (closes + 1.0 - opens) / a_second
    return np.abs(length_s - interval_s) < min(1.0, interval_s / 2)
