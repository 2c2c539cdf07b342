"""Checkpoints: safetensors and JSON under hashes, written whole or not at all, never executed.

A checkpoint is a folder: a ``.safetensors`` file for each group of tensors (``model`` always),
``manifest.json`` (what was trained, on what, by which code, and the hash of each file) and
``manifest.sha256``. ``sha256sum -c manifest.sha256`` checks the manifest by hand.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from envs.bar_table import BarTable
from envs.durable import write_folder
from envs.trace_schema import action_values
from pipelines.config import RunConfig, restore_config
from pipelines.run_folder import RunFolder
from pipelines.seen_times import Seen, require_seen, seen_times
from pipelines.source import git_revision

FORMAT = 2
MODEL = "model"
_TENSORS = ".safetensors"
_MANIFEST, _MANIFEST_HASH = "manifest.json", "manifest.sha256"
_PACKAGES = ("torch", "torchrl", "tensordict", "safetensors", "numpy")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint, on the CPU.

    Attributes:
        folder: where it lies.
        config: the resolved configuration of the run.
        manifest: everything else that was written down, as plain values.
        tensors: by group and name.
    """

    folder: Path
    config: RunConfig
    manifest: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]

    @property
    def model(self) -> dict[str, Tensor]:
        """The model's state dict, the normaliser included."""
        return self.tensors[MODEL]

    @property
    def values(self) -> dict[str, Any]:
        """The plain values that it was saved with."""
        return self.manifest["values"]

    @property
    def sha256(self) -> str:
        """The hash of its manifest, which holds those of its files: what a result can name."""
        return _read(self.folder / _MANIFEST_HASH).decode().split()[0]

    def load_model_state(self, model: nn.Module) -> None:
        """Copy weights and normaliser into a model built from the same configuration.

        Raises:
            ValueError: if a parameter is missing, left over or of another shape, or holds a number
                that is none, naming it. A policy of such numbers takes index 0 of each head, and
                would be judged as one that is always short.
        """
        broken = [name for name, value in self.model.items() if not value.isfinite().all()]
        if broken:
            raise ValueError(f"{self.folder}: {broken[0]} holds numbers that are none")
        try:
            model.load_state_dict(self.model)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip()
            raise ValueError(f"{self.folder}: holds another network: {first}") from error

    def require_features(self, names: Sequence[str]) -> None:
        """Refuse a table whose columns are not, in order, those that the policy was trained on.

        Raises:
            ValueError: naming those that are missing, and those that it does not know.
        """
        known = self.manifest["features"]
        if list(names) == known:
            return
        missing = [name for name in known if name not in names]
        unknown = [name for name in names if name not in known]
        kinds = (("missing are", missing), ("unknown to it are", unknown))
        found = [f"{what} {', '.join(some)}" for what, some in kinds if some]
        what = "; ".join(found) or "they stand in another order"
        raise ValueError(f"{self.folder}: trained on other features: {what}")


