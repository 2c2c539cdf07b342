"""Pieces of Markdown, for the card of a model."""

from collections.abc import Sequence

_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>|#"} | {"\n": " "})


def plain(text: str) -> str:
    """Text that Markdown takes for nothing else."""
    return str(text).translate(_MARKS)


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first of its rows is the head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|{'---|' * len(rows[0])}")
    return "\n".join(lines)
