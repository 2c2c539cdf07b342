"""All runs under a folder on one page: ``python pipelines/insights.py``.

Writes ``insights.html``: what the runs differ in, how they learned, what they are worth, what they
cost. With ``--serve`` it answers browsers of this machine instead, and shows the trace of every
action too; see ``docs/insights.md``.
"""

from pipelines.ending import end_plainly

if __name__ == "__main__":
    end_plainly()

import sys

from pipelines.config import InsightsConfig, load_config
from pipelines.refusal import plain_failures, plain_refusals

if __name__ == "__main__":
    # Before what loads for seconds: --help and a mistake are answered at once.
    words = ["serve=true" if word == "--serve" else word for word in sys.argv[1:]]
    with plain_failures():
        CONFIG = load_config("insights", words)

from pathlib import Path
from typing import NoReturn

from envs.durable import make_writable, write_file
from pipelines.run_insights.runs_page import make_page

PAGE = "insights.html"


def main(cfg: InsightsConfig) -> Path:
    """Write the page and print where it is; or serve it until the process is interrupted."""
    with plain_refusals():
        if cfg.serve:
            serve(cfg)
        path = write_page(cfg)
    print(path)
    return path


def write_page(cfg: InsightsConfig) -> Path:
    """Write the page of all runs.

    Raises:
        NotADirectoryError: if there is no such folder of runs.
        OSError: if the disk refuses; what was there stays.
    """
    root = Path(cfg.runs)
    path = Path(cfg.out) if cfg.out else root / PAGE
    page = make_page(root, cfg.price_per_hour, path.parent)
    make_writable(path.parent)
    write_file(path, page.encode())
    return path


def serve(cfg: InsightsConfig) -> NoReturn:
    """Serve the page and the traces on 127.0.0.1 until the process is interrupted, which ends it.

    Raises:
        ValueError: if a package for it is missing.
        NotADirectoryError: if there is no such folder of runs.
        OSError: if the port is taken.
    """
    try:
        from pipelines.run_insights.server import run_server
    except ImportError as error:
        raise ValueError(f"serve=true needs pip install -e '.[insights]': {error}") from error
    run_server(cfg)


if __name__ == "__main__":
    with plain_failures():
        main(CONFIG)
