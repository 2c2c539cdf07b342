"""A run on Weights & Biases, or in its files in the run's folder: the only file that imports it."""

import contextlib
import os
import secrets
import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torchrl.record.loggers.wandb import WandbLogger

from pipelines.run_folder import RunFolder
from pipelines.tracking.alerts import Alert
from pipelines.tracking.artifacts import Artifact
from pipelines.tracking.evaluated import Evaluated
from pipelines.tracking.tracking_config import WandbConfig

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
    "host": "",
    "username": "",
    "program": "",
}
_STAGING = "WANDB_DATA_DIR"
_RUN_ID = "WANDB_RUN_ID"


class WandbOutlet:
    """One run of W&B. Steps, its x-axis, are frames.

    Args:
        cfg: where and under which names.
        run: whose folder takes W&B's files.
        config: plain values that the run is known by.
        mode: ``online`` or ``offline``.
        group: runs that are shown together.
        run_id: of the W&B run, which is gone on with if there is one.

    Raises:
        Exception: whatever W&B raises.
    """

    def __init__(
        self,
        cfg: WandbConfig,
        run: RunFolder,
        config: Mapping[str, Any],
        *,
        mode: str,
        group: str,
        run_id: str,
    ) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when it is first imported
        import wandb

        self.wandb, self.folder = wandb, run.path / "wandb"
        if os.environ.get(_RUN_ID):
            # W&B reads it once a process, and in a sweep heeds that more than what it is told here.
            begin_anew()
        settings = wandb.Settings(silent=True, **_PRIVATE, **_RETRIES, **_known_limits(cfg))
        self.logger = WandbLogger(
            run.name,
            # Not offline=True: it would leave the environment changed, for every later run here.
            offline=False,
            save_dir=str(run.path),
            project=cfg.project,
            entity=cfg.entity,
            group=group,
            job_type=cfg.job_type,
            tags=cfg.tags or None,
            config=dict(config),
            mode=mode,
            id=run_id,
            resume="allow",
            log_env_packages=False,
            settings=settings,
        )
        self.experiment = self.logger.experiment

    def log(self, values: Mapping[str, float], frames: int) -> None:
        """Scalars at a number of frames."""
        if self._has(frames):
            return
        self.logger.log_metrics(dict(values), step=frames, override_global_step=True)

    def log_counts(self, counts: Mapping[str, Sequence[int]], frames: int) -> None:
        """Histograms whose bins lie around the whole numbers from 0."""
        if self._has(frames):
            return
        histograms = {
            name: self.wandb.Histogram(
                np_histogram=(np.array(numbers), np.arange(len(numbers) + 1) - 0.5)
            )
            for name, numbers in counts.items()
        }
        self.experiment.log(histograms, step=frames)

    def show(self, evaluated: Evaluated, frames: int) -> None:
        """A table of the closed trades, and the chart of them."""
        if self._has(frames):
            return
        table = self.wandb.Table(dataframe=evaluated.trades())
        chart = self.wandb.Plotly(evaluated.chart().figure)
        name = evaluated.name
        with _staged_in(self.folder):
            self.experiment.log(
                {f"{name}/closed_trades": table, f"{name}/chart": chart}, step=frames
            )

    def alert(self, alert: Alert) -> None:
        """A message, which W&B sends on to whoever has asked for it there."""
        level = "ERROR" if alert.is_fatal else "WARN"
        self.experiment.alert(title=alert.title, text=alert.text, level=level)

    def keep(self, artifacts: Sequence[Artifact]) -> None:
        """Log artifacts; their files are not copied before they are sent."""
        for artifact in artifacts:
            kept = self.wandb.Artifact(artifact.name, artifact.kind, metadata=artifact.about)
            with _staged_in(self.folder):
                for name, path in artifact.files.items():
                    kept.add_file(
                        str(path.resolve()), name=name, policy="immutable", skip_cache=True
                    )
                self.experiment.log_artifact(kept, aliases=artifact.aliases or None)

    def close(self, *, failed: bool) -> None:
        """Send what is left; the run is then finished, or failed."""
        self.experiment.finish(exit_code=int(failed))

    def _has(self, frames: int) -> bool:
        """Whether it has these frames or later ones from before a stop, and would take none."""
        return frames < self.experiment.starting_step


def new_run_id() -> str:
    """The id that an agent of a sweep has given to this process; else a new one."""
    letters = string.ascii_lowercase + string.digits
    return os.environ.get(_RUN_ID) or "".join(secrets.choice(letters) for _ in range(8))


@contextlib.contextmanager
def run_id_of_its_own(name: str) -> Iterator[None]:
    """What begins in this block is one of several runs of a process, whose id all would share.

    Args:
        name: its run's id is the given one, a dash and this; without a given one a new one.
    """
    given = os.environ.get(_RUN_ID)
    if not given:
        yield
        return
    os.environ[_RUN_ID] = f"{given}-{name}"
    try:
        yield
    finally:
        os.environ[_RUN_ID] = given


def begin_anew() -> None:
    """Have W&B begin anew: after a start that failed it holds the run's id to be in use.

    Its process may be gone, as after `end_wandb_process`; it forgets that one all the same.
    """
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown()


def end_wandb_process() -> None:
    """Kill W&B's own process, which does not answer: the end of this one would wait for it.

    W&B has no name for this that is public; one that has another form is left as it is.
    """
    wandb = sys.modules.get("wandb")
    if wandb is None:
        return
    with contextlib.suppress(Exception):
        connection = wandb.setup()._connection
        connection._cleanup()  # what Python is to wait for at its end
        connection._proc._process.kill()
        # Ends a thread that would write to the process that is gone, and say so with a traceback.
        connection._finalizer._queue.put(None)


def _known_limits(cfg: WandbConfig) -> dict[str, Any]:
    """How long W&B itself waits at the end, where the installed one can be told."""
    import wandb

    known = "finish_timeout" in wandb.Settings.model_fields
    return {"finish_timeout": cfg.finish_s} if known else {}


@contextlib.contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Copies that wait to be sent lie in the run's folder, not at home, unless a person says so.

    W&B reads the variable anew for every copy.
    """
    if _STAGING in os.environ:
        yield
        return
    os.environ[_STAGING] = str(folder.resolve())
    try:
        yield
    finally:
        os.environ.pop(_STAGING, None)
