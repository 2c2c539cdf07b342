"""Where a program computes, and where it keeps what it compiled for that."""

import os
from pathlib import Path

import torch

from envs.checks import require


def pick_device(name: str) -> torch.device:
    """The device that `device=` names; ``auto`` takes a CUDA device if there is one.

    Raises:
        ValueError: for a name that torch does not know, or a device that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    allowed = "auto, cpu, cuda or cuda:N, on a machine that has it"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device={name!r} is not allowed: {allowed}") from error
    require(device.type in ("cpu", "cuda"), "device", name, allowed)
    if device.type == "cuda":
        found = torch.cuda.device_count()
        require((device.index or 0) < found, "device", name, f"{allowed} (found {found})")
    return device


def keep_compiled(folder: Path) -> None:
    """Let torch keep compiled kernels in `folder`: a pod that starts again does not compile again.

    A place that the user has chosen (``TORCHINDUCTOR_CACHE_DIR``) stays.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder.resolve() / ".compiled"))
