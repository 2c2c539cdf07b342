"""Archives of candles: what is read, and how a hostile one is refused."""

import hashlib
import io
import zipfile

import numpy as np
import pytest

from local_exchange import pack
from pipelines.market_data.kline_archive import parse_klines, size_limit, unpack, verify

NAME = "BTCUSDT-1m-2025-01.zip"
ROW = "1735689600000000,10,12,9,11,5,1735689659999999,55,9,2,22,0"
FIRST = 1735689600000000
LIMIT = size_limit(100)


GOOD = pack({"BTCUSDT-1m-2025-01.csv": ROW})


def test_an_archive_is_what_its_checksum_says():
    sha256 = hashlib.sha256(b"bars").hexdigest()
    assert verify(b"bars", f"{sha256}  {NAME}\n".encode(), NAME) == sha256
    assert verify(b"bars", f"{sha256.upper()} *{NAME}".encode(), NAME) == sha256


@pytest.mark.parametrize(
    ("checksum", "message"),
    [
        (b"0" * 64 + b"  " + NAME.encode(), "wrong checksum"),
        (b"0" * 63 + b"  " + NAME.encode(), "no checksum of this file"),
        (hashlib.sha256(b"bars").hexdigest().encode() + b"  other.zip", "no checksum of this"),
        (b"<html>please log in</html>", "no checksum of this file"),
        (b"", "no checksum of this file"),
    ],
)
def test_an_archive_with_another_checksum_is_refused(checksum, message):
    with pytest.raises(ValueError, match=rf"^{NAME}.*{message}"):
        verify(b"bars", checksum, NAME)


def test_the_only_member_is_unpacked():
    assert unpack(GOOD, NAME, LIMIT) == ROW.encode()


def encrypted():
    """The archive with the flag that says that its member is encrypted."""
    blob = bytearray(GOOD)
    blob[6] |= 1
    at = blob.index(b"PK\x01\x02")
    blob[at + 8] |= 1
    return bytes(blob)


def flipped():
    """The archive with one bit of its text changed."""
    blob = bytearray(GOOD)
    blob[45 + len("BTCUSDT-1m-2025-01.csv")] ^= 4
    return bytes(blob)


