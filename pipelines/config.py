"""What a program is told: typed configurations, composed by Hydra, changed on the command line.

The dataclasses hold names, types, defaults and checks; the YAML files in ``configs/`` hold only
what differs. A script composes the dataclasses directly and needs no Hydra.
"""

import io
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast, overload

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from envs.checks import require, require_at_least, require_between, require_one_of
from envs.config import EnvConfig
from envs.data_config import SPLITS, DataConfig
from envs.timeframes import timeframe_seconds
from modules.config import ModelConfig
from pipelines.auditing.audit_config import AuditConfig
from pipelines.benchmarks.benchmark_config import BenchmarkConfig
from pipelines.config_help import help_text
from pipelines.exporting.export_config import ExportConfig
from pipelines.held_out.evaluate_config import EvaluateConfig
from pipelines.held_out.replay_config import ReplayConfig, require_seed_and_device
from pipelines.loss_config import LossConfig
from pipelines.market_data.check_config import CheckConfig
from pipelines.market_data.download_config import DownloadConfig
from pipelines.overrides import list_keys, list_presets, parse_overrides, refuse_unplain
from pipelines.reporting.report_config import ReportConfig
from pipelines.run_insights.insights_config import InsightsConfig
from pipelines.tracking.tracking_config import LOGGERS, AlertConfig, WandbConfig
from pipelines.train_config import TrainConfig, check_minibatch, sequence_length

RESUMES = ("none", "auto", "changed")
TRACE_FORMATS = ("csv", "parquet")
_EMBEDDED_INTERVAL_S = 15 * 60
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass
class RunDirConfig:
    """Where a run keeps its files."""

    # Folder of all runs.
    root: str = "runs"
    # Folder of this run, new or empty; null: <root>/<UTC time>_<tag>.
    dir: str | None = None


@dataclass
class RecorderConfig:
    """The trace of the training's actions.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    enabled: bool = True
    # Lanes to record, whole, spread over the paths; null: all.
    lanes: int | None = None
    # csv, or parquet: smaller, and made of the CSV file when the training has ended.
    format: str = "csv"

    def __post_init__(self) -> None:
        if self.lanes is not None:
            require_at_least("recorder.lanes", self.lanes, 1)
        require_one_of("recorder.format", self.format, TRACE_FORMATS)

    def kept_lanes(self, num_lanes: int) -> list[int] | None:
        """Numbers of the lanes to record out of `num_lanes`, evenly spread; None: all."""
        if self.lanes is None or self.lanes >= num_lanes:
            return None
        return [i * num_lanes // self.lanes for i in range(self.lanes)]


@dataclass
class CheckpointConfig:
    """When checkpoints are written, and which of them is the best.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # Seconds between two checkpoints on the disk, counted at the end of an iteration; 0: every one.
    every_s: float = 300.0
    # Tiles of the validation split that judge each checkpoint, the first ones; 0: none is judged.
    val_episodes: int = 8

    def __post_init__(self) -> None:
        require_between("checkpoint.every_s", self.every_s, 0.0, 86_400.0)
        require_at_least("checkpoint.val_episodes", self.val_episodes, 0)


