"""The state of every generator of random numbers that a training may draw from."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """Seed torch's, CUDA's, NumPy's and Python's global generators."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def get_random_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and plain values of torch's, CUDA's, NumPy's and Python's global generators."""
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states = torch.cuda.get_rng_state_all()
        tensors |= {f"cuda{i}": state for i, state in enumerate(states)}
    version, words, gauss = random.getstate()
    _, keys, *rest = np.random.get_state()
    tensors["python"] = torch.tensor(words, dtype=torch.int64)
    tensors["numpy"] = torch.from_numpy(np.asarray(keys, dtype=np.int64))
    return tensors, {"python": [version, gauss], "numpy": [int(rest[0]), int(rest[1]), rest[2]]}


def set_random_state(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Restore what `get_random_state` gave.

    Raises:
        ValueError: if a CUDA device is missing whose generator was saved.
    """
    devices = sorted(name for name in tensors if name.startswith("cuda"))
    if len(devices) > torch.cuda.device_count():
        raise ValueError(f"{len(devices)} CUDA devices were in use; there are fewer here")
    torch.set_rng_state(tensors["torch"])
    for i in range(len(devices)):
        torch.cuda.set_rng_state(tensors[f"cuda{i}"], i)
    version, gauss = values["python"]
    random.setstate((version, tuple(tensors["python"].tolist()), gauss))
    keys = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, *values["numpy"]))
