"""A new training that begins with the weights of another one: ``init_from=PATH``."""

from pathlib import Path

from envs.bar_table import BarTable
from pipelines.checkpoint import Checkpoint, load_checkpoint
from pipelines.checkpoint_store import load_newest
from pipelines.config import RunConfig
from pipelines.number_text import duration
from pipelines.resume import network_differences
from pipelines.run_folder import RunFolder, list_checkpoints


def find_initial_weights(path: str | Path, table: BarTable, cfg: RunConfig) -> Checkpoint:
    """The newest checkpoint of a run, or the checkpoint at `path`; its model's state counts.

    Everything else, as the optimiser and the learning rate, begins anew.

    Raises:
        FileNotFoundError: if there is no checkpoint at `path`.
        ValueError: if it is damaged, or was trained on other features or is of another network
            than that of `cfg`, whose shapes may be the same.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such folder")
    folder = RunFolder(Path(path)).checkpoints
    is_run = bool(list_checkpoints(folder))
    checkpoint = load_newest(folder) if is_run else load_checkpoint(Path(path))
    checkpoint.require_features(table.meta.feature_names)
    if found := network_differences(checkpoint.config, cfg):
        raise ValueError(f"{checkpoint.folder} holds another network: {'; '.join(found)}")
    return checkpoint


def bar_notes(initial: Checkpoint, table: BarTable) -> list[str]:
    """That weights and normaliser know bars of another length, if they do: features keep names."""
    known, given = float(initial.manifest["data"]["interval_s"]), table.meta.interval_s
    if known == given:
        return []
    return [f"! they were trained on bars of {duration(known)}, and these are of {duration(given)}"]
