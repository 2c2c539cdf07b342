"""Tables of a page: every cell is escaped, whoever wrote it, and a wide table scrolls by itself."""

from collections.abc import Sequence
from html import escape


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str, kind: str = ""
) -> str:
    """A table whose first column names its rows.

    Args:
        header: of the columns.
        rows: cells as text.
        caption: what a reader that does not see the page is told the table is.
        kind: class of the table's style.
    """
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in header)
    body = "".join(_row(cells) for cells in rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f'<table class="{escape(kind)}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _row(cells: Sequence[str]) -> str:
    first, *others = (escape(cell) for cell in cells)
    rest = "".join(f"<td>{cell}</td>" for cell in others)
    return f'<tr><th scope="row">{first}</th>{rest}</tr>'


def paragraphs(lines: Sequence[str]) -> str:
    """A paragraph for each line, escaped."""
    return "".join(f'<p class="small">{escape(line)}</p>' for line in lines if line)


def terms(pairs: Sequence[tuple[str, str]]) -> str:
    """A list of terms and values, escaped."""
    items = (f"<div><dt>{escape(term)}</dt><dd>{escape(value)}</dd></div>" for term, value in pairs)
    return f"<dl>{''.join(items)}</dl>"
