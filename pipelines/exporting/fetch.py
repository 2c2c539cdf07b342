"""An archive brought here from another machine: rsync over ssh, which goes on where it was cut."""

import re
import shutil
import subprocess
from pathlib import Path

from envs.checks import require
from envs.durable import make_writable
from pipelines.exporting.archive_manifest import ArchiveManifest
from pipelines.exporting.unpack import verify_archive
from pipelines.source_error import SourceError

# What neither ssh, nor rsync, nor the other machine's shell can take for anything else.
_SOURCE = re.compile(
    r"(?P<host>(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*)"
    r":(?P<path>(?!//)[A-Za-z0-9/_~.][A-Za-z0-9/_~.+@=,-]*\.tar\.gz)"
)
_PART = ".part"
# A machine that is gone is noticed within a minute.
_SSH = "ssh -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"


def fetch_archive(source: str, into: Path, port: int | None = None) -> tuple[Path, ArchiveManifest]:
    """Bring an archive here and verify it; it appears under its name when it is whole.

    What a broken connection leaves lies beside it, ``.<name>.part``; the same call goes on there.

    Args:
        source: ``[USER@]HOST:PATH`` of the archive; keys and aliases are ssh's own affair.
        into: the folder for it.
        port: of the ssh server; None: as ssh is configured.

    Returns:
        Where it is now, and what it holds.

    Raises:
        FileExistsError: if there is an archive of that name here.
        ValueError: for a source of another form, or an archive that is damaged over there.
        SourceError: if rsync fails, or is not installed.
    """
    found = _SOURCE.fullmatch(source)
    allowed = "[USER@]HOST:PATH of a FILE.tar.gz, in letters, digits and / _ ~ . + @ = , -"
    require(found is not None, "fetch", source, allowed)
    name = source.rpartition(":")[2].rpartition("/")[2]
    path, part = into / name, into / f".{name}{_PART}"
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path}: is there already; nothing is overwritten")
    make_writable(into)
    _transfer(source, part, port)
    try:
        manifest = verify_archive(part)
    except ValueError as error:
        part.unlink()
        raise ValueError(f"{source} is damaged; pack it again: {error}") from error
    part.rename(path)
    return path, manifest


def _transfer(source: str, part: Path, port: int | None) -> None:
    rsync = shutil.which("rsync")
    if rsync is None:
        raise SourceError("rsync is not installed here; bring the file by scp, then verify=FILE")
    ssh = _SSH if port is None else f"{_SSH} -p {port}"
    command = [rsync, "--partial", "--inplace", "--progress", "-e", ssh, "--", source]
    done = subprocess.run(  # noqa: S603 (the source was checked)
        [*command, str(part.resolve())], check=False
    )
    if done.returncode:
        kept = part.stat().st_size if part.is_file() else 0
        raise SourceError(
            f"{source}: rsync ended with {done.returncode}, see above; {kept:,} bytes are kept in "
            f"{part}, and the same command goes on"
        )
