"""What a download may be told, and what every mistake is answered with."""

import pytest

from pipelines.config import compose_config, load_config
from pipelines.market_data.download_config import DownloadConfig

NOON_S = 1704110400  # 2024-01-01T12:00


def told(*words):
    return compose_config("download", words)


def test_the_shortest_command_asks_for_minutes_of_bitcoin_from_the_archive():
    cfg = told("start=2024-01-01")
    assert (cfg.source, cfg.symbol, cfg.timeframe) == ("binance_vision", "BTC/USDT", "1m")
    assert (cfg.exchange_name, cfg.interval_s, cfg.end_ns) == ("binance", 60, None)
    assert str(cfg.folder) == "bars/binance_BTC-USDT_1m"


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("2024-01-01", NOON_S - 43_200),
        ("2024-01-01T12:00", NOON_S),
        ("2024-01-01 12:00:00Z", NOON_S),
        ("2024-01-01T13:00+01:00", NOON_S),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text, second):
    assert told(f"start={text}").start_ns == second * 10**9


@pytest.mark.parametrize(
    ("timeframe", "interval_s"), [("1s", 1), ("15m", 900), ("4h", 14_400), ("1d", 86_400)]
)
def test_a_timeframe_has_a_length(timeframe, interval_s):
    assert told("start=2024-01-01", f"timeframe={timeframe}").interval_s == interval_s


def test_a_market_s_name_makes_a_name_for_its_folder():
    cfg = told("start=2024-01-01", "source=ccxt", "exchange=okx", "symbol=BTC/USDT:USDT")
    assert str(cfg.folder) == "bars/okx_BTC-USDT-USDT_1m"
    assert str(told("start=2024-01-01", "out=x/y").folder) == "x/y"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "start=None is not allowed: a date in UTC"),
        (["start=yesterday"], "start='yesterday' is not allowed: a time such"),
        (["start=01/02/2024"], "start='01/02/2024'"),
        (["start=2024-13-01"], "start='2024-13-01'"),
        (["start=2024-01-31/2024-02-01"], "start='2024-01-31/2024-02-01'"),
        (["start=1969-01-01"], "start='1969-01-01' .* from 1970 to 2099"),
        (["start=2024-01-01", "end=2024-01-01"], "end='2024-01-01' .* after start=2024-01-01"),
        (["start=2024-01-01", "end=2023-01-01"], "end='2023-01-01' .* after start=2024-01-01"),
        (["start=2024-01-01", "source=yahoo"], "source='yahoo' .* binance_vision, ccxt"),
        (["start=2024-01-01", "source=ccxt"], "exchange=None .* exchange=kraken"),
        (["start=2024-01-01", "source=ccxt", "exchange=__class__"], "exchange='__class__'"),
        (["start=2024-01-01", "exchange=kraken"], "exchange='kraken' .* unset without source"),
        (["start=2024-01-01", "symbol=../../BTC"], "symbol='../../BTC'"),
        (["start=2024-01-01", "symbol="], "symbol=''"),
        (["start=2024-01-01", "symbol=BTC?x=1"], "symbol='BTC"),
        (["start=2024-01-01", "timeframe=1 minute"], "timeframe='1 minute'"),
        (["start=2024-01-01", "timeframe=7m"], "timeframe='7m' .* goes into a day"),
        (["start=2024-01-01", "timeframe=1w"], "timeframe='1w'"),
        (["start=2024-01-01", "timeframe=2d"], "timeframe='2d'"),
        (["start=2024-01-01", "url=file:///etc"], "url='file:///etc' .* http:// or https://"),
        (["start=2024-01-01", "url=data.binance.vision"], "url='data.binance.vision'"),
        (["start=2024-01-01", "url=http://host:port"], "url='http://host:port' .* begins with"),
        (["start=2024-01-01", "url=http://[::1"], "url='http://.*' is not allowed"),
        (["start=2024-01-01", "url=http://host/#x"], "url='http://host/#x' .* query or #"),
        (["start=2024-01-01", "url=https://me:key@host"], "^url='https://...' .* without user"),
        (["start=2024-01-01", "http.timeout_s=0"], "http.timeout_s=0"),
        (["start=2024-01-01", "http.retries=-1"], "http.retries=-1"),
        (["start=2024-01-01", "http.retrys=1"], "unknown key http.retrys; did you mean http.ret"),
        (["start=2024-01-01", "pair=BTC"], "unknown key pair"),
        (["--start", "2024-01-01"], "'--start' is not allowed: write KEY=VALUE"),
    ],
)
def test_a_mistake_is_refused_by_its_key(words, message):
    with pytest.raises(ValueError, match=message):
        told(*words)


def test_help_lists_every_key_with_its_comment(capsys):
    with pytest.raises(SystemExit) as ended:
        load_config("download", ["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for key in ("source=binance_vision", "end=null", "url=null", "http.retries=5"):
        assert f"  {key}" in text
    assert "usage: python pipelines/download.py [KEY=VALUE ...]" in text


def test_a_script_needs_no_command_line():
    assert DownloadConfig(start="2024-01-01").interval_s == 60
