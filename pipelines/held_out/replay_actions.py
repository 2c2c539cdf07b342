"""``replay.py actions=FILE``: a trace's own actions, played again; its accounts must come out."""

import sys
from pathlib import Path

from envs.bar_table import BarTable
from pipelines.checkpoint_store import load_newest
from pipelines.exit_codes import ERROR
from pipelines.held_out.recorded import Recording, first_difference, play_recording
from pipelines.held_out.replay_config import ReplayConfig
from pipelines.held_out.replay_inputs import load_bars_of
from pipelines.refusal import plain_refusals
from pipelines.run_folder import RunFolder


def replay_actions(cfg: ReplayConfig) -> None:
    """Play a trace again and say that every row is the same, or which is the first that is not.

    The bars are those of ``data.path``, read as the run's were, or the run's own (of ``data.asset``
    alone, for the replay of one market of several); the run is ``run``, or the folder of the trace.

    Raises:
        SystemExit: with 1 if a row differs, with 2 if trace and bars do not belong together.
    """
    with plain_refusals():
        path = Path(cfg.actions or "")
        run = RunFolder(Path(cfg.run) if cfg.run else path.parent)
        table = _bars(run, cfg.data.path, cfg.data.asset)
        recording = Recording.read(path, table)
    found = first_difference(recording, play_recording(recording, table, recording.cfg))
    if found is not None:
        print(f"{path}: {found}", file=sys.stderr)
        raise SystemExit(ERROR)
    print(
        f"{path}: {len(recording.rows):,} rows of {len(recording.length):,} episodes come out "
        "again, every account to the last bit"
    )


def _bars(run: RunFolder, path: str | None, asset: str | None) -> BarTable:
    if path is None:
        table = BarTable.load(run.bars)
        return table if asset is None else table.one_asset(asset)
    return load_bars_of(run, load_newest(run.checkpoints).config, path, asset)
