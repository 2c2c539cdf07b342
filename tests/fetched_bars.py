"""The folder of a download, compared with the exchange that it came from."""

import numpy as np

from envs.bar_folder import FolderManifest
from envs.bars import load_bars
from envs.data_config import DataConfig
from local_exchange import seconds

BITSTAMP = ("source=ccxt", "exchange=bitstamp", "symbol=BTC/USD")
KRAKEN = ("source=ccxt", "exchange=kraken", "symbol=BTC/USD")


def loaded(folder, fill_gap_bars=0):
    """The bars of the folder, as a training reads them."""
    return load_bars(DataConfig(path=str(folder), fill_gap_bars=fill_gap_bars))


def expect(folder, exchange, start, end, interval_s):
    """The folder holds exactly the bars of a span that the exchange has."""
    times, values = exchange.bars(seconds(start), seconds(end), interval_s)
    found = loaded(folder)
    np.testing.assert_array_equal(found.time_ns, times * 10**9)
    np.testing.assert_array_equal(found.ohlcv, values)


def months(folder):
    """What its manifest says of each month."""
    return {month.month: month for month in FolderManifest.read(folder).months}
