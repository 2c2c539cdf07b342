"""The files of an evaluation: their names, and that they belong together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.bar_files import file_sha256

FORMAT = 1
EVALUATION, EQUITY, RETURNS = "evaluation.json", "equity.parquet", "returns.parquet"


def require_own(values: Mapping[str, Any], path: Path) -> None:
    """Refuse a file that a later evaluation has replaced, which was stopped before its end.

    Args:
        values: of ``evaluation.json``.
        path: a file beside it that belongs to it.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it is not the one that was written.
    """
    known = values["files"].get("sha256", {}).get(path.name)  # older ones do not say
    if known is not None and file_sha256(path) != known:
        raise ValueError(
            f"{path}: not as {EVALUATION} beside it has it: another evaluation was begun in this "
            "folder and has not come to its end; wait for it, or evaluate again"
        )
