"""An evaluation as a page that a person reads: ``python pipelines/report.py folder=PATH``.

Writes ``report.html`` into the folder: the verdict first, then equity, candles with every trade,
trades, costs, folds and figures. One file, without network; see ``docs/evaluation.md``.
"""

from pipelines.ending import end_plainly

if __name__ == "__main__":
    end_plainly()

import sys

from pipelines.config import ReportConfig, load_config
from pipelines.refusal import plain_failures, plain_refusals

if __name__ == "__main__":
    # Before what loads for seconds: --help and a mistake are answered at once.
    with plain_failures():
        CONFIG = load_config("report", sys.argv[1:])

from pathlib import Path

from envs.durable import write_file
from pipelines.held_out.evaluation_files import EVALUATION
from pipelines.reporting.report_inputs import ReportInputs
from pipelines.reporting.report_page import make_page
from pipelines.reporting.report_tear_sheet import write_tear_sheet

REPORT = "report.html"


def main(cfg: ReportConfig) -> Path:
    """Write the page of the evaluation in a folder, and print where it is."""
    with plain_refusals():
        path = write_report(Path(cfg.folder))
        print(path)
        if cfg.quantstats:
            print(write_tear_sheet(ReportInputs.read(Path(cfg.folder))))
    return path


def write_report(folder: Path) -> Path:
    """Write ``report.html`` beside the files of an evaluation.

    Args:
        folder: with what `pipelines.held_out.evaluation.Evaluation.save` and the traces left there.

    Raises:
        FileNotFoundError: if a file of the evaluation is missing.
        ValueError: if one is damaged.
        OSError: if the disk refuses; what was there stays.
    """
    path = folder / REPORT
    try:
        page = make_page(ReportInputs.read(folder))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / EVALUATION}: not an evaluation: {error!r}") from error
    write_file(path, page.encode())
    return path


if __name__ == "__main__":
    with plain_failures():
        main(CONFIG)
