"""Learning curves: a local JSON-lines file always, Weights & Biases, a progress bar.

The only file that knows W&B. Nothing here asks a question, and nothing that W&B does stops a run:
at the first failure it is said once, and the run goes on without.
"""

import dataclasses
import json
import logging
import math
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlparse

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.record.loggers.wandb import WandbLogger
from tqdm import tqdm

from pipelines.config import RunConfig, WandbConfig
from pipelines.run_folder import RunFolder

_LOG = logging.getLogger(__name__)
# Without these limits an unreachable server holds up the start of a run for 90 s, its end for ever.
_RETRIES: dict[str, Any] = {
    "init_timeout": 20,
    "login_timeout": 5,
    **{f"x_{part}_retry_max": 5 for part in ("graphql", "file_stream", "file_transfer")},
    **{
        f"x_{part}_retry_wait_max_seconds": 5
        for part in ("graphql", "file_stream", "file_transfer")
    },
}
# What W&B would otherwise collect: output, code, command line, host, packages, machine load.
_PRIVATE: dict[str, Any] = {
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


class TrackerMark(NamedTuple):
    """How far the logs of a run have come."""

    frames: int
    size: int  # bytes of metrics.jsonl
    wandb_id: str | None


class Tracker:
    """Where a run's metrics go; the x-axis is frames.

    Writes ``config.json`` at once and a line of ``metrics.jsonl`` for every `log`. W&B's own files
    lie in the run's folder too.

    Args:
        run: the run's folder.
        cfg: the whole configuration; `cfg.wandb` says whether W&B takes part.
        total_frames: length of the progress bar, which shows on a terminal only.
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
        resume: TrackerMark | None = None,
    ) -> None:
        config = dataclasses.asdict(cfg)
        (run.path / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        mode = "wb" if resume is None else "ab"
        self._lines = open(run.path / "metrics.jsonl", mode)  # noqa: SIM115
        if resume is not None:
            self._cut(resume.size)
        self._bar = tqdm(
            total=total_frames,
            initial=resume.frames if resume else 0,
            unit=" frames",
            disable=None,
            dynamic_ncols=True,
        )
        self._shown: dict[str, str] = {}
        self._frames = resume.frames if resume else 0
        self._wandb = start_wandb(cfg.wandb, run, config, resume.wandb_id if resume else None)

    @property
    def mark(self) -> TrackerMark:
        """Where the files stand now."""
        run_id = None if self._wandb is None else str(self._wandb.experiment.id)
        return TrackerMark(self._frames, self._lines.tell(), run_id)

    def sync(self) -> None:
        """Make durable what has been logged."""
        if not self._lines.closed:
            os.fsync(self._lines.fileno())

    def _cut(self, size: int) -> None:
        there = self._lines.tell()
        if there < size:
            self._lines.close()
            raise ValueError(
                f"{self._lines.name}: {there} bytes long, and the checkpoint counts on {size}"
            )
        self._lines.truncate(size)
        self._lines.seek(0, os.SEEK_END)

    def log(self, metrics: Mapping[str, float | Tensor], frames: int) -> None:
        """Record scalars at a number of frames.

        Args:
            metrics: by name, as ``train/approx_kl``; tensors hold one element, and come to the CPU
                together. What is not finite is null in the file.
            frames: trained on so far, never less than before.
        """
        values = _to_floats(metrics)
        line = {name: v if math.isfinite(v) else None for name, v in values.items()}
        text = json.dumps({"frames": frames} | line, allow_nan=False) + "\n"
        self._lines.write(text.encode())
        self._lines.flush()
        self._frames = frames
        self._log_to_wandb(values, frames)
        for label, name in (("return", "rollout/ep_rew_mean"), ("sps", "time/sps")):
            if name in values:
                self._shown[label] = f"{values[name]:.4g}"
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update(frames - self._bar.n)

    def close(self) -> None:
        """End the W&B run and close the file; a second call does nothing."""
        if self._lines.closed:
            return
        self._bar.close()
        os.fsync(self._lines.fileno())
        self._lines.close()
        if self._wandb is not None:
            try:
                self._wandb.experiment.finish()
            except Exception as error:  # whatever it is, the run has ended well
                _LOG.warning("W&B could not end its run: %s", _first_line(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def _log_to_wandb(self, values: dict[str, float], frames: int) -> None:
        if self._wandb is None:
            return
        try:
            self._wandb.log_metrics(values, step=frames, override_global_step=True)
        except Exception as error:  # whatever it is, it must not stop the run
            _LOG.warning("W&B failed, going on without it: %s", _first_line(error))
            self._wandb = None


def rollout_metrics(rollout: TensorDictBase) -> dict[str, Tensor]:
    """What the episodes of a rollout were like, under the names of stable-baselines3.

    Args:
        rollout: [..., T] with ``episode_reward``, ``step_count``, ``terminated`` and ``truncated``,
            each [..., T, 1], in ``next``.

    Returns:
        Scalars. Means over the episodes that ended within the rollout; none if none did.
    """
    after = rollout["next"]
    metrics = {"rollout/reward_mean": after["reward"].mean()}
    done = after["terminated"] | after["truncated"]
    if done.any():
        metrics["rollout/ep_rew_mean"] = after["episode_reward"][done].mean()
        metrics["rollout/ep_len_mean"] = after["step_count"][done].double().mean()
        metrics["rollout/ruin_share"] = after["terminated"][done].double().mean()
    return metrics


def wandb_mode(wanted: str) -> str:
    """The mode that W&B is started in: never one that would ask for an account.

    ``auto`` heeds the variable WANDB_MODE, and is online only if there is an account. So is
    ``online``, with a warning if there is none.
    """
    if wanted in ("offline", "disabled"):
        return wanted
    variable = os.environ.get("WANDB_MODE", "").lower()
    if wanted == "auto" and variable in ("offline", "dryrun", "disabled"):
        return "disabled" if variable == "disabled" else "offline"
    if _has_account():
        return "online"
    if wanted == "online":
        _LOG.warning("wandb.mode=online, but there is no account (`wandb login`): staying offline")
    return "offline"


def start_wandb(
    cfg: WandbConfig, run: RunFolder, config: dict[str, Any], run_id: str | None = None
) -> WandbLogger | None:
    """Start a W&B run in the run's folder; offline if it cannot be reached, None if disabled.

    With `run_id` that run is gone on with.
    """
    mode = wandb_mode(cfg.mode)
    modes = {"online": ("online", "offline"), "offline": ("offline",), "disabled": ()}[mode]
    for attempt in modes:
        try:
            return _start(cfg, run, config, attempt, run_id)
        except Exception as error:  # whatever it is, it must not stop the run
            _LOG.warning("W&B cannot start %s: %s", attempt, _first_line(error))
    return None


def _start(
    cfg: WandbConfig, run: RunFolder, config: dict[str, Any], mode: str, run_id: str | None
) -> WandbLogger:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when it is first imported
    import wandb

    before = os.environ.get("WANDB_MODE")
    try:
        return WandbLogger(
            run.name,
            offline=mode == "offline",
            save_dir=str(run.path),
            project=cfg.project,
            entity=cfg.entity,
            config=config,
            mode=mode,
            id=run_id,
            resume=None if run_id is None else "allow",
            log_env_packages=False,
            settings=wandb.Settings(silent=True, **_PRIVATE, **_RETRIES),
        )
    finally:  # the logger leaves it changed, for every later run of this process
        os.environ.pop("WANDB_MODE", None)
        if before is not None:
            os.environ["WANDB_MODE"] = before


def _has_account() -> bool:
    """Whether W&B would find a key by itself, in its variable or in a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    named = os.environ.get("NETRC")
    places = [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    for place in places:
        try:
            if netrc.netrc(place).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