def save_checkpoint(
    folder: Path,
    *,
    about: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    values: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint: it appears under its name complete and on the disk, or not at all.

    Args:
        folder: the checkpoint, which must not exist yet.
        about: from `describe`.
        tensors: groups by name, ``model`` among them; they may live on any device.
        values: plain values to remember.

    Raises:
        FileExistsError: if there is something at `folder`.
        OSError: if the disk refuses; nothing is left behind.
    """
    if folder.exists():
        raise FileExistsError(f"{folder}: there is a checkpoint already")
    blobs = {
        group + _TENSORS: safetensors.torch.save(
            {name: value.detach().cpu().contiguous() for name, value in named.items()}
        )
        for group, named in tensors.items()
    }
    hashes = {name: hashlib.sha256(blob).hexdigest() for name, blob in blobs.items()}
    manifest = {**about, "values": dict(values or {}), "files": hashes}
    text = (json.dumps(manifest, indent=2, allow_nan=False) + "\n").encode()
    write_folder(folder, blobs | {_MANIFEST: text, _MANIFEST_HASH: _hash_line(text)})


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
    except (
        *(KeyError, TypeError, AttributeError, RecursionError),
        safetensors.SafetensorError,
    ) as error:
        raise ValueError(f"{folder}: not a checkpoint of this program: {error!r}") from error


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint can be read, every byte as it was written."""
    try:
        load_checkpoint(folder)
    except (ValueError, OSError):
        return False
    return True


def _interpret(folder: Path, manifest: dict[str, Any]) -> Checkpoint:
    """What a manifest describes; nothing of it is trusted but its hash."""
    if manifest["format"] != FORMAT:
        raise ValueError(f"{folder}: checkpoint of format {manifest['format']}, not {FORMAT}")
    try:
        config = restore_config(manifest["config"])
    except ValueError as error:
        raise ValueError(f"{folder}: its configuration is not of this version: {error}") from error
    if action_values(config.env) != manifest["actions"]:
        raise ValueError(f"{folder}: the actions meant something else when it was trained")
    if "seen" in manifest:  # what is older than this does not say
        require_seen(manifest["seen"])
    tensors = {
        name.removesuffix(_TENSORS): safetensors.torch.load(_read_verified(folder, name, digest))
        for name, digest in manifest["files"].items()
    }
    if MODEL not in tensors:
        raise KeyError(MODEL)
    if None in (manifest["features"], manifest["values"], manifest["data"]["interval_s"]):
        raise TypeError("features, values or data.interval_s: null")
    return Checkpoint(folder, config, manifest, tensors)


def describe(cfg: RunConfig, table: BarTable, before: Checkpoint | None = None) -> dict[str, Any]:
    """What was trained, on what, by which code.

    Args:
        cfg: the run's configuration.
        table: the bars.
        before: whose weights the training began with, or goes on with.
    """
    meta, config = table.meta, dataclasses.asdict(cfg)
    plain = json.dumps(config, sort_keys=True).encode()
    data: dict[str, Any] = {
        "file": meta.source_name,
        "sha256": meta.source_sha256,
        "asset": meta.asset,
        "interval_s": meta.interval_s,
        "splits": {name: list(rows) for name, rows in meta.splits.items()},
    }
    if meta.assets is not None:
        data["assets"] = {
            part.asset: {"sha256": part.source_sha256, "rows": list(part.rows)}
            | {"splits": {name: list(rows) for name, rows in part.splits.items()}}
            for part in meta.assets
        }
    return {
        "format": FORMAT,
        "config": config,
        "config_sha256": hashlib.sha256(plain).hexdigest(),
        "actions": action_values(cfg.env),
        "features": meta.feature_names,
        "data": data,
        "seen": seen_times(table, None if before is None else seen_by(before)),
        "git_revision": git_revision(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in _PACKAGES},
    }


def seen_by(checkpoint: Checkpoint) -> Seen | None:
    """The times that weights have seen; None if nobody can tell.

    A checkpoint of before they were written down has seen the bars of its run, if these are there.

    Raises:
        ValueError: if these are damaged, naming the file.
    """
    known = checkpoint.manifest.get("seen")
    if known is not None:
        return known
    try:
        return seen_times(BarTable.load(RunFolder(checkpoint.folder.resolve().parents[1]).bars))
    except FileNotFoundError:
        return None


def _hash_line(manifest: bytes) -> bytes:
    return f"{hashlib.sha256(manifest).hexdigest()}  {_MANIFEST}\n".encode()


def _read(path: Path) -> bytes:
    if path.is_symlink() or path.parent.is_symlink():
        raise ValueError(f"{path}: a symbolic link; a checkpoint is a folder of plain files")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the checkpoint lacks this file")
    return path.read_bytes()


def _read_verified(folder: Path, name: str, expected: str) -> bytes:
    """The bytes of a file whose hash is as the manifest says."""
    if Path(name).name != name or not name.endswith(_TENSORS):
        raise ValueError(f"{folder / _MANIFEST}: {name!r} is not the name of a file of tensors")
    data = _read(folder / name)
    if hashlib.sha256(data).hexdigest() != expected:
        raise ValueError(f"{folder / name}: damaged, its sha256 is not the one in {_MANIFEST}")
    return data
