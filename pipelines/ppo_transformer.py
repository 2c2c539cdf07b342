"""Train a transformer trading policy with PPO on bars: ``python pipelines/ppo_transformer.py``.

Any key of the configuration can follow on the command line, ``--help`` lists them:
``env.paths=64 model.d_model=320 total_frames=1000000 seed=404 tag=NAME``. ``resume=auto`` goes on
with a run that was stopped, bit for bit. Exit codes: ``docs/durability.md``.
"""

from pipelines.ending import ENDING

if __name__ == "__main__":
    ENDING.take_signals()

import sys

from pipelines.config import RunConfig, load_config
from pipelines.refusal import plain_failures, plain_refusals

if __name__ == "__main__":
    # Before what loads for seconds: --help and a mistake are answered at once.
    with plain_failures():
        CONFIG = load_config("ppo_transformer", sys.argv[1:])

import logging
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from torchrl.modules import ActorValueOperator

from envs.bar_table import BarTable
from envs.compiled import require_compiler
from envs.factory import make_env
from envs.rules import check_tick
from envs.table import build_table
from envs.trace import TraceWriter
from envs.trace_reader import pack_trace
from envs.workers import watch_workers
from pipelines.checkpoint import Checkpoint, describe
from pipelines.checkpoint_store import CheckpointStore
from pipelines.device import keep_compiled, pick_device
from pipelines.exit_codes import WORKER_LOST
from pipelines.held_out.candidate import SPLIT
from pipelines.held_out.looks import verify_registry
from pipelines.initial_weights import bar_notes, find_initial_weights
from pipelines.model import make_model
from pipelines.random_state import seed_everything
from pipelines.replay import replay
from pipelines.resume import are_others, find_run, inexact_notes, open_run
from pipelines.run_folder import RunFolder
from pipelines.saver import Saver, trace_mark, tracker_mark
from pipelines.source import ROOT, git_revision
from pipelines.tracking.evaluated import baseline_returns, read_replay
from pipelines.tracking.rollout_metrics import rollout_metrics
from pipelines.tracking.torchrl_outlet import require_logger
from pipelines.tracking.tracker import Tracker
from pipelines.training import Training
from pipelines.validation import Validation


def main(cfg: RunConfig, *, is_told: bool = False) -> RunFolder:
    """Bars, environment, policy, collector, learner, logs; then the replay on held-out bars.

    Args:
        cfg: of the run.
        is_told: whether code, folder and bars have been told already, as by a walk-forward.
    """
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    seed_everything(cfg.seed)
    with plain_refusals():
        device = pick_device(cfg.device)
        require_logger(cfg.logger)
        table = build_table(cfg.data, window=cfg.env.window, episode_bars=cfg.env.episode_bars)
        check_tick(table, cfg.env)
        for key, wanted in (("env.compile", cfg.env.compile), ("train.compile", cfg.train.compile)):
            if wanted:
                require_compiler(key, device)
        if cfg.replay.enabled and cfg.replay.split == SPLIT:
            verify_registry(Path(cfg.run.dir or Path(cfg.run.root) / "new"))
        # What goes on has weights of its own, and those that it began with may be gone.
        begins = cfg.init_from if find_run(cfg) is None else None
        initial = find_initial_weights(begins, table, cfg) if begins else None
        model = make_model(cfg.model, cfg.env, table).to(device)
        run, checkpoint = open_run(cfg, table)
        # Of what weights have seen the bars may tell that are replaced now.
        about = describe(cfg, table, checkpoint or initial)
    if not is_told:
        print(f"code: {ROOT}, commit {git_revision()}", f"run folder: {run.path}", sep="\n")
        print(*table.summary_lines(), sep="\n")
    run.replace_bars(table)
    keep_compiled(run.path.parent)

    with ExitStack() as logs:
        tracker = train(cfg, run, table, model, initial, checkpoint, about, logs)
        if cfg.recorder.format == "parquet" and run.trace("train").exists():
            pack_trace(run.trace("train"))
        if cfg.replay.enabled:
            for asset in table.asset_names:
                result = replay(
                    run.path, split=cfg.replay.split, episodes=cfg.replay.episodes, device=device,
                    asset=asset,
                )  # fmt: skip
                replayed = read_replay(run, cfg, asset)
                tracker.show(replayed, baseline_returns(result, replayed.name))
        tracker.keep_files()
    return run


