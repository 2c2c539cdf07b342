"""An archive of a run, read with suspicion: every byte is counted and hashed before it counts."""

import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from envs.durable import make_writable, new_folder, sync_folder
from pipelines.exporting.archive_manifest import MAX_MANIFEST, ArchiveManifest
from pipelines.exporting.run_files import MANIFEST
from pipelines.exporting.tar_headers import BLOCK, END, padding, read_header
from pipelines.judging.registry import Registry, find_registry

_CHUNK = 1024**2
GB = 1e9


class RunArchive:
    """An archive of a run, whose files are read once, in their order.

    Args:
        path: the file.

    Attributes:
        manifest: what it says it holds; `copy` holds it to that.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no archive of a run, saying why.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        self.path = path
        self._file = gzip.open(path, "rb")  # noqa: SIM115
        try:
            with self._named():
                self.manifest = self._read_manifest()
        except BaseException:
            self._file.close()
            raise

    def copy(self, path: str, write: Callable[[bytes], object] | None = None) -> None:
        """Read the next file, which must be `path`, to its end.

        Args:
            path: the next one of the manifest.
            write: takes its bytes; only when this returns they are known to be the right ones.

        Raises:
            ValueError: if it is another file, or not as the manifest says.
        """
        known = self.manifest.files[path]
        with self._named():
            name, size = read_header(self._exactly(BLOCK))
            if name != f"{self.manifest.run}/{path}":
                raise ValueError(f"{name!r} where {path!r} should be")
            if size != known.size:
                raise ValueError(f"{path} is {size} bytes long, not {known.size}")
        digest, left = hashlib.sha256(), size
        while left:
            with self._named():
                chunk = self._exactly(min(left, _CHUNK))
            digest.update(chunk)
            left -= len(chunk)
            if write is not None:
                write(chunk)
        with self._named():
            if digest.hexdigest() != known.sha256:
                raise ValueError(f"{path} is damaged: its sha256 is not the one in {MANIFEST}")
            self._zeros(padding(size))

    def require_end(self) -> None:
        """Refuse anything after the last file.

        Raises:
            ValueError: if there is, or if the end is missing.
        """
        with self._named():
            self._zeros(len(END))
            if self._file.read(1):
                raise ValueError("there is something after its end")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._file.close()

    def _read_manifest(self) -> ArchiveManifest:
        name, size = read_header(self._exactly(BLOCK))
        run, _, inner = name.partition("/")
        if inner != MANIFEST:
            raise ValueError(f"begins with {name!r} and not with a manifest: no archive of a run")
        if size > MAX_MANIFEST:
            raise ValueError(f"a manifest of {size:,} bytes")
        manifest = ArchiveManifest.from_bytes(self._exactly(size))
        if manifest.run != run:
            raise ValueError(f"of {run!r}, with the manifest of {manifest.run!r}")
        self._zeros(padding(size))
        return manifest

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        while len(data) < size:
            more = self._file.read(size - len(data))
            if not more:
                raise ValueError("cut off")
            data += more
        return data

    def _zeros(self, size: int) -> None:
        if any(self._exactly(size)):
            raise ValueError("something stands where zeros should")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say of which archive it is that something is wrong."""
        try:
            yield
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{self.path}: not an archive, or a damaged one: {error}") from error
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error


def verify_archive(path: Path) -> ArchiveManifest:
    """Read an archive to its end and hold every file to its hash; nothing is written.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if anything is wrong with it, naming what.
    """
    with RunArchive(path) as archive:
        for name in archive.manifest.files:
            archive.copy(name)
        archive.require_end()
        return archive.manifest


@dataclass(frozen=True)
class Unpacked:
    """A run that was unpacked.

    Attributes:
        folder: of the run.
        registry: in which its looks are counted now.
        looks: that came with it.
        fresh: those of them that the registry did not know.
    """

    folder: Path
    registry: Path
    looks: int
    fresh: int


def unpack_archive(path: Path, into: Path, *, limit_gb: float) -> Unpacked:
    """Unpack a run; its folder appears when every file of it is on the disk and verified.

    The looks at held-out bars that came with it are added to the registry here before that.

    Args:
        path: the archive.
        into: where the run's folder is to lie, under the run's name.
        limit_gb: GB that it may hold.

    Raises:
        FileNotFoundError: if there is no such file.
        FileExistsError: if the run is there already.
        ValueError: if anything is wrong with the archive, it holds too much, or the registry of
            looks here is damaged.
        OSError: if the disk refuses, or has no room; nothing is left behind.
    """
    with RunArchive(path) as archive:
        manifest = archive.manifest
        folder = into / manifest.run
        if folder.exists() or folder.is_symlink():
            raise FileExistsError(f"{folder}: is there already; nothing is overwritten")
        if manifest.size > limit_gb * GB:
            found = f"{manifest.size / GB:,.3f} GB"
            raise ValueError(f"{path}: holds {found}, more than limit_gb={limit_gb:g}")
        make_writable(into)
        _require_room(into, manifest.size)
        with new_folder(folder) as unfinished:
            for name in manifest.files:
                _unpack(archive, name, unfinished / name)
            archive.require_end()
            _save(unfinished / MANIFEST, manifest.to_bytes())
            for inner in unfinished.rglob("*/"):
                sync_folder(inner)
            registry = find_registry([folder])
            fresh = Registry(registry).bring(manifest.looks)
    return Unpacked(folder, registry, len(manifest.looks), fresh)


def _unpack(archive: RunArchive, name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:
        archive.copy(name, file.write)
        file.flush()
        os.fsync(file.fileno())


def _save(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _require_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(f"{folder}: {size / 1e6:,.1f} MB to unpack and {free / 1e6:,.1f} MB free")
