"""What the documents promise: their code runs, their commands are understood, their links lead."""

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest

from pipelines import check_data, download
from pipelines.config import (
    AuditConfig,
    BenchmarkConfig,
    CheckConfig,
    DownloadConfig,
    EvaluateConfig,
    ExportConfig,
    InsightsConfig,
    ReplayConfig,
    ReportConfig,
    RunConfig,
    compose_config,
)
from pipelines.overrides import list_keys, list_presets

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"python pipelines/(\w+)\.py([^`&|\n]*)")
PROGRAMS = {"download": download.main, "check_data": check_data.main}
CONFIGS = (
    *(RunConfig, ReplayConfig, EvaluateConfig, ReportConfig, ExportConfig, InsightsConfig),
    *(BenchmarkConfig, AuditConfig, DownloadConfig, CheckConfig),
)
GROUPS = ("env", "data", "model", "train", "experiment")
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")


def blocks(language: str) -> list[tuple[str, str]]:
    """Those that stand for themselves; ``tests/test_tutorial.py`` runs the ones of a whole page."""
    found = []
    for page in PAGES:
        if page.name == "tutorial.md":
            continue
        for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if kind == language:
                found.append((f"{page.name}:{len(found)}", text))
    return found


@pytest.mark.parametrize(("name", "code"), blocks("python"))
def test_python_blocks_run(name: str, code: str, tmp_path: Path) -> None:
    program = tmp_path / f"{name.replace(':', '_')}.py"
    program.write_text(code, encoding="utf-8")
    runpy.run_path(str(program), run_name="__main__")


def commands() -> list[tuple[str, str]]:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    plain = [c for c in COMMAND.findall(text) if not re.search(r"PATH|FILE|NAME|…|\.\.\.", c[1])]
    return sorted({(program, words.strip()) for program, words in plain})


@pytest.mark.parametrize(("program", "words"), commands())
def test_commands_are_understood(program: str, words: str) -> None:
    assert (ROOT / "pipelines" / f"{program}.py").is_file()
    if words in ("--help", "") and program != "ppo_transformer":
        return
    compose_config(program, [word for word in shlex.split(words) if word != "--help"])


def data_commands(page: Path) -> list[tuple[str, list[str]]]:
    """Downloads and checks on a page, in its order, without those that only show a form."""
    found = COMMAND.findall(page.read_text(encoding="utf-8"))
    told = [(program, shlex.split(words)) for program, words in found]
    return [
        (program, words)
        for program, words in told
        if program in PROGRAMS and not re.search(r"PATH|FILE|NAME|--help", " ".join(words))
    ]


@pytest.mark.parametrize("page", [p for p in PAGES if data_commands(p)], ids=lambda page: page.name)
def test_downloads_and_checks_run_in_the_order_of_the_page(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_exchange: Any
) -> None:
    """Against a server on this machine, which has the bars of every time and market it serves."""
    pytest.importorskip("ccxt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ccxt.Exchange.throttle", lambda self, cost=None: None)
    of_tests = {"download": [f"url={local_exchange.url}", "http.pause_s=0"], "check_data": []}
    for program, words in data_commands(page):
        cfg = compose_config(program, [*words, *of_tests[program]])
        assert PROGRAMS[program](cfg) == 0, (program, words)
    assert list((tmp_path / "checks").glob("*.html"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    local = [target for target, _ in LINK.findall(text) if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def headings(page: Path) -> set[str]:
    """Of a page, as a browser's address has them."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_headings(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    found = re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", text)
    wrong = [
        (target, heading)
        for target, heading in found
        if heading not in headings(page.parent / target if target else page)
    ]
    assert wrong == []


def shown(page: str) -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    return "".join(block for kind, block in BLOCK.findall(text) if kind == "text")


def test_the_readme_shows_every_program_and_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
    tree = shown("README.md")
    for path in (ROOT / "pipelines").glob("*.py"):
        if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8"):
            assert f" {path.name} " in tree


@pytest.mark.parametrize("package", ["envs", "modules", "pipelines"])
def test_the_tree_shows_every_source_file_once_and_no_other(package: str) -> None:
    files = [p.name for p in (ROOT / package).rglob("*.py") if p.name != "__init__.py"]
    block = re.search(rf"^{package}/ .*?(?=^\S|\Z)", shown("docs/tree.md"), re.M | re.S)
    assert block is not None
    assert sorted(re.findall(r"(\w+\.py)", block[0])) == sorted(files)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_key_is_on_a_page(config: type) -> None:
    """By its whole name, or in code type by its last part, as the keys of ``env`` are."""
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]  # what was, not what is
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    words = set(re.findall(r"[\w.]+", text))
    said = set(re.findall(r"[\w.]+", " ".join(re.findall(r"`[^`\n]+`", text))))
    told = said | set(re.findall(r"(\w+)=", text))
    keys = list_keys(config)
    whole = {key for key in keys if key in (words if "." in key else told)}
    assert [k for k in keys if k not in whole and k.rpartition(".")[2] not in said] == []


def test_every_preset_is_on_a_page() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    known = [f"{group}={name}" for group, names in list_presets(GROUPS).items() for name in names]
    known = [word.replace("data=synthetic/", "| `") for word in known]  # rows of markets.md
    assert [word for word in known if not re.search(re.escape(word) + r"(?!\w)", text)] == []
