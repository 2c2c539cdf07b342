"""Requirements of the project and some of its extras, a line each: ``FILE EXTRA...``."""

import sys
import tomllib
from pathlib import Path


def list_dependencies(pyproject: Path, extras: list[str]) -> list[str]:
    """What ``pip install .[extras]`` would ask for, without the project itself."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    chosen = [project["optional-dependencies"][extra] for extra in extras]
    return [*project["dependencies"], *(line for lines in chosen for line in lines)]


if __name__ == "__main__":
    print(*list_dependencies(Path(sys.argv[1]), sys.argv[2:]), sep="\n")
