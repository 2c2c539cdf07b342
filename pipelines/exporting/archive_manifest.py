"""What an archive of a run holds: every file with its size and hash, and what the run was."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from envs.checks import require_cell
from pipelines.checkpoint import Checkpoint
from pipelines.exporting.run_files import is_run_file
from pipelines.judging.opening import CarriedLook

FORMAT = 1
# A manifest of a hundred thousand files is shorter.
MAX_MANIFEST = 32 * 1024**2
_HASH = re.compile(r"[0-9a-f]{64}")
_LONGEST_RUN = 200


@dataclass(frozen=True)
class CarriedFile:
    """A file of an archive: its bytes, and the hash of them."""

    size: int
    sha256: str


@dataclass(frozen=True)
class ArchiveManifest:
    """What an archive holds.

    Attributes:
        run: the run's name, of the folder that it is unpacked to.
        about: of the newest checkpoint: commit, versions, configuration's hash, bars; and what of
            the run was chosen.
        files: by their path in the run's folder, in the order of the archive.
        looks: at held-out bars, all that the registry above the run knew.
    """

    run: str
    about: dict[str, Any]
    files: dict[str, CarriedFile]
    looks: list[CarriedLook] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    def to_bytes(self) -> bytes:
        """As JSON: the same manifest, the same bytes."""
        files = {path: asdict(file) for path, file in self.files.items()}
        looks = [look.to_plain() for look in self.looks]
        named = {"format": FORMAT, "run": self.run} | self.about
        plain = named | {"looks": looks, "files": files}
        return (json.dumps(plain, indent=1, allow_nan=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "ArchiveManifest":
        """Read and check a manifest; nothing of it is trusted.

        Raises:
            ValueError: if it is none of this format, or names a file that no run has.
        """
        try:
            plain = json.loads(data)
            if plain["format"] != FORMAT:
                raise ValueError(f"format {plain['format']!r}, not {FORMAT}")
            run, files = str(plain.pop("run")), dict(plain.pop("files"))
            found = {str(path): _carried(str(path), values) for path, values in files.items()}
            looks = [CarriedLook.from_plain(look) for look in plain.pop("looks", [])]
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not the manifest of a run: {error!r}") from error
        require_run_name(run)
        return cls(
            run, {key: value for key, value in plain.items() if key != "format"}, found, looks
        )


def describe_run(checkpoint: Checkpoint, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says about a run, from its newest checkpoint."""
    known = checkpoint.manifest
    return {
        "checkpoint": checkpoint.folder.name,
        "git_revision": known["git_revision"],
        "versions": known["versions"],
        "config_sha256": known["config_sha256"],
        "data": {key: known["data"][key] for key in ("asset", "file", "sha256", "interval_s")},
        "chosen": dict(chosen),
    }


def require_run_name(name: str) -> None:
    """Refuse a name that would be hidden, leave its folder, or be unfit for a trace.

    Raises:
        ValueError: naming it.
    """
    require_cell("run", name)
    if name.startswith(".") or set(name) & set("/\\") or len(name.encode()) > _LONGEST_RUN:
        allowed = f"no / or \\, no dot in front, at most {_LONGEST_RUN} bytes"
        raise ValueError(f"run={name!r} is not allowed: {allowed}")


def _carried(path: str, values: Mapping[str, Any]) -> CarriedFile:
    if not is_run_file(path):
        raise ValueError(f"{path!r} is not a file of a run")
    size, digest = values["size"], values["sha256"]
    if type(size) is not int or size < 0 or not _HASH.fullmatch(str(digest)):
        raise ValueError(f"{path}: size {size!r}, sha256 {digest!r}")
    return CarriedFile(size, str(digest))