def damaged(packer):
    """An archive packed otherwise than with deflate, a byte in its middle changed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packer) as opened:
        opened.writestr("BTCUSDT-1m-2025-01.csv", ROW)
    blob = bytearray(file.getvalue())
    blob[len(blob) // 2 - 20] ^= 255
    return bytes(blob)


def liar():
    """A zip bomb whose header says that it unpacks to a few bytes."""
    blob = bytearray(pack({"BTCUSDT-1m-2025-01.csv": b"0" * 50_000_000}))
    small = (100).to_bytes(4, "little")
    at = blob.index(b"PK\x01\x02")
    blob[22:26], blob[at + 24 : at + 28] = small, small
    return bytes(blob)


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"", "damaged"),
        (b"PK\x03\x04 and then nothing", "damaged"),
        (GOOD[:-30], "damaged"),
        (flipped(), "damaged"),
        (damaged(zipfile.ZIP_BZIP2), "damaged"),
        (damaged(zipfile.ZIP_LZMA), "damaged"),
        (encrypted(), "damaged: .*(encrypted|password)"),
        (liar(), "damaged|when unpacked"),
        (pack({}), r"holds \[\] instead of BTCUSDT-1m-2025-01.csv"),
        (pack({"BTCUSDT-1m-2025-01.csv": b"0" * 50_000_000}), "when unpacked"),
        (pack({"../../BTCUSDT-1m-2025-01.csv": ROW}), r"holds \['../../"),
        (pack({"/etc/passwd": ROW}), r"holds \['/etc/passwd'\]"),
        (pack({"BTCUSDT-1m-2025-01.csv": ROW, "more.csv": ROW}), "holds"),
        (pack({"BTCUSDT-1m-2025-02.csv": ROW}), "holds"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_or_hostile_archive_is_refused_by_name(archive, message):
    with pytest.raises(ValueError, match=rf"^{NAME}: .*{message}"):
        unpack(archive, NAME, LIMIT)


@pytest.mark.parametrize(
    "text",
    [
        ROW,
        ROW + "\n",
        ROW.replace("00000000,10", "00000,10").replace("59999999,55", "59999,55"),
        "open_time,open,high,low,close,volume,close_time,quote_volume,count,a,b,ignore\n" + ROW,
        "﻿Open time,O,H,L,C,V,c,q,n,a,b,i\n" + ROW,
    ],
)
def test_bars_are_read_with_and_without_a_header_in_ms_and_us(text):
    bars, cut = parse_klines(text.encode(), "x.csv", 60)
    assert cut == 0
    assert bars["time_ns"].tolist() == [1735689600 * 10**9]
    assert bars.iloc[0, 2:].tolist() == [10.0, 12.0, 9.0, 11.0, 5.0]


def test_milliseconds_may_turn_into_microseconds_within_a_month():
    text = f"1735689540000,10,12,9,11,5,1735689599999,55,9,2,22,0\n{ROW}"
    bars, _ = parse_klines(text.encode(), "x.csv", 60)
    assert np.diff(bars["time_ns"]).tolist() == [60 * 10**9]


def test_numbers_are_read_to_the_last_bit():
    values = np.random.default_rng(0).random(500) * 1e5
    rows = [
        f"{FIRST + i},1,1,1,{v!r},0,{FIRST + i + 59_999_999},0,0,0,0,0"
        for i, v in enumerate(values)
    ]
    text = "\n".join(rows).replace("np.float64(", "").replace(")", "").encode()
    assert (parse_klines(text, "x.csv", 60)[0]["close"].to_numpy() == values).all()


def test_a_bar_that_closes_before_its_time_is_left_out_and_counted():
    """As in February 2018: a bar is cut, and the next ones open at odd seconds."""
    text = "\n".join(
        [
            "1518049560000,10,12,9,11,5,1518049619999,0,0,0,0,0",
            "1518049620000,10,12,9,11,5,1518049634788,0,0,0,0,0",
            "1518168494789,10,12,9,11,5,1518168554788,0,0,0,0,0",
            "1518168554789,10,12,9,11,5,,0,0,0,0,0",
        ]
    )
    bars, cut = parse_klines(text.encode(), "x.csv", 60)
    assert (cut, bars.index.tolist()) == (2, [1, 3])


@pytest.mark.parametrize("interval_s", [1, 60, 3600, 86_400])
def test_a_whole_bar_of_any_length_is_kept(interval_s):
    close = FIRST + interval_s * 1_000_000 - 1
    text = f"{FIRST},10,12,9,11,5,{close},0,0,0,0,0"
    assert parse_klines(text.encode(), "x.csv", interval_s)[1] == 0
    assert parse_klines(text.encode(), "x.csv", 2 * interval_s)[1] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("<html>please log in</html>", "cannot be read"),
        (ROW + "\n1735689660000000,10,12", r"cannot be read: .*Row #2: Expected 12 columns, got 3"),
        (ROW.replace(",10,", ",ten,"), r"row 1 \(2025-01-01T00:00:00\+00:00\): open='ten' is not"),
        (f"{ROW}\n{ROW}\nsoon{ROW[16:]}", r"row 3: open_time='soon' is not a time"),
        (
            f"open_time,close,high,low,open,volume\n{ROW}",
            r"column 5 is 'open', .* column 2: 'open_",
        ),
        (f"\ufeffTime,Open,High,Low,Volume ,Close\n{ROW}", r"column 6 is 'close', .* column 5: "),
        (ROW + "\n" + "9e30" + ROW[16:], r"row 2: open_time='9e.30' is not a time"),
    ],
)
def test_text_that_is_no_table_of_bars_is_refused_with_its_row(text, message):
    with pytest.raises(ValueError, match=rf"(?s)^x.csv.*{message}"):
        parse_klines(text.encode(), "x.csv", 60)
