"""Curves and histograms by TorchRL's own loggers: TensorBoard, CSV files, trackio."""

import importlib
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torchrl.record.loggers import Logger
from torchrl.record.loggers.csv import CSVLogger
from torchrl.record.loggers.tensorboard import TensorboardLogger
from torchrl.record.loggers.trackio import TrackioLogger

from envs.durable import write_file
from pipelines.run_folder import RunFolder
from pipelines.tracking.alerts import Alert
from pipelines.tracking.artifacts import Artifact
from pipelines.tracking.evaluated import Evaluated

# Of those that are not installed with this project.
_PACKAGES = {"tensorboard": "tensorboard", "trackio": "trackio"}
_PROJECT = "pricetaker"
_TRACKIO_DIR = "TRACKIO_DIR"


def require_logger(name: str) -> None:
    """Refuse a logger whose package is missing.

    Raises:
        ValueError: saying how to install it.
    """
    package = _PACKAGES.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ValueError(
            f"logger={name} needs the package {package}: pip install -e '.[{package}]'"
        )


class TorchrlOutlet:
    """Scalars and histograms; trades, files and alerts go nowhere from here.

    Args:
        name: ``tensorboard``, ``csv`` or ``trackio``.
        run: its folder takes the files: ``tensorboard/``, ``csv/``, ``trackio/``.
        config: plain values to be kept beside the curves.
        frames: where a run goes on; 0: at its beginning.
    """

    def __init__(
        self, name: str, run: RunFolder, config: Mapping[str, Any], frames: int = 0
    ) -> None:
        self.name = name
        if name == "csv":  # which a run may have begun that was killed before its first checkpoint
            cut_csv(run.path / name / "scalars", frames)
        self.logger = _START[name](run)
        if name == "tensorboard":
            self.logger.experiment.add_text(
                "config", f"```json\n{json.dumps(config, indent=2)}\n```"
            )
        else:
            self.logger.log_hparams(dict(config))

    def log(self, values: Mapping[str, float], frames: int) -> None:
        """Scalars at a number of frames."""
        self.logger.log_metrics(dict(values), step=frames)

    def log_counts(self, counts: Mapping[str, Sequence[int]], frames: int) -> None:
        """Histograms over the whole numbers from 0; CSV files hold none."""
        if self.name == "csv":
            return
        for name, numbers in counts.items():
            data = np.repeat(np.arange(len(numbers)), numbers)
            edges: Any = np.arange(len(numbers) + 1) - 0.5
            bins = edges if self.name == "tensorboard" else len(numbers)
            self.logger.log_histogram(name, data, step=frames, bins=bins)

    def show(self, evaluated: Evaluated, frames: int) -> None:
        """Nothing: these loggers know no charts and tables in common."""

    def alert(self, alert: Alert) -> None:
        """Nothing: nobody is told but by the terminal."""

    def keep(self, artifacts: Sequence[Artifact]) -> None:
        """Nothing: the run's folder has them."""

    def close(self, *, failed: bool) -> None:
        """Write what is left."""
        self.logger.shutdown()


def cut_csv(folder: Path, frames: int) -> None:
    """Drop the lines beyond `frames`, and a replay's: a resumed run writes them again."""
    for path in folder.rglob("*.csv"):
        # It comes after the last checkpoint, at as many frames.
        is_replay = path.relative_to(folder).parts[0].startswith("replay")
        lines = [] if is_replay else path.read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and int(line.split(",")[0]) <= frames]
        write_file(path, "".join(kept).encode())


def _start_tensorboard(run: RunFolder) -> Logger:
    return TensorboardLogger("tensorboard", str(run.path))


def _start_csv(run: RunFolder) -> Logger:
    return CSVLogger("csv", str(run.path))


def _start_trackio(run: RunFolder) -> Logger:
    """Trackio in the run's folder, unless a person says where; by default it is the home folder.

    Raises:
        RuntimeError: if trackio writes elsewhere since an earlier run of this process.
    """
    if _TRACKIO_DIR in os.environ:
        return _trackio_logger(run)
    folder = run.path.resolve() / "trackio"
    os.environ[_TRACKIO_DIR] = str(folder)
    try:
        used = importlib.import_module("trackio.utils").TRACKIO_DIR
        # Trackio reads the variable once a process, at its import.
        if Path(used) != folder:
            raise RuntimeError(
                f"trackio keeps to the folder of this process's first run, {used}: start another "
                f"process for {run.name}, or name one folder for all runs in {_TRACKIO_DIR}"
            )
        return _trackio_logger(run)
    finally:
        os.environ.pop(_TRACKIO_DIR, None)


def _trackio_logger(run: RunFolder) -> Logger:
    return TrackioLogger(run.name, _PROJECT, auto_log_gpu=False, auto_log_cpu=False)


_START = {"tensorboard": _start_tensorboard, "csv": _start_csv, "trackio": _start_trackio}
