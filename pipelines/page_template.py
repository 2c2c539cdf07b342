"""Pages of one file: what all of them begin with, and their templates filled in."""

from collections.abc import Mapping
from pathlib import Path
from string import Template

_HEAD = Path(__file__).with_name("page_head.html")


def fill_page(template: Path, fields: Mapping[str, str]) -> str:
    """A page that needs no network, and whose policy lets it load nothing.

    Args:
        template: what follows the head, from its styles on, with ``$name`` for every field.
        fields: by name, ready for HTML; ``title`` is the head's as well.

    Raises:
        KeyError: for a field that is missing.
    """
    return Template(_HEAD.read_text("utf-8") + template.read_text("utf-8")).substitute(fields)
