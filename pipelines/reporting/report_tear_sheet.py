"""A tear sheet of the package quantstats, for who is used to one: ``quantstats=true``.

It knows nothing of tries, seeds or intervals: it stands beside the report and decides nothing.
"""

import logging
import warnings
from pathlib import Path

import pandas as pd

from envs.durable import write_file
from pipelines.reporting.report_inputs import ReportInputs

TEAR_SHEET = "quantstats.html"
_LEAST_DAYS = 10
_BENCHMARK = "buy_and_hold"
_ICON = "https://qtpylib.io/favicon.ico"


def write_tear_sheet(inputs: ReportInputs) -> Path:
    """Write ``quantstats.html`` of the policy's daily returns against buy-and-hold's.

    No name from a file is written into it: the package does not escape what it is given.

    Args:
        inputs: the files of the evaluation.

    Raises:
        ValueError: if the package is not there, or the bars cover too few days for it.
        OSError: if the disk refuses.
    """
    returns = daily(inputs.returns)
    if len(returns) < _LEAST_DAYS:
        raise ValueError(
            f"quantstats=true needs {_LEAST_DAYS} days; the evaluation covers {len(returns)}"
        )
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        import quantstats
    except ImportError as error:
        raise ValueError(f"quantstats=true needs pip install -e '.[report]': {error}") from error
    path = inputs.folder / TEAR_SHEET
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old ways to call pandas and matplotlib
        quantstats.reports.html(
            returns["policy"].rename("policy"),
            returns[_BENCHMARK].rename("buy-and-hold"),
            title="Policy and buy-and-hold",
            output=str(path),
            periods_per_year=365,
        )
    # The package's pages fetch its icon.
    text = path.read_text("utf-8").replace(_ICON, "data:,")
    write_file(path, text.encode())
    return path


def daily(returns: pd.DataFrame) -> pd.DataFrame:
    """Returns over periods, compounded to days (UTC), without a time zone."""
    growth = (1.0 + returns).groupby(pd.DatetimeIndex(returns.index).floor("D")).prod()
    return (growth - 1.0).tz_localize(None)
