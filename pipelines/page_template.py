"""Pages of one file: what all of them hold, and their templates filled in."""

import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

_HEAD = Path(__file__).with_name("page_head.html")


def fill_page(template: Path, fields: Mapping[str, str]) -> str:
    """A page that needs no network, and whose policy lets it load nothing.

    Args:
        template: what follows the head, from its styles on, with ``$name`` for every field;
            ``$plotly`` is the library that draws.
        fields: by name, ready for HTML; ``title`` is the head's as well.

    Raises:
        KeyError: for a field that is missing.
    """
    page = Template(_HEAD.read_text("utf-8") + template.read_text("utf-8"))
    return page.substitute(fields, plotly=get_plotlyjs())


def script_json(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it can close the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
