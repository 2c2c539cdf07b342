"""Look at a file of bars: ``python pipelines/check_data.py data.path=FILE``.

Writes a page with what the file holds and lacks, and what a training would make of it, and the same
as JSON. Exit code 0: a training would use the bars; 1: it would refuse to cut them into splits;
2: the file is refused.
"""

import json
import sys
from pathlib import Path

import numpy as np

from envs.bars import Bars, check_bars, read_raw, report_lines
from envs.durable import write_file
from envs.table import BarTable, cut_table, file_features
from pipelines.config import CheckConfig, load_config
from pipelines.market_data.data_page import headline, write_data_page
from pipelines.market_data.data_quality import DataQuality, measure_quality
from pipelines.refusal import plain_refusals


def main(cfg: CheckConfig) -> int:
    """Measure the file, write the page, print a summary, return the exit code."""
    with plain_refusals():
        quality, bars = check(cfg)
        page = write(Path(cfg.out), quality, bars)
    print("\n".join([*summary(quality), str(page)]))
    return 1 if quality.refusal else 0


def check(cfg: CheckConfig) -> tuple[DataQuality, Bars]:
    """Load the bars as a training does, and measure them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for data that cannot be used, naming the file, the row and what is wrong.
    """
    raw = read_raw(cfg.data)
    bars = check_bars(raw.frame, raw.cfg, raw.source_name, raw.source_sha256)
    columns, names = file_features(bars, cfg.data)
    table, refusal = _cut(cfg, bars, columns, names)
    tradable = np.isfinite(columns).all(axis=1)
    about = (cfg.data.asset, cfg.env.window, cfg.env.episode_bars)
    quality = measure_quality(raw.frame, bars, tradable, table, names=about, refusal=refusal)
    return quality, bars


def _cut(
    cfg: CheckConfig, bars: Bars, columns: np.ndarray, names: list[str]
) -> tuple[BarTable | None, str]:
    """The table that a training would use, or why it would have none."""
    try:
        table = cut_table(
            bars, columns, names, cfg.data,
            window=cfg.env.window, episode_bars=cfg.env.episode_bars,
        )  # fmt: skip
    except ValueError as error:
        return None, str(error)
    return table, ""


def write(folder: Path, quality: DataQuality, bars: Bars) -> Path:
    """Write page and JSON, and return the path of the page.

    Raises:
        OSError: if the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{quality.source_name}.html"
    write_data_page(page, quality, bars)
    text = json.dumps(quality.to_json(), indent=1, allow_nan=False) + "\n"
    write_file(page.with_suffix(".json"), text.encode())
    return page


def summary(quality: DataQuality) -> list[str]:
    """The file in a few lines."""
    lines = report_lines(quality.report)
    lines += [f"{term}: {value}" for term, value in headline(quality)]
    for row in quality.splits:
        lines.append(
            f"{row['split']}: {row['tradable_bars']:,} tradable bars of {row['bars']:,}, "
            f"{row['first']} to {row['last']}, {row['starts']:,} starts"
        )
    if quality.refusal:
        lines.append(f"a training would refuse: {quality.refusal}")
    return lines


if __name__ == "__main__":
    raise SystemExit(main(load_config("check_data", sys.argv[1:])))
