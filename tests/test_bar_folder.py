"""A folder of months: loaded like one file, and refused when it is not what was written."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from envs.bar_folder import FolderManifest, read_folder
from envs.bars import load_bars
from envs.data_config import DataConfig
from pipelines.auditing.price_file import prices_sha256, read_prices

MINUTE_NS = 60 * 10**9


def bars(start, rows, step="min"):
    """A walk of one-minute bars."""
    close = 100.0 + np.arange(rows) % 7
    times = pd.date_range(start, periods=rows, freq=step, tz="UTC")
    values = {"open": close, "high": close + 1, "low": close - 1, "close": close}
    return pd.DataFrame({"timestamp": times, **values, "volume": 2.0})


def write(folder, *frames, **changes):
    """Writes months as a download does; `changes` are made to the last entry of the manifest."""
    folder.mkdir(exist_ok=True)
    months = []
    for frame in frames:
        month = frame["timestamp"].iloc[0].strftime("%Y-%m")
        frame.to_parquet(folder / "new")
        digest = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
        file = f"{month}.{digest[:8]}.parquet"
        (folder / "new").rename(folder / file)
        first, last = (frame["timestamp"].iloc[i].isoformat() for i in (0, -1))
        start = pd.Timestamp(f"{month}-01", tz="UTC")
        months.append(
            {
                **{"month": month, "file": file, "rows": len(frame), "sha256": digest},
                **{"first": first, "last": last, "start": start.isoformat()},
                "end": (start + pd.offsets.MonthBegin(1)).isoformat(),
                **{"origin": ["a test"], "found": {}},
            }
        )
    months[-1] |= changes
    about = {"source": "ccxt", "exchange": "kraken", "symbol": "BTC/USD", "timeframe": "1m"}
    manifest = {"format": 1, **about, "interval_s": 60, "months": months}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def load(folder, **config):
    return load_bars(DataConfig(path=str(folder), **config))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "btc"


JANUARY, FEBRUARY = bars("2024-01-31T22:00", 120), bars("2024-02-01", 200)
MARCH = bars("2024-03-05", 100)


def test_a_folder_is_loaded_as_the_same_bars_in_one_file_are(folder, tmp_path):
    pd.concat([JANUARY, FEBRUARY, MARCH]).to_parquet(tmp_path / "one.parquet")
    one = load(tmp_path / "one.parquet")
    found = load(write(folder, JANUARY, FEBRUARY, MARCH))
    np.testing.assert_array_equal(found.time_ns, one.time_ns)
    np.testing.assert_array_equal(found.ohlcv, one.ohlcv)
    np.testing.assert_array_equal(found.segment, one.segment)
    assert found.report == one.report
    assert found.source_name == "btc"


def test_months_that_touch_are_one_segment_and_a_missing_month_is_a_hole(folder):
    found = load(write(folder, JANUARY, FEBRUARY, MARCH))
    assert found.segment.tolist() == [0] * 320 + [1] * 100
    assert found.report.segments == 2


def test_files_that_the_manifest_does_not_name_are_not_read(folder):
    write(folder, JANUARY, FEBRUARY)
    MARCH.to_parquet(folder / "2024-03.00000000.parquet")
    assert load(folder).report.bars == 320


def test_the_hash_is_that_of_the_months_however_often_they_were_fetched(folder, tmp_path):
    first = load(write(folder, JANUARY, FEBRUARY))
    again = load(write(tmp_path / "again", JANUARY, FEBRUARY, origin=["another day"]))
    more = load(write(tmp_path / "more", JANUARY, FEBRUARY, MARCH))
    assert first.source_sha256 == again.source_sha256
    assert first.source_sha256 != more.source_sha256


def test_the_interval_is_the_manifest_s_even_where_most_bars_are_missing(folder):
    sparse = FEBRUARY.iloc[[0, 1, 3, 6, 10, 15, 21, 28, 36]]
    assert load(write(folder, sparse), fill_gap_bars=0).interval_s == 60.0
    with pytest.raises(ValueError, match=r"data.interval='15min' .* the folder are 1m long"):
        load(folder, interval="15min")
    assert load(folder, interval="60s").interval_s == 60.0


def test_the_audit_reads_the_same_bars_and_the_same_hash_by_itself(folder):
    found = load(write(folder, JANUARY, FEBRUARY, MARCH))
    prices = read_prices(folder, MINUTE_NS, fill_gap_bars=3)
    np.testing.assert_array_equal(prices.time_ns, found.time_ns)
    np.testing.assert_array_equal(prices.ohlcv, found.ohlcv)
    assert prices_sha256(folder) == found.source_sha256


# What is refused.


def test_a_folder_without_a_manifest_is_refused_by_its_key(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data.path='.*' is a folder without a manifest"):
        load(tmp_path)


def test_a_folder_without_bars_is_refused(folder):
    write(folder, JANUARY)
    text = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**text, "months": []}))
    with pytest.raises(ValueError, match="btc: the folder has no bars"):
        load(folder)


def test_a_month_that_was_changed_or_is_gone_is_refused_by_name(folder):
    write(folder, JANUARY, FEBRUARY)
    file = sorted(folder.glob("2024-02*"))[0]
    blob = bytearray(file.read_bytes())
    blob[100] ^= 1
    file.write_bytes(blob)
    with pytest.raises(ValueError, match=r"2024-02\..*parquet: damaged or changed, its sha256"):
        load(folder)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"2024-02\..*parquet: missing"):
        load(folder)
    sorted(folder.glob("2024-01*"))[0].rename(folder / "moved")
    file.symlink_to(folder / "moved")
    with pytest.raises(FileNotFoundError, match="missing, or a link"):
        load(folder)


def changed(row, **values):
    frame = FEBRUARY.copy()
    for name, value in values.items():
        frame.loc[row - 1, name] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (changed(7, timestamp=FEBRUARY["timestamp"][5]), "row 7 .* not after that of the row"),
        (changed(7, timestamp=FEBRUARY["timestamp"][4]), "row 7 .* not after that of the row"),
        (changed(200, timestamp=MARCH["timestamp"][0]), r"row 200 .* outside 2024-02-01T.* \.\. "),
        (
            changed(7, timestamp=pd.Timestamp("2024-02-01T00:06:01", tz="UTC")),
            "row 7 .* grid of 60",
        ),
        (changed(7, low=0.0), "row 7 .* a price is not above 0"),
        (changed(7, high=1.0), "row 7 .* low is above high"),
        (changed(7, close=np.nan), "row 7 .* a value is missing"),
    ],
)
def test_bars_that_no_download_writes_are_refused_with_file_and_row(folder, frame, message):
    with pytest.raises(ValueError, match=rf"^2024-02\.[0-9a-f]+\.parquet, {message}"):
        load(write(folder, JANUARY, frame))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 7}, r"200 rows, but manifest.json says 7"),
        ({"rows": 0}, r"rows=0"),
        ({"rows": "200"}, r"rows='200' is of the wrong type"),
        ({"file": "../2024-02.00000000.parquet"}, r"file='\.\./"),
        ({"file": "/etc/passwd"}, r"file='/etc/passwd'"),
        ({"file": "2024-01.00000000.parquet"}, r"file='2024-01"),
        ({"month": "2024-13"}, r"month='2024-13'"),
        ({"sha256": "00"}, r"sha256='00'"),
        ({"start": "2024-02-01"}, r"'2024-02-01' is not a time with a zone"),
        ({"end": "soon"}, r"manifest.json: not a manifest of bars"),
        ({"end": "2024-01-01T00:00:00+00:00"}, r"is not before end="),
        ({"extra": 1}, r"the keys .* are needed"),
    ],
)
def test_a_manifest_with_an_entry_that_cannot_be_is_refused(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        load(write(folder, JANUARY, FEBRUARY, **changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a manifest of bars"),
        ("[" * 100_000, "not a manifest of bars"),
        ("[]", "format 1 is needed"),
        ('{"format": 2, "months": []}', "format 1 is needed"),
        ('{"format": 1}', "a list of months"),
        ('{"format": 1, "months": []}', "the keys .* are needed"),
        ('{"format": 1, "months": [7]}', "are needed|is no object"),
    ],
)
def test_a_manifest_of_something_else_is_refused(folder, text, message):
    folder.mkdir()
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_folder(folder)


def test_months_out_of_order_or_twice_are_refused(folder):
    for frames in [(FEBRUARY, JANUARY), (JANUARY, JANUARY)]:
        with pytest.raises(ValueError, match="the months are not in order"):
            load(write(folder, *frames))


def test_a_manifest_is_read_as_it_was_written(folder):
    manifest = FolderManifest.read(write(folder, JANUARY, FEBRUARY))
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    assert FolderManifest.read(folder) == manifest
