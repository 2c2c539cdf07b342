"""What a replay begins with: policies of runs, the bars, and whether they belong together."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchrl.modules import ActorValueOperator

from envs.assets import asset_folder, parse_assets
from envs.bar_table import BarTable
from envs.checks import require
from envs.config import EnvConfig
from envs.data_config import DataConfig
from envs.splits import times_fit
from envs.table import cut_table, load_columns
from pipelines.checkpoint import Checkpoint, seen_by
from pipelines.checkpoint_store import load_best, load_newest
from pipelines.config import RunConfig
from pipelines.device import pick_device
from pipelines.held_out.baselines import BASELINES
from pipelines.held_out.result import IN_SAMPLE, POLICY
from pipelines.held_out.rollout import Policy, split_tiles
from pipelines.model import make_model
from pipelines.rollout_policy import RolloutPolicy
from pipelines.run_folder import RunFolder
from pipelines.seen_times import Seen, count_seen

_LOADERS = {"last": load_newest, "best": load_best}
# What two policies that are played side by side may have been trained with.
_MAY_DIFFER = ("paths", "accounts", "workers", "compile", "window")
# Names that a result has for other accounts.
_TAKEN = (POLICY, *BASELINES)


@dataclass(frozen=True)
class Inputs:
    """What is replayed where.

    Attributes:
        run: folder of the run.
        model: the actor and the critic, on `device`.
        policy: the deterministic policy of it.
        table: the bars.
        cfg: the simulator's parameters that the policy was trained under.
        split: the split of the table.
        bounds: int64 [tiles, 2], first and last bar of every tile.
        notes: sentences that the result must carry.
        device: where everything is computed.
        trained: configuration of the run.
        checkpoint: folder of the checkpoint.
        checkpoint_sha256: of the manifest that holds the hashes of its files.
        seen: times that its weights were trained or chosen on; None if nobody can tell.
    """

    run: RunFolder
    model: ActorValueOperator
    policy: Policy
    table: BarTable
    cfg: EnvConfig
    split: str
    bounds: Tensor
    notes: list[str]
    device: torch.device
    trained: RunConfig
    checkpoint: Path
    checkpoint_sha256: str
    seen: Seen | None

    @property
    def folder(self) -> Path:
        """Where results belong: in the run, under the market's name if it is not the only one."""
        return replay_folder(self.run, self.trained.data, self.table.meta.asset)


def replay_folder(run: RunFolder, data: DataConfig, asset: str) -> Path:
    """Where the replay of a market belongs.

    Args:
        run: the run's folder.
        data: what it was trained on.
        asset: the market that is replayed.
    """
    own = [each.name for each in parse_assets(data.assets)] if data.assets else [data.asset]
    return run.path if own == [asset] else run.path / f"replay_{asset_folder(asset)}"


def load_inputs(
    run_dir: str | Path,
    *,
    data_path: str | None,
    split: str,
    episodes: int | None,
    device: torch.device | str,
    checkpoint: str = "last",
    asset: str | None = None,
) -> Inputs:
    """Read policy and bars, and refuse them if they do not belong together; see `replay`."""
    run = RunFolder(Path(run_dir))
    loaded = _LOADERS[checkpoint](run.checkpoints)
    cfg = loaded.config.env
    table = load_bars_of(run, loaded.config, data_path, asset)
    require_fit(loaded, table)
    bounds = split_tiles(table, cfg, split, episodes)
    device = pick_device(str(device))
    model, seen = load_model(loaded, table, device), seen_by(loaded)
    return Inputs(
        run=run,
        model=model,
        policy=RolloutPolicy(model),
        table=table,
        cfg=cfg,
        split=split,
        bounds=bounds,
        notes=[*in_sample_notes(seen, table, bounds), *_cut_notes(loaded.config.data, table)],
        device=device,
        trained=loaded.config,
        checkpoint=loaded.folder,
        checkpoint_sha256=loaded.sha256,
        seen=seen,
    )


