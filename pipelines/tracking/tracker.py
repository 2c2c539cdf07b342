"""Learning curves: a local JSON-lines file always, one more place if wanted, a progress bar.

Nothing here asks a question, and no other place than the local file can stop a run or hold it up.
"""

import dataclasses
import json
import logging
import math
import os
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Self

import torch
from tensordict import TensorDictBase
from torch import Tensor
from tqdm import tqdm

from envs.durable import named, write_file
from envs.trace_schema import action_values
from pipelines.config import RunConfig
from pipelines.non_finite_error import NonFiniteError
from pipelines.refusal import first_line
from pipelines.run_folder import RunFolder
from pipelines.tracking.alerts import Alert, AlertWatch
from pipelines.tracking.artifacts import run_artifacts
from pipelines.tracking.evaluated import Evaluated
from pipelines.tracking.outlet import BackgroundOutlet, Outlet
from pipelines.tracking.rollout_metrics import action_counts
from pipelines.tracking.torchrl_outlet import TorchrlOutlet
from pipelines.tracking.wandb_account import wandb_mode
from pipelines.tracking.wandb_outlet import (
    WandbOutlet,
    begin_anew,
    end_wandb_process,
    new_run_id,
)

_LOG = logging.getLogger(__name__)
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class TrackerMark(NamedTuple):
    """How far the logs of a run have come."""

    frames: int
    size: int  # bytes of metrics.jsonl
    wandb_id: str | None


class Tracker:
    """Where a run's metrics go; the x-axis is frames.

    Writes ``config.json`` at once and a line of ``metrics.jsonl`` for every `log`. The files of
    W&B, TensorBoard, CSV and trackio lie in the run's folder too.

    Args:
        run: the run's folder.
        cfg: the whole configuration; `cfg.logger` says what takes part besides the local file.
        total_frames: length of the progress bar, which shows on a terminal only.
        about: from `pipelines.checkpoint.describe`: hashes, versions and data go along.
        resume: go on after this mark: later lines are cut off, and the W&B run is the same one.

    Raises:
        OSError: if a file cannot be written.
        ValueError: if the lines that the mark counts on are not there.
    """

    def __init__(
        self,
        run: RunFolder,
        cfg: RunConfig,
        *,
        total_frames: int,
        about: Mapping[str, Any] = _NOTHING,
        resume: TrackerMark | None = None,
    ) -> None:
        config = dataclasses.asdict(cfg)
        write_file(run.path / "config.json", (json.dumps(config, indent=2) + "\n").encode())
        mode = "wb" if resume is None else "ab"
        self._file = run.path / "metrics.jsonl"
        self._lines = open(self._file, mode)  # noqa: SIM115 - until it is closed with the run
        if resume is not None:
            self._cut(resume.size)
        self._bar = tqdm(
            total=total_frames,
            initial=resume.frames if resume else 0,
            unit=" frames",
            disable=None,
            dynamic_ncols=True,
        )
        self._end_bar()
        self._shown: dict[str, str] = {}
        self._frames = resume.frames if resume else 0
        self._watch = AlertWatch(cfg.alerts)
        self._choices = {head: len(values) for head, values in action_values(cfg.env).items()}
        self._run, self._cfg = run, cfg
        self._failed = False
        mode = wandb_mode(cfg.wandb.mode) if cfg.logger == "wandb" else "disabled"
        self._wandb_id: str | None = None
        if mode != "disabled":
            self._wandb_id = (resume.wandb_id if resume else None) or new_run_id()
        self._outlet = self._open_outlet(config | _provenance(about), mode, resume)

    @property
    def mark(self) -> TrackerMark:
        """Where the files stand now."""
        return TrackerMark(self._frames, self._lines.tell(), self._wandb_id)

    def sync(self) -> None:
        """Make durable what has been logged."""
        if not self._lines.closed:
            os.fsync(self._lines.fileno())

    def log(self, metrics: Mapping[str, float | Tensor], frames: int) -> None:
        """Record scalars at a number of frames, and warn of those that call for it.

        Args:
            metrics: by name, as ``train/approx_kl``; tensors hold one element, and come to the CPU
                together. What is not finite is null in the file.
            frames: trained on so far, never less than before.
        """
        values = _to_floats(metrics)
        line = {name: v if math.isfinite(v) else None for name, v in values.items()}
        text = json.dumps({"frames": frames} | line, allow_nan=False) + "\n"
        with named(self._file):
            self._lines.write(text.encode())
            self._lines.flush()
        self._frames = frames
        if self._outlet is not None:
            self._outlet.log(values, frames)
        for alert in self._watch.look(values, frames):
            self.alert(alert)
        for label, name in (("return", "rollout/ep_rew_mean"), ("sps", "time/sps")):
            if name in values:
                self._shown[label] = f"{values[name]:.4g}"
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update(frames - self._bar.n)
        self._end_bar()

    def log_actions(self, rollout: TensorDictBase, frames: int) -> None:
        """Histograms of the actions of a rollout; the local file has none of them."""
        if self._outlet is not None:
            self._outlet.log_counts(action_counts(rollout, self._choices), frames)

    def show(self, evaluated: Evaluated, more: Mapping[str, float] = _NOTHING) -> None:
        """An evaluation of the policy as it stands.

        Args:
            evaluated: its figures are logged, and its trades where they can be shown.
            more: scalars of it.
        """
        self.log({**more, **evaluated.scalars}, self._frames)
        if self._outlet is not None:
            self._outlet.show(evaluated, self._frames)

    def alert(self, alert: Alert) -> None:
        """Tell a person, on the terminal and by way of W&B."""
        _LOG.warning("%s: %s", alert.title, alert.text)
        if self._outlet is not None:
            self._outlet.alert(alert)

    def keep_files(self) -> None:
        """Log the finished run's model, data and trace as artifacts, as far as they are wanted."""
        if self._outlet is None or self._wandb_id is None:
            return
        try:
            self._outlet.keep(run_artifacts(self._run, self._cfg.wandb.artifacts))
        except (ValueError, OSError) as error:  # the run has ended well without them
            _LOG.warning("no artifacts: %s", first_line(error))

    def close(self) -> None:
        """End what takes part and close the file; a second call does nothing."""
        if self._lines.closed:
            return
        self._bar.close()
        os.fsync(self._lines.fileno())
        self._lines.close()
        if self._outlet is not None:
            self._outlet.close(failed=self._failed)

    def leave(self) -> None:
        """Send on what has been logged, as far as that takes a moment: the process ends now."""
        if self._outlet is not None:
            self._outlet.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._failed = error is not None
        if isinstance(error, NonFiniteError):
            self.alert(Alert("stopped by a number that is none", str(error), is_fatal=True))
        self.close()

    def _open_outlet(
        self, config: Mapping[str, Any], mode: str, resume: TrackerMark | None
    ) -> BackgroundOutlet | None:
        """What takes part besides the local file, if anything does."""
        cfg = self._cfg
        if self._wandb_id is not None:
            start = partial(_start_wandb, cfg, self._run, config, mode, self._wandb_id)
            return BackgroundOutlet(
                "W&B", start, finish_s=cfg.wandb.finish_s, abandon=end_wandb_process
            )
        if cfg.logger in ("wandb", "none"):
            return None
        frames = 0 if resume is None else resume.frames
        other = partial(TorchrlOutlet, cfg.logger, self._run, config, frames)
        return BackgroundOutlet(cfg.logger, other, finish_s=cfg.wandb.finish_s)

    def _end_bar(self) -> None:
        """The last line of the bar, before anything that follows the training is printed."""
        if self._bar.total and self._bar.n >= self._bar.total:
            self._bar.close()

    def _cut(self, size: int) -> None:
        there = self._lines.tell()
        if there < size:
            self._lines.close()
            raise ValueError(
                f"{self._lines.name}: {there} bytes long, and the checkpoint counts on {size}"
            )
        self._lines.truncate(size)
        self._lines.seek(0, os.SEEK_END)