@dataclass
class FinalReplayConfig:
    """The replay on held-out bars with which a training ends.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    enabled: bool = True
    # train, val or test.
    split: str = "test"
    # Tiles of env.episode_bars to play, the first ones; null: all of the split.
    episodes: int | None = None

    def __post_init__(self) -> None:
        require_one_of("replay.split", self.split, SPLITS)
        if self.episodes is not None:
            require_at_least("replay.episodes", self.episodes, 1)


@dataclass
class RunConfig:
    """One training run: ``python pipelines/ppo_transformer.py``.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # Name of the run's purpose, part of its folder's name: letters, digits, . _ -
    tag: str = "ppo"
    seed: int = 0
    # auto (CUDA if there is any), cpu, cuda or cuda:N.
    device: str = "auto"
    # Frames to train on, rounded up to whole rollouts; a frame is one step of one lane.
    total_frames: int = 61_440
    # none: a new run. auto: go on with run.dir, or the newest run of this tag, if it has a
    # checkpoint; a changed configuration or file of bars is refused. changed: it is not.
    resume: str = "none"
    # Folder of a run, or of one of its checkpoints, whose weights a new run begins with.
    init_from: str | None = None
    # Where curves go besides metrics.jsonl: wandb, tensorboard, csv, trackio or none.
    logger: str = "wandb"
    run: RunDirConfig = field(default_factory=RunDirConfig)
    data: DataConfig = field(default_factory=DataConfig)
    env: EnvConfig = field(default_factory=EnvConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    recorder: RecorderConfig = field(default_factory=RecorderConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    alerts: AlertConfig = field(default_factory=AlertConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    replay: FinalReplayConfig = field(default_factory=FinalReplayConfig)

    def __post_init__(self) -> None:
        allowed = "1 to 64 letters, digits, . _ or -, the first a letter or digit"
        require(bool(_TAG.fullmatch(self.tag)), "tag", self.tag, allowed)
        require_seed_and_device(self.seed, self.device)
        require_at_least("total_frames", self.total_frames, 1)
        require_one_of("resume", self.resume, RESUMES)
        require_one_of("logger", self.logger, LOGGERS)
        check_minibatch(
            self.train,
            accounts=self.env.accounts,
            lanes=self.env.lanes,
            sequence=self.sequence_length,
        )
        interval = self.data.interval
        own_bars = self.data.path or self.data.assets or self.data.synthetic.market
        fits = own_bars or not interval or timeframe_seconds(interval) == _EMBEDDED_INTERVAL_S
        require(
            bool(fits),
            "data.interval",
            interval,
            "the embedded bars are 15 minutes long; give a file with other bars (data.path=FILE), "
            "or take the preset for the embedded ones (env=btcusd_15m)",
        )

    @property
    def sequence_length(self) -> int:
        """Consecutive bars of a path that are trained on together."""
        return sequence_length(self.train, self.model.encoder, self.env.episode_bars)


class _Program(NamedTuple):
    """A runnable file of ``pipelines/``, its configuration and what may be chosen by name."""

    config: type
    schema: str
    groups: tuple[str, ...]


_PROGRAMS = {
    "ppo_transformer": _Program(
        RunConfig, "run_schema", ("experiment", "env", "data", "model", "train")
    ),
    "replay": _Program(ReplayConfig, "replay_schema", ()),
    "evaluate": _Program(EvaluateConfig, "evaluate_schema", ()),
    "report": _Program(ReportConfig, "report_schema", ()),
    "export": _Program(ExportConfig, "export_schema", ()),
    "insights": _Program(InsightsConfig, "insights_schema", ()),
    "benchmark": _Program(BenchmarkConfig, "benchmark_schema", ()),
    "audit": _Program(AuditConfig, "audit_schema", ("env",)),
    "download": _Program(DownloadConfig, "download_schema", ()),
    "check_data": _Program(CheckConfig, "check_schema", ("env",)),
}


@overload
def load_config(program: Literal["ppo_transformer"], argv: Sequence[str]) -> RunConfig: ...
@overload
def load_config(program: Literal["replay"], argv: Sequence[str]) -> ReplayConfig: ...
@overload
def load_config(program: Literal["evaluate"], argv: Sequence[str]) -> EvaluateConfig: ...
@overload
def load_config(program: Literal["report"], argv: Sequence[str]) -> ReportConfig: ...
@overload
def load_config(program: Literal["export"], argv: Sequence[str]) -> ExportConfig: ...
@overload
def load_config(program: Literal["insights"], argv: Sequence[str]) -> InsightsConfig: ...
@overload
def load_config(program: Literal["benchmark"], argv: Sequence[str]) -> BenchmarkConfig: ...
@overload
def load_config(program: Literal["audit"], argv: Sequence[str]) -> AuditConfig: ...
@overload
def load_config(program: Literal["download"], argv: Sequence[str]) -> DownloadConfig: ...
@overload
def load_config(program: Literal["check_data"], argv: Sequence[str]) -> CheckConfig: ...
def load_config(program: str, argv: Sequence[str]) -> Any:
    """The configuration of a program from its command line, or the end of the program.

    ``--help`` prints every key and exits with 0; a mistake prints one line and exits with 2.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A sign that a terminal does not know must not end a training that has come to its end.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if {"--help", "-h"} & set(argv):
            print(_help(program, [word for word in argv if word not in ("--help", "-h")]))
            raise SystemExit(0)
        return compose_config(program, argv)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def compose_config(program: str, argv: Sequence[str]) -> Any:
    """The configuration of a program: defaults, presets, then the words, of which the last wins.

    Args:
        program: the name of a runnable file in ``pipelines/``.
        argv: words ``KEY=VALUE`` or ``GROUP=PRESET``.

    Raises:
        ValueError: for an unknown key (with the keys that come near it), or a value of the wrong
            type or out of range, naming the key, the value and what is allowed.
    """
    return OmegaConf.to_object(_compose(program, argv))


def restore_config(values: Mapping[str, Any]) -> RunConfig:
    """The configuration that ``dataclasses.asdict`` once turned into plain values, checked again.

    Raises:
        ValueError: for an unknown key, a wrong type, or a value out of range.
    """
    refuse_unplain(values, list_keys(RunConfig))
    try:
        merged = OmegaConf.merge(OmegaConf.structured(RunConfig), dict(values))
    except OmegaConfBaseException as error:
        raise ValueError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    return cast(RunConfig, OmegaConf.to_object(merged))


def _compose(program: str, argv: Sequence[str]) -> DictConfig:
    spec = _PROGRAMS[program]
    words = parse_overrides(argv, list_keys(spec.config), list_presets(spec.groups))
    ConfigStore.instance().store(name=spec.schema, node=spec.config)
    with initialize_config_module("configs", version_base="1.3"):
        composed = compose(program, overrides=[f"{k}={v}" for k, v in words.presets.items()])
    for key, value in words.values.items():
        OmegaConf.update(composed, key, value, merge=False)
    return composed


def _help(program: str, argv: Sequence[str]) -> str:
    """Every preset and key, with the values that the command line would give."""
    spec = _PROGRAMS[program]
    values = OmegaConf.to_container(_compose(program, argv))
    return help_text(program, spec.config, cast(dict[str, Any], values), list_presets(spec.groups))