def load_bars_of(
    run: RunFolder, trained: RunConfig, path: str | None, asset: str | None
) -> BarTable:
    """One market: of the run's own bars, or of another file, read and cut as the run's was.

    Times that the run's own file was cut at say nothing of a file of later bars alone, which no
    policy has seen: where they leave a split of it without bars, the fractions cut it.

    Args:
        run: the run's folder.
        trained: its configuration.
        path: the other file; None: the run's own bars.
        asset: the market's name; None: the only one of the run.

    Raises:
        FileNotFoundError: if the bars are gone.
        ValueError: if they cannot be read, or it is not said which market is meant.
    """
    if path is None:
        return BarTable.load(run.bars).one_asset(asset)
    data, cfg = trained.data, trained.env
    named = asset is not None or data.assets is None
    require(named, "data.asset", asset, f"the name of the market of {path}: the run has its own")
    data = dataclasses.replace(data, path=path, assets=None, asset=asset or data.asset)
    bars, columns, names = load_columns(data)
    if not times_fit(bars.time_ns, data):
        data = dataclasses.replace(data, start=None, val_start=None, test_start=None, end=None)
    return cut_table(bars, columns, names, data, window=cfg.window, episode_bars=cfg.episode_bars)


def _cut_notes(data: DataConfig, table: BarTable) -> list[str]:
    """Say so if a file was not cut at the times at which the run's own bars were."""
    if times_fit(table.timestamp.numpy(), data):
        return []
    return ["Cut by the fractions: the times of the run's own cuts leave a part of the file empty."]


def load_beside(run_dir: str | Path, first: Inputs, checkpoint: str = "last") -> Inputs:
    """Another run's policy, to be played over the tiles of the first.

    Raises:
        FileNotFoundError: if the run lacks its checkpoint.
        ValueError: if its simulator is another, or its window longer, so that the results would not
            compare; or if the bars do not fit the policy.
    """
    run = RunFolder(Path(run_dir))
    loaded = _LOADERS[checkpoint](run.checkpoints)
    cfg = loaded.config.env
    for name, value in vars(first.cfg).items():
        other = getattr(cfg, name)
        if name not in _MAY_DIFFER and other != value:
            raise ValueError(
                f"beside={run_dir}: env.{name} is {other!r} there and {value!r} in {first.run.path}"
            )
    if cfg.window > first.cfg.window:
        raise ValueError(
            f"beside={run_dir}: env.window is {cfg.window} there and {first.cfg.window} in "
            f"{first.run.path}: name the run with the longest window first, run={run_dir}"
        )
    require_fit(loaded, first.table)
    model = load_model(loaded, first.table, first.device)
    seen = seen_by(loaded)
    notes = [f"{run.name}: {note}" for note in in_sample_notes(seen, first.table, first.bounds)]
    return dataclasses.replace(
        first, run=run, model=model, policy=RolloutPolicy(model), notes=notes,
        trained=loaded.config, checkpoint=loaded.folder, checkpoint_sha256=loaded.sha256,
        seen=seen,
    )  # fmt: skip


def require_distinct(inputs: Sequence[Inputs]) -> None:
    """Refuse two runs of one name, which would share a line and a trace.

    Args:
        inputs: the first one's line is ``policy``, whatever its name; the others' are their names.

    Raises:
        ValueError: naming it.
    """
    names = [each.run.name for each in inputs]
    for name in names[1:]:
        if names.count(name) > 1 or name in _TAKEN:
            raise ValueError(f"beside={name}: a name of its own is needed for every policy")


def require_fit(checkpoint: Checkpoint, table: BarTable) -> None:
    """Refuse bars whose features or length are not those that the policy was trained on.

    Raises:
        ValueError: naming what the policy knows and what the bars have.
    """
    checkpoint.require_features(table.meta.feature_names)
    known = checkpoint.manifest["data"]["interval_s"]
    if table.meta.interval_s != known:
        raise ValueError(
            f"{table.meta.source_name}: bars of {table.meta.interval_s:g} s; the policy was "
            f"trained on bars of {known:g} s"
        )


def load_model(checkpoint: Checkpoint, table: BarTable, device: torch.device) -> ActorValueOperator:
    """The checkpoint's model, looking at `table` through the normaliser it was trained with."""
    cfg = checkpoint.config
    model = make_model(cfg.model, cfg.env, table)
    checkpoint.load_model_state(model)  # replaces the table's normaliser by the checkpoint's
    return model.to(device).eval()


def in_sample_notes(seen: Seen | None, table: BarTable, bounds: Tensor) -> list[str]:
    """Say so if replayed bars lie in the time that the policy was trained or chosen on."""
    if seen is None:
        return [f"Perhaps {IN_SAMPLE.lower()}: the run's own bars are gone, so nobody can tell."]
    total = int((bounds[:, 1] - bounds[:, 0]).sum())
    return [
        f"{IN_SAMPLE}: the policy was {how} on the time of {count:,} of these {total:,} bars."
        for how, count in count_seen(seen, table, bounds).items()
        if count
    ]
