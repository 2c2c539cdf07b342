"""Numbers that are none: found before they reach the optimiser, named, and kept for a look."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from envs.durable import write_folder
from pipelines.non_finite_error import NonFiniteError


def keep_evidence(error: NonFiniteError, parent: Path) -> Path:
    """Write what an error has to show to a new folder under `parent`, which is returned."""
    folder = parent / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    tensors = {
        name: value.detach().cpu().clone().contiguous() for name, value in error.evidence.items()
    }
    about = json.dumps({"place": str(error)}, indent=2) + "\n"
    blobs = {"tensors.safetensors": safetensors.torch.save(tensors)}
    write_folder(folder, blobs | {"place.json": about.encode()})
    return folder


def refuse_non_finite(batch: TensorDictBase, keys: Sequence[NestedKey]) -> None:
    """Refuse a rollout [..., paths, accounts, T] with entries that are no numbers.

    Raises:
        NonFiniteError: naming the key, and the first place.
    """
    for key in keys:
        value = batch[key]
        finite = value.isfinite()
        if not finite.all():
            at = (~finite).nonzero()[0]
            name = key if isinstance(key, str) else "/".join(key)
            raise NonFiniteError(
                f"non-finite {name} = {value[tuple(at)].item()} at [path, account, step] "
                f"{at[: batch.ndim].tolist()} of the rollout, "
                f"and at {int((~finite).sum()) - 1} more places",
                tensors_of(batch),
            )


def find_non_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Name, value and place of the first entry that is no number; None if there is none."""
    for name, value in tensors.items():
        if value.is_floating_point():
            finite = value.isfinite()
            if not finite.all():
                at = (~finite).nonzero()[0].tolist()
                return f"non-finite {name} = {value[tuple(at)].item()} at {at}"
    return None


def tensors_of(batch: TensorDictBase) -> dict[str, Tensor]:
    """The tensors of a tensordict by their path."""
    flat: Any = batch.flatten_keys("/").items()
    return {str(name): value for name, value in flat if isinstance(value, Tensor)}
