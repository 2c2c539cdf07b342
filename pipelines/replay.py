"""Replay a trained policy on held-out bars: ``python pipelines/replay.py run=runs/NAME``.

``data.path=FILE`` replays other bars than the run's own, ``data.asset=NAME`` one market of a run of
several; ``split=`` and ``episodes=`` choose which,
``beside=[runs/OTHER]`` plays more policies over the same tiles. Writes the trace of every action,
the result beside its baselines, and a page to look at. ``actions=FILE`` plays a trace again.
"""

from pipelines.ending import end_plainly

if __name__ == "__main__":
    end_plainly()

import sys

from pipelines.config import ReplayConfig, load_config
from pipelines.refusal import plain_failures, plain_refusals

if __name__ == "__main__":
    # Before what loads for seconds: --help and a mistake are answered at once.
    with plain_failures():
        CONFIG = load_config("replay", sys.argv[1:])

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from envs.durable import make_writable
from envs.trace import TraceWriter
from envs.trace_reader import read_trace
from pipelines.exit_codes import ERROR
from pipelines.held_out.baselines import RANDOM_ACCOUNTS, buy_and_hold, measure_baselines
from pipelines.held_out.live_policy import make_live_policy
from pipelines.held_out.looks import open_replay
from pipelines.held_out.page import write_page
from pipelines.held_out.replay_actions import replay_actions
from pipelines.held_out.replay_inputs import Inputs, load_beside, load_inputs, require_distinct
from pipelines.held_out.result import POLICY, Replayed, Result, as_text
from pipelines.held_out.rollout import Policy, Rollout, evaluation_config, play_tiles
from pipelines.held_out.sampled_policy import SampledPolicy
from pipelines.held_out.ties import describe_partings, partings
from pipelines.judging.metrics import in_order, measure
from pipelines.judging.registry import find_registry
from pipelines.rollout_policy import RolloutPolicy
from pipelines.run_folder import RunFolder


@dataclass(frozen=True)
class Manner:
    """How a policy is played; the fields are those of `ReplayConfig`."""

    bulk: bool = True
    live_like: bool = False
    sampled: bool = False
    seed: int = 0


_AS_JUDGED = Manner()


def main(cfg: ReplayConfig) -> Result | None:
    """Load what the command line names, replay it, print the result.

    Raises:
        SystemExit: with 2 for input that cannot be replayed; with 1 if a policy that saw one bar at
            a time decided otherwise, and not by a tie.
    """
    if cfg.actions is not None:
        replay_actions(cfg)
        return None
    with plain_refusals():
        inputs = load_inputs(
            cfg.run, data_path=cfg.data.path, split=cfg.split, episodes=cfg.episodes,
            device=cfg.device, checkpoint=cfg.checkpoint, asset=cfg.data.asset,
        )  # fmt: skip
        beside = [load_beside(path, inputs, cfg.checkpoint) for path in cfg.beside]
        require_distinct([inputs, *beside])
        folder = Path(cfg.out) if cfg.out else inputs.folder
        make_writable(folder)
        _look(inputs, beside, Path(cfg.registry) if cfg.registry else None)
    manner = Manner(cfg.bulk, cfg.live_like, cfg.sampled, cfg.seed)
    return play(inputs, folder, manner=manner, beside=beside)


def replay(
    run_dir: str | Path,
    *,
    data_path: str | None = None,
    split: str = "test",
    episodes: int | None = None,
    device: torch.device | str = "auto",
    checkpoint: str = "last",
    asset: str | None = None,
) -> Result:
    """Replay a run's policy into the run's own folder, or one in it for each of several markets.

    Args:
        run_dir: folder of the run.
        data_path: a file of bars; None: the bars that the run was trained on.
        split: ``train``, ``val`` or ``test``.
        episodes: at most so many tiles; None: all.
        device: where to compute.
        checkpoint: ``last``, or ``best`` on the validation split.
        asset: which of the run's markets, or the name of what `data_path` holds.

    Raises:
        FileNotFoundError: if the run lacks its checkpoint or its bars.
        ValueError: if the checkpoint is damaged, the bars do not fit the policy, or the registry of
            looks at test bars is damaged; if the run has several markets and none is named.
        OSError: if the folder cannot be written.
    """
    inputs = load_inputs(
        run_dir, data_path=data_path, split=split, episodes=episodes, device=device,
        checkpoint=checkpoint, asset=asset,
    )  # fmt: skip
    make_writable(inputs.folder)
    _look(inputs)
    return play(inputs, inputs.folder)


