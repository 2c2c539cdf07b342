"""The arrays of a page read back, as its script does."""

import base64
import gzip

import numpy as np


def unpack(packed):
    """The arrays of `pack`, as the page reads them."""
    data, found, at = gzip.decompress(base64.b64decode(packed["data"])), {}, 0
    for name, kind, length in packed["arrays"]:
        size = np.dtype(kind).itemsize
        planes = np.frombuffer(data, np.uint8, size * length, at).reshape(size, length)
        little = np.ascontiguousarray(planes.T).view(np.dtype(kind).newbyteorder("<"))
        found[name] = little.reshape(length).astype(kind)
        at += size * length
    return found


def unzigzag(numbers):
    """The inverse of `zigzag`."""
    wide = numbers.view(np.uint32).astype(np.int64)
    return ((wide >> 1) ^ -(wide & 1)).astype(np.int32)
