"""Edge, or luck? A run, several seeds, or a walk-forward on held-out bars, judged by a fixed rule.

``python pipelines/evaluate.py run=runs/NAME``; ``runs=[PATH,PATH]``: seeds of one configuration;
``folds=6 seeds=[0,1] train=[model=tiny]``: a walk-forward, which trains. Writes the look at the
bars into a registry before it looks, then ``evaluation.json`` with everything that was found, the
curves and the traces. ``docs/evaluation.md`` says what the numbers mean, ``docs/verdict.md`` the
rule.
"""

from pipelines.ending import ENDING

if __name__ == "__main__":
    ENDING.take_signals()

import sys

from pipelines.config import EvaluateConfig, load_config
from pipelines.refusal import plain_failures, plain_refusals

if __name__ == "__main__":
    # Before what loads for seconds: --help and a mistake are answered at once.
    with plain_failures():
        CONFIG = load_config("evaluate", sys.argv[1:])

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from envs.assets import asset_folder
from envs.checks import require
from envs.durable import make_writable, sweep_unfinished
from pipelines.fold_training import WalkForward, plan_runs, train_all, untrained
from pipelines.folder_lock import lock_folder
from pipelines.held_out.candidate import Candidate, load_candidate
from pipelines.held_out.evaluate_config import DRAWS
from pipelines.held_out.evaluation import Evaluation
from pipelines.held_out.evaluation_files import EVALUATION
from pipelines.held_out.evaluation_text import as_text
from pipelines.held_out.judgement import Settings, judge_candidate
from pipelines.held_out.opened_bars import open_bars
from pipelines.judging.registry import find_registry
from pipelines.report import write_report
from pipelines.source import ROOT, git_revision


def main(cfg: EvaluateConfig) -> Evaluation:
    """Train what is to be trained, write the look down, look, judge; write and print the result."""
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    with plain_refusals():
        folder = choose_folder(cfg)
        plan = None if cfg.folds is None else _plan(cfg, folder)
        if plan is None:
            candidate = _load_runs(cfg, folder)
        make_writable(folder)
        lock = lock_folder(folder, "another evaluation is writing here; wait, or out=PATH")
        sweep_unfinished(folder)
    try:
        if plan is not None:
            candidate = _train_folds(cfg, plan, folder)
        return _judge(cfg, candidate, folder)
    finally:
        lock.release()


def _judge(cfg: EvaluateConfig, candidate: Candidate, folder: Path) -> Evaluation:
    """Of a candidate that is trained, in a folder that nobody else writes to."""
    settings = Settings(cfg.draws, cfg.seed, tuple(cfg.rivals))
    with plain_refusals():
        registry = Path(cfg.registry) if cfg.registry else default_registry(cfg, folder)
        opened = open_bars(candidate, registry, folder, settings.rivals)
    evaluation = judge_candidate(candidate, opened, folder, settings)
    evaluation.save(folder)
    print(as_text(evaluation, folder), folder / EVALUATION, write_report(folder), sep="\n")
    return evaluation


def evaluate(
    runs: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    registry: str | Path | None = None,
    draws: int = DRAWS,
    device: str = "auto",
) -> Evaluation:
    """Judge runs of one configuration with different seeds, as the program does.

    Args:
        runs: their folders.
        out: folder for the results; None: as in the program.
        registry: file in which looks are counted; None: as in the program.
        draws: random accounts with the policy's own trades.
        device: where to compute.

    Raises:
        SystemExit: with code 2, for runs that cannot be judged; the reason is printed.
    """
    paths = [str(path) for path in runs]
    one = paths[0] if len(paths) == 1 else None
    return main(
        EvaluateConfig(
            run=one,
            runs=[] if one else paths,
            out=None if out is None else str(out),
            registry=None if registry is None else str(registry),
            draws=draws,
            device=device,
        )
    )


def choose_folder(cfg: EvaluateConfig) -> Path:
    """Where the results go; a link is followed only if a person has named it."""
    if cfg.out:
        return Path(cfg.out).resolve() if Path(cfg.out).is_symlink() else Path(cfg.out)
    if cfg.run:
        of_asset = "" if cfg.data.asset is None else f"_{asset_folder(cfg.data.asset)}"
        return Path(cfg.run) / f"evaluation{of_asset}"
    kind = "evaluation" if cfg.folds is None else "walk_forward"
    root = Path(cfg.runs[0]).parent if cfg.runs else Path("runs")
    return root / f"{datetime.now(UTC):%Y%m%d-%H%M%S}_{kind}"


def default_registry(cfg: EvaluateConfig, folder: Path) -> Path:
    """The registry above the runs, or above the folder of a walk-forward."""
    runs = [cfg.run] if cfg.run else cfg.runs
    return find_registry([Path(run) for run in runs] or [folder])


def _load_runs(cfg: EvaluateConfig, folder: Path) -> Candidate:
    runs = [cfg.run] if cfg.run else cfg.runs
    return load_candidate(
        folder.resolve().name if cfg.run is None else Path(cfg.run).resolve().name,
        [[path] for path in runs],
        data_path=cfg.data.path,
        checkpoint=cfg.checkpoint,
        device=cfg.device,
        asset=cfg.data.asset,
    )


def _plan(cfg: EvaluateConfig, folder: Path) -> WalkForward:
    own = any(word.startswith("device=") for word in cfg.train)
    words = [*cfg.train, *([] if own else [f"device={cfg.device}"])]
    if cfg.data.path is not None:
        words.append(f"data.path={cfg.data.path}")
    if cfg.data.asset is not None:
        words.append(f"data.asset={cfg.data.asset}")
    plan = plan_runs(
        words,
        folder=folder / "runs",
        folds=int(cfg.folds or 0),
        mode=cfg.mode,
        tail_frac=cfg.tail_frac,
        seeds=cfg.seeds,
    )
    if cfg.checkpoint == "best":
        episodes = plan.runs[0][0].checkpoint.val_episodes
        what = "at least 1: the best checkpoint is chosen on validation (or checkpoint=last)"
        require(episodes > 0, "train=[checkpoint.val_episodes]", episodes, what)
    return plan


def _train_folds(cfg: EvaluateConfig, plan: WalkForward, folder: Path) -> Candidate:
    with plain_refusals():
        runs = untrained(plan)
    if runs:
        print(f"code: {ROOT}, commit {git_revision()}", *plan.lines, sep="\n")
    train_all(runs)
    with plain_refusals():
        return load_candidate(
            folder.resolve().name,
            plan.folders(),
            checkpoint=cfg.checkpoint,
            device=cfg.device,
            folds=plan.describe(),
        )


if __name__ == "__main__":
    with plain_failures():
        main(CONFIG)