def _look(inputs: Inputs, beside: Sequence[Inputs] = (), registry: Path | None = None) -> None:
    """Write down who is about to look at test bars, and say whether they had been looked at.

    It is said here and not in the result, which is the same however often it is made.
    """
    book = registry or find_registry([inputs.run.path])
    for sentence in open_replay([inputs, *beside], book):
        print(sentence)


def play(
    inputs: Inputs,
    folder: Path,
    *,
    manner: Manner = _AS_JUDGED,
    beside: Sequence[Inputs] = (),
) -> Result:
    """Play policies and baselines over the tiles; write and print what came of it.

    Writes ``replay_actions.csv`` and ``.json`` (for each other policy ``replay_<run>_actions``),
    ``result.json`` and ``replay.html``.

    Args:
        inputs: what is replayed.
        folder: where the files go; it must exist.
        manner: how.
        beside: other policies.

    Raises:
        SystemExit: with 1 if a policy that saw one bar at a time decided otherwise.
    """
    table, cfg, bounds = inputs.table, inputs.cfg, inputs.bounds
    played = [_play(inputs, manner, RunFolder(folder).trace("replay"))]
    for other in beside:
        trace = RunFolder(folder).trace(f"replay_{other.run.name}")
        played.append(_play(other, manner, trace, prefix=f"{other.run.name}: "))
    rows = {name: p.rows for name, p in zip(_names(beside), played, strict=True)}
    hold = in_order(buy_and_hold(table, cfg, bounds))
    baselines, interval = measure_baselines(
        table, cfg, bounds, device=inputs.device, seed=manner.seed
    )
    result = Result(
        replayed=Replayed.describe(
            hold, table.meta, run=inputs.run.name, split=inputs.split, tiles=len(bounds)
        ),
        metrics={**{name: measure(each, cfg) for name, each in rows.items()}, **baselines},
        random_interval=interval,
        random_accounts=RANDOM_ACCOUNTS,
        notes=[note for p in played for note in p.notes],
        remarks=[remark for p in played for remark in p.remarks],
        beside=[other.run.name for other in beside],
        checkpoint={"iteration": inputs.checkpoint.name, "sha256": inputs.checkpoint_sha256},
    )
    result.save(folder / "result.json")
    write_page(folder / "replay.html", result, rows, hold, cfg)
    print(f"{as_text(result)}\n{folder / 'replay.html'}")
    if not all(p.is_same_live for p in played):
        raise SystemExit(ERROR)
    return result


@dataclass(frozen=True)
class _Played:
    """One policy over the tiles: its trace, doubts, what else was found; was it the same live?"""

    rows: pd.DataFrame
    notes: list[str]
    remarks: list[str]
    is_same_live: bool


def _play(inputs: Inputs, manner: Manner, trace: Path, prefix: str = "") -> _Played:
    """Play one policy and write its trace."""
    table, cfg, bounds = inputs.table, inputs.cfg, inputs.bounds

    def rollout_of(policy: Policy) -> Rollout:
        return play_tiles(table, cfg, bounds, policy, bulk=manner.bulk, device=inputs.device)

    notes, same = list(inputs.notes), True
    remarks: list[str] = []
    if manner.sampled:
        rollout = rollout_of(SampledPolicy(inputs.model, manner.seed))
        notes.append(f"{prefix}Actions were drawn, seed {manner.seed}: another seed earns other.")
    elif manner.live_like:
        bulk = rollout_of(RolloutPolicy(inputs.model, with_logits=True))
        live = rollout_of(make_live_policy(inputs.model))
        found = partings(bulk, live)
        same = all(parting.is_tie for parting in found)
        told = remarks if same else notes
        told.append(prefix + describe_partings(found, int(live.alive.sum())))
        rollout = live
    else:
        rollout = rollout_of(inputs.policy)
    played = evaluation_config(cfg, len(bounds))
    with TraceWriter(trace, table, played, run_id=inputs.run.name, split=inputs.split) as writer:
        writer.write(rollout.batch, rollout.alive)
    return _Played(in_order(read_trace(trace)), notes, remarks, same)


def _names(beside: Sequence[Inputs]) -> list[str]:
    """Of the policies in a result: the first is ``policy``."""
    return [POLICY, *(other.run.name for other in beside)]


if __name__ == "__main__":
    with plain_failures():
        main(CONFIG)
