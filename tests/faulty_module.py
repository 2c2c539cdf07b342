"""A module as its source would make it with a fault in it."""

import importlib.util
from pathlib import Path
from types import ModuleType


def load_faulty(name: str, source: str, folder: Path) -> ModuleType:
    """Load a source that is like a module's, beside the module, which stays as it is.

    Args:
        name: of the module.
        source: with the fault.
        folder: where the source may lie.
    """
    path = folder / f"{name}.py"
    path.write_text(source, "utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
