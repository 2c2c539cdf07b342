"""A run packed into one file with the looks that are known: the same run, the same bytes."""

import gzip
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from envs.durable import make_writable, new_file
from pipelines.checkpoint import load_checkpoint
from pipelines.exporting.archive_manifest import (
    ArchiveManifest,
    CarriedFile,
    describe_run,
    require_run_name,
)
from pipelines.exporting.run_files import MANIFEST, Choice, held_still, list_run_files
from pipelines.exporting.tar_headers import END, make_header, padding
from pipelines.judging.registry import Registry, find_registry

_CHUNK = 1024**2
_LEVEL = 6


@dataclass(frozen=True)
class Packed:
    """An archive that was made.

    Attributes:
        path: where it is.
        manifest: what it holds.
        strange: paths in the run's folder that were left there, as no files of a run.
    """

    path: Path
    manifest: ArchiveManifest
    strange: list[str]


def pack_run(run: Path, out: Path | None = None, choice: Choice | None = None) -> Packed:
    """Pack a run that nobody writes to; the archive appears under its name whole, or not at all.

    Every file is read twice, for its hash and into the archive, and must be the same both times.

    Args:
        run: its folder.
        out: the archive, which must not exist yet; None: beside the run, ``<name>.tar.gz``.
        choice: what to take; None: all but the files of Weights & Biases.

    Raises:
        FileNotFoundError: if there is no such run, or it has no checkpoint.
        FileExistsError: if there is something at `out`.
        BlockingIOError: if the run is being trained.
        ValueError: if no checkpoint is whole, a name is unfit, a file changed meanwhile, or the
            registry of looks is damaged.
        OSError: if the disk refuses; nothing is left behind.
    """
    chosen = choice or Choice()
    name = run.resolve().name
    require_run_name(name)
    path = out or run.resolve().parent / f"{name}.tar.gz"
    _require_free(path)
    with held_still(run):
        files = list_run_files(run, chosen)
        about = describe_run(load_checkpoint(files.checkpoints[-1]), asdict(chosen))
        looks = Registry(find_registry([run])).carried()
        manifest = ArchiveManifest(name, about, {p: _measure(run / p) for p in files.taken}, looks)
        make_writable(path.parent)
        with new_file(path) as file:
            with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed:
                _write(packed.write, run, manifest)
            _require_free(path)
    return Packed(path, manifest, files.strange)


def _write(write: Callable[[bytes], object], run: Path, manifest: ArchiveManifest) -> None:
    text = manifest.to_bytes()
    write(make_header(f"{manifest.run}/{MANIFEST}", len(text)) + text + bytes(padding(len(text))))
    for path, known in manifest.files.items():
        write(make_header(f"{manifest.run}/{path}", known.size))
        digest, size = hashlib.sha256(), 0
        for chunk in _chunks(run / path):
            digest.update(chunk)
            size += len(chunk)
            write(chunk)
        if CarriedFile(size, digest.hexdigest()) != known:
            raise ValueError(f"{run / path}: changed while it was packed; try again")
        write(bytes(padding(size)))
    write(END)


def _measure(path: Path) -> CarriedFile:
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(path):
        digest.update(chunk)
        size += len(chunk)
    return CarriedFile(size, digest.hexdigest())


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _require_free(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path}: is there already; nothing is overwritten")
