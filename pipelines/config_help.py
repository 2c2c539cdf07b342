"""The text of ``--help``: how to call a program, its presets, and every key with its value."""

import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from pipelines.number_text import wrapped

_FIELD = re.compile(r"    (\w+): .*?(?:  (# .*))?$")
_COMMENT = re.compile(r"    (# .*)$")


def help_text(
    program: str,
    config: type,
    values: Mapping[str, Any],
    presets: Mapping[str, Sequence[str]],
) -> str:
    """Usage, presets by group, and the keys as ``KEY=VALUE`` under the comments of their source.

    Args:
        program: the name of the file in ``pipelines/``.
        config: the configuration's dataclass.
        values: nested values, those that a run would have.
        presets: names by group.
    """
    words = "[GROUP=PRESET ...] [KEY=VALUE ...]" if presets else "[KEY=VALUE ...]"
    lines = [
        f"usage: python pipelines/{program}.py {words}",
        "",
        *(inspect.getdoc(config) or "").splitlines()[:1],
    ]
    if presets:
        lines += ["", "Presets, GROUP=PRESET:"]
        for group, names in presets.items():
            lines += wrapped(" | ".join(names), f"  {group}=")
    lines += ["", "Keys, KEY=VALUE, with the values of this command line:"]
    return "\n".join([*lines, *_key_lines(config, values)])


def _key_lines(config: type, values: Mapping[str, Any], prefix: str = "") -> list[str]:
    comments = _comments(config)
    hints = get_type_hints(config)
    plain, nested = [], []
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, values[field.name]
        before, beside = comments.get(field.name, ([], ""))
        if dataclasses.is_dataclass(hints[field.name]):
            # Apart from the comment of the group's first key.
            of_all = ["", *(f"  {comment}" for comment in before)] if before else []
            nested += [*of_all, "", *_key_lines(hints[field.name], value, f"{name}.")]
            continue
        plain += [f"  {comment}" for comment in before]
        if isinstance(value, Mapping):
            plain += [f"  {name}.{key}={_text(item)}" for key, item in value.items()]
        else:
            plain.append(f"  {name}={_text(value)}  {beside}".rstrip())
    return plain + nested


def _comments(config: type) -> dict[str, tuple[list[str], str]]:
    """By field: the comment lines directly above it, and the one beside it."""
    try:
        source = inspect.getsource(config).splitlines()
    except OSError:
        return {}
    found: dict[str, tuple[list[str], str]] = {}
    above: list[str] = []
    for line in source:
        if comment := _COMMENT.match(line):
            above.append(comment[1])
            continue
        if field := _FIELD.match(line):
            found[field[1]] = (above, field[2] or "")
        above = []
    return found


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace(" ", "") if isinstance(value, list) else str(value)
