"""Checkpoints: safetensors and JSON under hashes, written whole or not at all, never executed.

A checkpoint is a folder: ``model.safetensors`` (weights and normaliser), ``optimizer.safetensors``,
``manifest.json`` (what was trained, on what, by which code, and the hash of each file) and
``manifest.sha256``. ``sha256sum -c manifest.sha256`` checks the manifest by hand.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from envs.checks import require
from envs.config import EnvConfig
from envs.table import BarTable
from pipelines.config import RunConfig, restore_config
from pipelines.source import git_revision

FORMAT = 1
_MODEL, _OPTIMIZER = "model.safetensors", "optimizer.safetensors"
_MANIFEST, _MANIFEST_HASH = "manifest.json", "manifest.sha256"
_PACKAGES = ("torch", "torchrl", "tensordict", "safetensors", "numpy")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint, on the CPU.

    Attributes:
        config: the resolved configuration of the run.
        manifest: everything else that was written down, as plain values.
        model: the model's state dict, the normaliser included.
        optimizer: the optimiser's state dict; None if none was saved.
    """

    config: RunConfig
    manifest: dict[str, Any]
    model: dict[str, Tensor]
    optimizer: dict[str, Any] | None

    def load_model_state(self, model: nn.Module) -> None:
        """Copy weights and normaliser into a model built from the same configuration.

        Raises:
            ValueError: if a parameter is missing, left over or of another shape, naming it.
        """
        try:
            model.load_state_dict(self.model)
        except RuntimeError as error:
            raise ValueError(f"the checkpoint holds another network: {error}") from error

    def require_features(self, names: Sequence[str]) -> None:
        """Refuse a table whose columns are not, in order, those that the policy was trained on.

        Raises:
            ValueError: naming both.
        """
        known = self.manifest["features"]
        if list(names) != known:
            raise ValueError(f"the policy was trained on the features {known}, not {list(names)}")


def save_checkpoint(
    folder: Path,
    *,
    model: nn.Module,
    cfg: RunConfig,
    table: BarTable,
    optimizer: torch.optim.Optimizer | None = None,
    counters: Mapping[str, int] | None = None,
) -> None:
    """Write a checkpoint: it appears under its name complete and on the disk, or not at all.

    Args:
        folder: the checkpoint, which must not exist yet.
        model: its state dict is saved.
        cfg: the resolved configuration.
        table: the market that was trained on.
        optimizer: its state dict is saved.
        counters: whole numbers to remember, such as the frames trained on.

    Raises:
        FileExistsError: if there is something at `folder`.
        OSError: if the disk refuses; nothing is left behind.
    """
    if folder.exists():
        raise FileExistsError(f"{folder}: there is a checkpoint already")
    blobs = {_MODEL: safetensors.torch.save(_plain(model.state_dict()))}
    manifest = _describe(cfg, table) | {"counters": dict(counters or {}), "optimizer": None}
    if optimizer is not None:
        tensors, manifest["optimizer"] = _split_optimizer(optimizer.state_dict())
        blobs[_OPTIMIZER] = safetensors.torch.save(tensors)
    manifest["files"] = {name: hashlib.sha256(blob).hexdigest() for name, blob in blobs.items()}
    text = (json.dumps(manifest, indent=2, allow_nan=False) + "\n").encode()
    blobs[_MANIFEST] = text
    blobs[_MANIFEST_HASH] = f"{hashlib.sha256(text).hexdigest()}  {_MANIFEST}\n".encode()
    _write_folder(folder, blobs)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint, verifying every byte before it is looked at.

    Raises:
        FileNotFoundError: if a file is missing, naming it.
        ValueError: if a file is not what was written, naming it, or is of another format.
    """
    text = _read(folder / _MANIFEST)
    _require_hash(folder / _MANIFEST, text, folder / _MANIFEST_HASH)
    manifest = json.loads(text)
    if manifest["format"] != FORMAT:
        raise ValueError(f"{folder}: checkpoint of format {manifest['format']}, not {FORMAT}")
    tensors = {
        name: safetensors.torch.load(_read_verified(folder / name, manifest["files"][name]))
        for name in (_MODEL, _OPTIMIZER)
        if name in manifest["files"]
    }
    optimizer = manifest["optimizer"]
    if optimizer is not None:
        optimizer = _join_optimizer(tensors[_OPTIMIZER], optimizer)
    return Checkpoint(restore_config(manifest["config"]), manifest, tensors[_MODEL], optimizer)
