"""Arrays as text, as a page carries them."""

import numpy as np
import pytest

from pipelines.reporting.packed_arrays import pack, zigzag
from unpacked_arrays import unpack, unzigzag


@pytest.mark.parametrize("kind", ["uint8", "int32", "float32", "float64"])
def test_packed_arrays_come_back(kind):
    numbers = np.random.default_rng(0).integers(0, 200, 1_001).astype(kind)
    found = unpack(pack({"a": numbers, "none": numbers[:0], "b": numbers[::2].copy()}))
    assert list(found) == ["a", "none", "b"]
    assert found["a"].dtype == kind
    assert np.array_equal(found["a"], numbers)
    assert np.array_equal(found["b"], numbers[::2])


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(ValueError, match=r"x: int64\[3\] cannot be packed"):
        pack({"x": np.arange(3)})


def test_zigzag_makes_small_numbers_of_small_ones_and_is_undone():
    numbers = np.array([0, -1, 1, -2, 2, 2**30, -(2**30), 2**31 - 1, -(2**31)])
    assert zigzag(numbers)[:5].tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(unzigzag(zigzag(numbers)), numbers)
