"""The page of rules and the tests that hold them belong together."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from envs.config import EnvConfig
from envs.ledger import REASONS
from envs.observation import ACCOUNT
from envs.trace_schema import COLUMNS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
LINK = re.compile(r"`(tests/test_\w+\.py)::(test_\w+)`")


def rules():
    """Id and text of every rule, in order."""
    parts = re.split(r"^- \*\*(R-[A-Z]+-\d+)\*\* ", PAGE, flags=re.MULTILINE)[1:]
    texts = (re.split(r"^## ", text, flags=re.MULTILINE)[0] for text in parts[1::2])
    return list(zip(parts[::2], texts, strict=True))


def functions_of(path):
    """Names of the functions of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_rule_is_held_by_a_test():
    without = [rule for rule, text in rules() if not LINK.search(text)]
    assert len(rules()) > 80
    assert not without


def test_every_test_that_the_page_names_exists():
    named = LINK.findall(PAGE)
    missing = {(p, n) for p, n in named if not (ROOT / p).is_file() or n not in functions_of(p)}
    assert not missing
    assert PAGE.count("`tests/") == len(named), "a link that is not `tests/test_file.py::test_name`"


def test_every_test_of_a_rule_is_named_by_the_page():
    linked = set(LINK.findall(PAGE))
    tests = {
        (f"tests/{path.name}", name)
        for path in sorted((ROOT / "tests").glob("test_rules_*.py"))
        for name in functions_of(f"tests/{path.name}")
        if name.startswith("test_")
    }
    assert tests <= linked, sorted(tests - linked)


def test_rules_are_numbered_without_gaps_and_once():
    seen: dict[str, int] = {}
    for rule, _ in rules():
        group, number = rule.rsplit("-", 1)
        seen[group] = seen.get(group, 0) + 1
        assert int(number) == seen[group], rule


def test_the_trace_is_described_column_by_column_in_order():
    table = PAGE.split("## The trace")[1].split("\n- **")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert tuple(re.findall(r"`(\w+)`", " ".join(rows))) == COLUMNS


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(EnvConfig)])
def test_every_parameter_is_on_the_page(name):
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("word", [*(reason for reason in REASONS if reason), *ACCOUNT])
def test_every_reason_and_column_of_the_account_is_on_the_page(word):
    assert f"`{word}`" in PAGE
