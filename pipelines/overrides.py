"""Words of a command line, ``KEY=VALUE`` and ``GROUP=PRESET``: parsed by the type of their key.

Values are data: no interpolation is resolved, nothing is evaluated, no class is named.
"""

import dataclasses
import difflib
import importlib.resources
import os.path
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from envs.checks import require

_ALLOWED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_BOOLS = {"true": True, "false": False}
_SHOWN = 6  # keys that an error names
_NULLS = ("null", "none", "~")
# Shells leave it as it is after KEY=, and a folder called ~ is nobody's wish.
_HOME = re.compile(r"(?:^|(?<==))~(?=/)")


class Overrides(NamedTuple):
    """What a command line asks for."""

    presets: dict[str, str]  # by group
    values: dict[str, Any]  # by dotted key, of the key's type


def list_keys(config: type, prefix: str = "") -> dict[str, Any]:
    """Every dotted key of a configuration dataclass with its type, in order.

    A mapping stands for the keys of its default: these can be changed, none can be added.
    """
    hints = get_type_hints(config)
    keys: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        name, kind = prefix + field.name, hints[field.name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            keys |= list_keys(kind, f"{name}.")
        elif get_origin(kind) is dict and field.default_factory is not dataclasses.MISSING:
            keys |= {f"{name}.{key}": get_args(kind)[1] for key in field.default_factory()}
        else:
            keys[name] = kind
    return keys


def list_presets(groups: Iterable[str]) -> dict[str, list[str]]:
    """The presets of each group: the YAML files under its folder of ``configs/``, by path."""
    root = importlib.resources.files("configs")
    return {group: sorted(_presets_in(root / group)) for group in groups}


def _presets_in(folder: Traversable, prefix: str = "") -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.name.endswith(".yaml"):
            yield prefix + entry.name.removesuffix(".yaml")
        elif entry.is_dir():
            yield from _presets_in(entry, f"{prefix}{entry.name}/")


def parse_overrides(
    argv: Sequence[str], keys: Mapping[str, Any], presets: Mapping[str, Sequence[str]]
) -> Overrides:
    """Check every word of a command line; of two for the same key the later one counts.

    Args:
        argv: the words.
        keys: what `list_keys` gives.
        presets: what `list_presets` gives.

    Raises:
        ValueError: for a word of another form, an unknown key or preset (with those that come
            near), or a value that is not of the key's type.
    """
    found = Overrides({}, {})
    for word in argv:
        key, equals, text = word.partition("=")
        if not equals or key.startswith("-"):
            near = _suggest(key.strip("-").replace("-", "_"), [*presets, *keys])
            raise ValueError(f"{word!r} is not allowed: write KEY=VALUE{near}")
        if key in presets:
            near = _suggest(text, presets[key])
            allowed = f"one of {', '.join(presets[key])}{near}"
            require(text in presets[key], key, text, allowed)
            found.presets[key] = text
        elif key in keys:
            found.values[key] = parse_value(key, keys[key], text)
        else:
            refuse_unknown(key, [*presets, *keys])
    return found


def refuse_unknown(key: str, known: Sequence[str]) -> None:
    """Refuse a key that is not `known`, with those that come near it or that it is a part of.

    Raises:
        ValueError: if the key is not known.
    """
    if key in known:
        return
    inner = [name for name in known if name.startswith(f"{key}.")]
    if inner:
        shown = ", ".join(inner[:_SHOWN]) + ", ...; --help lists all" * (len(inner) > _SHOWN)
        raise ValueError(f"{key} is not a key but has keys: {shown}")
    raise ValueError(f"unknown key {key}{_suggest(key, known) or '; --help lists all keys'}")


def refuse_unplain(values: Mapping[str, Any], keys: Mapping[str, Any]) -> None:
    """Refuse nested values with an unknown key, or a text that would be an interpolation.

    Raises:
        ValueError: naming the key.
    """
    for key, value in _leaves(values):
        refuse_unknown(key, list(keys))
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                _refuse_interpolation(key, item)


def parse_value(key: str, kind: Any, text: str) -> Any:
    """The value of a text for a key of type `kind`.

    Numbers may be written as 1_000_000 or 1e6, lists as [1,2], nothing as null, and ``~/`` at the
    start of a path is the home folder.

    Raises:
        ValueError: naming the key, the text and what is allowed.
    """
    _refuse_interpolation(key, text)
    optional = get_origin(kind) in (Union, types.UnionType)
    inner = next(k for k in get_args(kind) if k is not type(None)) if optional else kind
    if optional and text.lower() in _NULLS:
        return None
    allowed = _allowed(inner) + (", or null" if optional else "")
    plain = _unquote(text)
    # What KEY=$FILE is where FILE was never set: neither a path nor the wish for the default.
    require(bool(plain) or not optional, key, text, allowed)
    try:
        return _parse(inner, plain)
    except ValueError:
        raise ValueError(f"{key}={text!r} is not allowed: {allowed}") from None


def _parse(kind: Any, text: str) -> Any:
    if kind is str:
        return _HOME.sub(lambda _: os.path.expanduser("~"), text)
    if kind is bool:
        if text.lower() not in _BOOLS:
            raise ValueError
        return _BOOLS[text.lower()]
    if kind is int:
        return _parse_int(text)
    if kind is float:
        return float(text)
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError
    (item,) = get_args(kind)
    parts = [part.strip() for part in _items(text[1:-1])]
    if not all(parts[:-1]):  # what [$A,b.csv] is where A was never set; a last comma may stand
        raise ValueError
    return [_parse(item, part) for part in parts if part]


def _items(text: str) -> Iterator[str]:
    """Parts between the commas that stand in no bracket."""
    depth, begin = 0, 0
    for i, sign in enumerate(text):
        depth += (sign == "[") - (sign == "]")
        if sign == "," and depth == 0:
            yield text[begin:i]
            begin = i + 1
    yield text[begin:]


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer() or abs(number) > 2**53:
            raise ValueError from None
        return int(number)


def _allowed(kind: Any) -> str:
    if get_origin(kind) is list:
        return f"a list like [1,2], each {_ALLOWED[get_args(kind)[0]]}"
    return _ALLOWED[kind]


def _unquote(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


def _refuse_interpolation(key: str, text: str) -> None:
    plain = "${" not in text and text != "???"
    require(plain, key, text, "plain values; '${' and '???' mean something to the composer")


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _suggest(key: str, names: Sequence[str]) -> str:
    """``; did you mean a, b?`` with up to three names that come near, or nothing.

    A name comes near as a whole, or by its last part: ``paths`` finds ``env.paths``.
    """
    last = key.rpartition(".")[2]
    by_last_part: dict[str, list[str]] = {}
    for name in names:
        by_last_part.setdefault(name.rpartition(".")[2], []).append(name)
    near = difflib.get_close_matches(key, names, n=3, cutoff=0.7)
    for part in difflib.get_close_matches(last, list(by_last_part), n=3, cutoff=0.7):
        near += by_last_part[part]
    near = list(dict.fromkeys(near))[:3]
    return f"; did you mean {', '.join(near)}?" if near else ""
