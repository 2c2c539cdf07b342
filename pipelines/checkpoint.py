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

from envs.table import BarTable
from envs.trace_rows import action_values
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
    blobs[_MANIFEST_HASH] = _hash_line(text)
    _write_folder(folder, blobs)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint, verifying every byte before it is looked at.

    Raises:
        FileNotFoundError: if a file is missing, naming it.
        ValueError: if a file is not what was written, naming it, or is of another format.
    """
    text = _read(folder / _MANIFEST)
    if _read(folder / _MANIFEST_HASH) != _hash_line(text):
        raise ValueError(f"{folder / _MANIFEST}: damaged, or {_MANIFEST_HASH} is")
    try:
        return _interpret(folder, json.loads(text))
    except (KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise ValueError(f"{folder}: not a checkpoint of this program: {error!r}") from error


def _interpret(folder: Path, manifest: dict[str, Any]) -> Checkpoint:
    """What a manifest describes; nothing of it is trusted but its hash."""
    if manifest["format"] != FORMAT:
        raise ValueError(f"{folder}: checkpoint of format {manifest['format']}, not {FORMAT}")
    config = restore_config(manifest["config"])
    if action_values(config.env) != manifest["actions"]:
        raise ValueError(f"{folder}: the actions meant something else when it was trained")
    hashes, groups = manifest["files"], manifest["optimizer"]
    model = safetensors.torch.load(_read_verified(folder / _MODEL, hashes[_MODEL]))
    if groups is None:
        return Checkpoint(config, manifest, model, None)
    tensors = safetensors.torch.load(_read_verified(folder / _OPTIMIZER, hashes[_OPTIMIZER]))
    return Checkpoint(config, manifest, model, _join_optimizer(tensors, groups))


def _describe(cfg: RunConfig, table: BarTable) -> dict[str, Any]:
    """What was trained, on what, by which code."""
    meta = table.meta
    return {
        "format": FORMAT,
        "config": dataclasses.asdict(cfg),
        "actions": action_values(cfg.env),
        "features": meta.feature_names,
        "data": {
            "file": meta.source_name,
            "sha256": meta.source_sha256,
            "asset": meta.asset,
            "interval_s": meta.interval_s,
            "splits": {name: list(rows) for name, rows in meta.splits.items()},
        },
        "git_revision": git_revision(),
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in _PACKAGES},
    }


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of their own memory on the CPU, as safetensors wants them."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}


def _split_optimizer(state: dict[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The tensors of an optimiser's state, named ``<parameter>.<name>``, and its plain groups."""
    flat = {
        f"{i}.{name}": value for i, part in state["state"].items() for name, value in part.items()
    }
    return _plain(flat), state["param_groups"]


def _join_optimizer(tensors: dict[str, Tensor], groups: list[dict[str, Any]]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": groups}


def _write_folder(folder: Path, blobs: Mapping[str, bytes]) -> None:
    """Write files into a folder that gets its name only when they are on the disk."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.unfinished")
    try:
        unfinished.mkdir()
        for name, blob in blobs.items():
            with open(unfinished / name, "xb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(unfinished)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system lets a folder be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _hash_line(manifest: bytes) -> bytes:
    return f"{hashlib.sha256(manifest).hexdigest()}  {_MANIFEST}\n".encode()


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the checkpoint lacks this file")
    return path.read_bytes()


def _read_verified(path: Path, expected: str) -> bytes:
    """The bytes of a file whose hash is as the manifest says."""
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != expected:
        raise ValueError(f"{path}: damaged, its sha256 is not the one in {_MANIFEST}")
    return data
