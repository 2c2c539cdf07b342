"""The one form of tar that archives of runs have: plain files, one block of 512 bytes before each.

Every tar reads it. What other headers can say (links, devices, folders, sparse files, names that
go on in a header of any length) is neither written nor read, and so needs no defence.
"""

import tarfile

BLOCK = tarfile.BLOCKSIZE
# Two blocks of zeros.
END = bytes(2 * BLOCK)


def make_header(name: str, size: int) -> bytes:
    """The block before a file: the same name and size, the same bytes.

    Raises:
        ValueError: for a name that is too long for it.
    """
    info = tarfile.TarInfo(name)  # no time, no owner
    info.size, info.mode = size, 0o644
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT):  # the second one from 8 GiB on
        try:
            header = info.tobuf(form, "utf-8", "strict")
        except ValueError:
            continue
        if len(header) == BLOCK:
            return header
    raise ValueError(f"{name}: too long a name for an archive; rename the run's folder")


def read_header(block: bytes) -> tuple[str, int]:
    """Name and size of the file that follows a block.

    Raises:
        ValueError: if the block is none of a plain file.
    """
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.TarError, UnicodeError) as error:
        raise ValueError(f"no tar archive, or a damaged one: {error}") from error
    if info.type != tarfile.REGTYPE:
        raise ValueError(f"{info.name!r} is not a plain file (tar type {info.type!r})")
    return info.name, info.size


def padding(size: int) -> int:
    """Zeros after a file of `size` bytes, up to the next block."""
    return -size % BLOCK
