"""What an evaluation is told."""

import os
from dataclasses import dataclass, field

from envs.checks import require, require_at_least, require_between, require_one_of
from pipelines.held_out.replay_config import CHECKPOINTS, ReplayDataConfig, require_seed_and_device

DRAWS = 1_000
MODES = ("anchored", "rolling")


@dataclass
class EvaluateConfig:
    """One evaluation on held-out bars: ``python pipelines/evaluate.py run=PATH``.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # One of three: the folder of a run; folders of runs of one configuration with other seeds; or
    # the number of folds of a walk-forward, whose runs are trained first.
    run: str | None = None
    runs: list[str] = field(default_factory=list)
    folds: int | None = None

    # Of a walk-forward. anchored: every fold trains from the first bar on; rolling: on a past of
    # the first fold's length.
    mode: str = "anchored"
    # Share of the bars that the test parts cover, the last ones.
    tail_frac: float = 0.5
    # Seeds of the trainings, one run for each seed and fold.
    seeds: list[int] = field(default_factory=lambda: [0])
    # Words of the training's command line: [model=tiny,total_frames=4096].
    train: list[str] = field(default_factory=list)

    # Other bars than those of the runs; of a walk-forward, those to train and play on.
    data: ReplayDataConfig = field(default_factory=ReplayDataConfig)
    # best on the validation split, or last.
    checkpoint: str = "best"
    # Folder for the results, which an interrupted walk-forward goes on in; null: evaluation/ in the
    # run's folder (evaluation_<market>/ with data.asset), <UTC time>_evaluation/ beside several
    # runs, runs/<UTC time>_walk_forward/.
    out: str | None = None
    # File in which looks at held-out bars are counted; null: openings.jsonl above the runs.
    registry: str | None = None
    # Folders of evaluations of other candidates on the same bars, which the choice was among.
    rivals: list[str] = field(default_factory=list)
    # Random accounts with the policy's own trades, at times that it did not choose.
    draws: int = DRAWS
    # Of these accounts. Nothing that the verdict is decided by is drawn with it.
    seed: int = 0
    # auto (CUDA if there is any), cpu, cuda or cuda:N.
    device: str = "auto"

    def __post_init__(self) -> None:
        told = [bool(self.run), bool(self.runs), self.folds is not None]
        names = [n for n, t in zip(("run", "runs", "folds"), told, strict=True) if t]
        if len(names) != 1:
            raise ValueError(
                "nothing to judge: give one of run=PATH, runs=[PATH,PATH], folds=NUMBER"
                if not names
                else f"{' and '.join(names)} are not allowed together: give one of them"
            )
        self._check_walk_forward()
        if self.registry is not None:  # before a walk-forward trains for hours
            require(not os.path.isdir(self.registry), "registry", self.registry, "a file")
        require_one_of("checkpoint", self.checkpoint, CHECKPOINTS)
        require_at_least("draws", self.draws, 1)
        require_seed_and_device(self.seed, self.device)

    def _check_walk_forward(self) -> None:
        if self.folds is not None:
            require_at_least("folds", self.folds, 1)
        else:
            require(not self.train, "train", self.train, "empty without folds=NUMBER")
        require_one_of("mode", self.mode, MODES)
        require_between("tail_frac", self.tail_frac, 0.01, 0.95)
        require(bool(self.seeds), "seeds", self.seeds, "at least one")
        distinct = len(set(self.seeds)) == len(self.seeds)
        require(distinct, "seeds", self.seeds, "each of them once")
        for seed in self.seeds:
            require_between("seeds", seed, 0, 2**31 - 1)
        distinct = len(set(self.runs)) == len(self.runs)
        require(distinct, "runs", self.runs, "each of them once")
