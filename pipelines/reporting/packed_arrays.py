"""Typed arrays in a page: compressed, as text, and unpacked again by the browser."""

import base64
import gzip
from collections.abc import Mapping
from typing import Any

import numpy as np

TYPES = ("uint8", "int32", "float32", "float64")


def pack(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Arrays as one text.

    The bytes of an array are stored plane by plane, the lowest of every number first: the high ones
    of small numbers are all alike, and cost nothing once they are compressed.

    Args:
        arrays: one-dimensional, of the `TYPES`, by name.

    Returns:
        ``arrays``: name, type and length of each, in order; ``data``: base64 of the gzip of their
        bytes, without any gap.

    Raises:
        ValueError: for another type or shape.
    """
    planes = []
    for name, values in arrays.items():
        if str(values.dtype) not in TYPES or values.ndim != 1:
            raise ValueError(f"{name}: {values.dtype}{list(values.shape)} cannot be packed")
        little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        size = (len(values), values.dtype.itemsize)
        planes.append(little.view(np.uint8).reshape(size).T.tobytes())
    text = base64.b64encode(gzip.compress(b"".join(planes), 6, mtime=0)).decode("ascii")
    layout = [[name, str(values.dtype), len(values)] for name, values in arrays.items()]
    return {"arrays": layout, "data": text}


def zigzag(numbers: np.ndarray) -> np.ndarray:
    """Signed numbers as small unsigned ones, 0, -1, 1, -2 as 0, 1, 2, 3; int32 by their bits."""
    wide = numbers.astype(np.int64)
    return ((wide << 1) ^ (wide >> 63)).astype(np.uint32).view(np.int32)