def _start_wandb(
    cfg: RunConfig, run: RunFolder, config: Mapping[str, Any], mode: str, run_id: str
) -> Outlet:
    """W&B as it is wanted; offline if it cannot be reached."""
    start = partial(
        WandbOutlet, cfg.wandb, run, config, group=cfg.wandb.group or cfg.tag, run_id=run_id
    )
    if mode == "online":
        try:
            return start(mode=mode)
        except Exception as error:  # whatever it is, it must not stop the run
            _LOG.warning("W&B cannot start online, staying offline: %s", first_line(error))
            begin_anew()
    return start(mode="offline")


def _provenance(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is known by, beside its configuration."""
    keys = ("config_sha256", "data", "features", "git_revision", "threads", "versions")
    known = {key: about[key] for key in keys if key in about}
    return {"provenance": known} if known else {}


def _to_floats(metrics: Mapping[str, float | Tensor]) -> dict[str, float]:
    """All values as floats, in their order, with one transfer for the tensors of a device."""
    devices = {value.device for value in metrics.values() if torch.is_tensor(value)}
    numbers: dict[str, float] = {}
    for device in devices:
        tensors = {
            name: value.detach().double().reshape(())
            for name, value in metrics.items()
            if torch.is_tensor(value) and value.device == device
        }
        numbers |= zip(tensors, torch.stack(list(tensors.values())).tolist(), strict=True)
    return {k: numbers[k] if k in numbers else float(v) for k, v in metrics.items()}
