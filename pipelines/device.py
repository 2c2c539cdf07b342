"""Where a program computes, and where it keeps what it compiled for that."""

import hashlib
import os
from pathlib import Path

import torch
from torch.compiler import config as compiler

import modules
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

    A place that the user has chosen (``TORCHINDUCTOR_CACHE_DIR``) stays. For torch an operation of
    our own is its name: what was compiled of one with another gradient would be taken for it, so
    that the files of the network are a part of what is looked up.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder.resolve() / ".compiled"))
    chosen = os.environ.get("TORCH_COMPILE_CACHE_KEY_TAG", "")
    compiler.cache_key_tag = chosen + digest(Path(modules.__file__).parent)


def digest(folder: Path) -> str:
    """Of the Python files in a folder, their names and what they say."""
    files = sorted(folder.glob("*.py"))
    told = [f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()