def train(
    cfg: RunConfig,
    run: RunFolder,
    table: BarTable,
    model: ActorValueOperator,
    initial: Checkpoint | None,
    checkpoint: Checkpoint | None,
    about: dict[str, Any],
    logs: ExitStack,
) -> Tracker:
    """Train `model` to the end, from `checkpoint`, else `initial` weights, else from nothing.

    Returns:
        Where the metrics went, open as long as `logs` is.
    """
    device = next(model.parameters()).device
    with ExitStack() as stack:
        env = make_env(
            run.bars,
            cfg.env,
            record_fills=cfg.recorder.enabled,
            device="cpu" if cfg.env.workers else device,
            seed=cfg.seed,
        )
        stack.callback(env.close, raise_if_closed=False)
        with plain_refusals():
            if initial is not None and checkpoint is None:
                initial.load_model_state(model)
                begins = f"beginning with the weights of {initial.folder}"
                print(begins, *bar_notes(initial, table), sep="\n")
            training = Training(cfg, table, env, model)
            if checkpoint is not None:
                others = are_others(checkpoint, cfg, table)
                training.restore(checkpoint.tensors, checkpoint.values, begins_episodes=others)
                begins = f"going on from {checkpoint.folder}, frame {training.frames:,}"
                print(begins, *inexact_notes(checkpoint, cfg, table), sep="\n")
        stack.callback(training.close)
        stack.enter_context(watch_workers(env, partial(ENDING.end, WORKER_LOST)))
        with plain_refusals():
            # Not before the workers: it starts a thread, beside which no process should fork.
            tracker = Tracker(
                run,
                cfg,
                total_frames=training.total_frames,
                about=about,
                resume=None if checkpoint is None else tracker_mark(checkpoint),
            )
            logs.enter_context(tracker)
        if training.frames < training.total_frames:
            iterate(cfg, run, table, training, checkpoint, tracker, about)
    return tracker


def iterate(
    cfg: RunConfig,
    run: RunFolder,
    table: BarTable,
    training: Training,
    checkpoint: Checkpoint | None,
    tracker: Tracker,
    about: dict[str, Any],
) -> None:
    """Every iteration that is left, with trace, logs and checkpoints."""
    with ExitStack() as stack:
        with plain_refusals():
            trace = open_trace(cfg, run, table, checkpoint)
        if trace is not None:
            stack.enter_context(closing(trace))
        store = CheckpointStore(run.checkpoints, about)
        saver = Saver(store, tracker, trace, every_s=cfg.checkpoint.every_s)
        saver.hold(training.snapshot(), on_disk=checkpoint is not None)
        ENDING.set_last_will(saver.leave)
        stack.enter_context(saver.saved_on_error(run.debug))
        validation = Validation(cfg, table, training.model)

        for iteration in training:
            if trace is not None:
                trace.write(iteration.rollout)
            tracker.log({**rollout_metrics(iteration.rollout), **iteration.stats}, iteration.frames)
            tracker.log_actions(iteration.rollout, iteration.frames)
            snapshot = training.snapshot()
            saver.hold(snapshot)
            if saver.is_due or iteration.frames == training.total_frames:
                judged = validation.judge()
                if judged is not None:
                    scores = judged.scores(store.best_score)
                    if judged.evaluated is None:
                        tracker.log(scores, iteration.frames)
                    else:
                        tracker.show(judged.evaluated, scores)
                    saver.hold(snapshot)
                saver.save(None if judged is None else judged.score)


def open_trace(
    cfg: RunConfig, run: RunFolder, table: BarTable, checkpoint: Checkpoint | None
) -> TraceWriter | None:
    """The trace of the training, after what a checkpoint knows of it; None if none is wanted."""
    if not cfg.recorder.enabled:
        return None
    mark = None if checkpoint is None else trace_mark(checkpoint)
    if mark is not None and checkpoint is not None and are_others(checkpoint, cfg, table):
        mark = mark.cut()
    return TraceWriter(
        run.trace("train"),
        table,
        cfg.env,
        run_id=run.name,
        split="train",
        lanes=cfg.recorder.kept_lanes(cfg.env.lanes),
        resume=mark,
    )


if __name__ == "__main__":
    with plain_failures():
        RUN = main(CONFIG)
        if not CONFIG.replay.enabled:  # of the folds of a walk-forward nobody is told so
            print(f"trained, not judged: python pipelines/evaluate.py run={RUN.path}")
