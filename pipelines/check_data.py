"""Look at a file of bars: ``python pipelines/check_data.py data.path=FILE``.

Writes a page with what the file holds and lacks, and what a training would make of it, and the same
as JSON; with ``data.assets=[...]`` a page for each market, under the splits that they share. Exit
code 0: a training would use the bars; 1: it would refuse to cut them into splits; 2: a file is
refused; 5: the page could not be written.
"""

from pipelines.ending import end_plainly

if __name__ == "__main__":
    end_plainly()

import sys

from pipelines.config import CheckConfig, load_config

if __name__ == "__main__":
    # Before what loads for seconds: --help and a mistake are answered at once.
    CONFIG = load_config("check_data", sys.argv[1:])

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from envs.assets import asset_folder, of_market
from envs.bar_table import BarTable
from envs.bars import Bars, check_bars, read_raw, report_lines
from envs.data_config import DataConfig
from envs.durable import make_writable, write_file
from envs.table import cut_markets, each_market, file_features
from pipelines.market_data.data_page import headline, write_data_page
from pipelines.market_data.data_quality import DataQuality, measure_quality
from pipelines.number_text import minute
from pipelines.refusal import plain_failures, plain_refusals

# Of a folder for the page that a person has named; what else the system refuses is the disk's.
_NO_FOLDER = (FileExistsError, NotADirectoryError)


def main(cfg: CheckConfig) -> int:
    """Measure the file, write the page, print a summary, return the exit code."""
    several = cfg.data.assets is not None
    with plain_refusals():
        checked = check(cfg)
    with plain_failures(), plain_refusals(_NO_FOLDER):
        pages = [
            write(Path(cfg.out), asset_folder(q.asset) if several else q.source_name, q, bars)
            for q, bars in checked
        ]
    for (quality, _), page in zip(checked, pages, strict=True):
        market = f"{quality.asset}: " if several else ""
        print("\n".join(f"{market}{line}" for line in [*summary(quality), str(page)]))
    return 1 if checked[0][0].refusal else 0


def check(cfg: CheckConfig) -> list[tuple[DataQuality, Bars]]:
    """Load the bars of every market as a training does, and measure them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for data that cannot be used, naming the file, the row and what is wrong.
    """
    alone = each_market(cfg.data)
    raws, markets = [], []
    for one in alone:
        with of_market("" if cfg.data.assets is None else one.asset):
            raw = read_raw(one)
            bars = check_bars(raw.frame, raw.cfg, raw.source_name, raw.source_sha256)
            raws.append(raw)
            markets.append((bars, *file_features(bars, one)))
    tables, refusal = _cut(cfg, alone, markets)
    found = []
    for raw, one, (bars, columns, _), table in zip(raws, alone, markets, tables, strict=True):
        tradable = np.isfinite(columns).all(axis=1)
        about = (one.asset, cfg.env.window, cfg.env.episode_bars)
        quality = measure_quality(raw.frame, bars, tradable, table, names=about, refusal=refusal)
        found.append((quality, bars))
    return found


def _cut(
    cfg: CheckConfig,
    alone: Sequence[DataConfig],
    markets: Sequence[tuple[Bars, np.ndarray, list[str]]],
) -> tuple[Sequence[BarTable | None], str]:
    """The tables that a training would use, or why it would have none."""
    sizes = {"window": cfg.env.window, "episode_bars": cfg.env.episode_bars}
    try:
        return cut_markets(alone, markets, **sizes), ""
    except ValueError as error:
        return [None] * len(markets), str(error)


def write(folder: Path, name: str, quality: DataQuality, bars: Bars) -> Path:
    """Write page and JSON, both under a name, and return the path of the page.

    Raises:
        OSError: if the disk refuses.
    """
    make_writable(folder)
    page = folder / f"{name}.html"
    write_data_page(page, quality, bars)
    text = json.dumps(quality.to_json(), indent=1, allow_nan=False) + "\n"
    write_file(page.with_name(f"{name}.json"), text.encode())
    return page


def summary(quality: DataQuality) -> list[str]:
    """The file in a few lines."""
    lines = report_lines(quality.report)
    lines += [f"{term}: {value}" for term, value in headline(quality)]
    for row in quality.splits:
        embargo = f" after an embargo of {row['embargo_bars']:,}" if row["embargo_bars"] else ""
        lines.append(
            f"{row['split']}: {row['tradable_bars']:,} tradable bars of {row['bars']:,}{embargo}, "
            f"{minute(row['first'])} to {minute(row['last'])}, {row['starts']:,} starts"
        )
    if quality.refusal:
        lines.append(f"a training would refuse: {quality.refusal}")
    return lines


if __name__ == "__main__":
    raise SystemExit(main(CONFIG))
