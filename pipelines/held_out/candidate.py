"""What is judged: the runs of one configuration, and the bars that they are measured on."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from envs.assets import parse_assets
from envs.bar_files import time_text
from envs.bar_table import BarTable
from envs.config import EnvConfig
from pipelines.config import RunConfig
from pipelines.held_out.replay_inputs import Inputs, load_inputs
from pipelines.judging.opening import Opening
from pipelines.resume import differences
from pipelines.seen_times import count_seen

SPLIT = "test"
# Keys in which runs of one configuration may differ: the seed, and what changes no number. A file
# of bars counts by its hash.
SEED_KEYS = (
    *("seed", "tag", "device", "resume", "run.", "logger", "wandb.", "alerts.", "replay."),
    "recorder.",
    *("checkpoint.every_s", "data.path", "env.compile", "train.cuda_graph"),
)


@dataclass(frozen=True)
class Candidate:
    """Policies of one configuration, one run for each seed and fold.

    Attributes:
        name: of the evaluation.
        seeds: the runs of each seed, by name, in the order of time.
        folds: where the runs of a seed were trained on parts of the bars, how each was cut.
    """

    name: str
    seeds: dict[str, list[Inputs]]
    folds: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def parts(self) -> list[Inputs]:
        """Of the first seed: every seed is measured on the same bars."""
        return next(iter(self.seeds.values()))

    @property
    def table(self) -> BarTable:
        """The bars."""
        return self.parts[0].table

    @property
    def env(self) -> EnvConfig:
        """The simulator's parameters."""
        return self.parts[0].cfg

    @property
    def device(self) -> torch.device:
        """Where everything is computed."""
        return self.parts[0].device

    @property
    def bounds(self) -> Tensor:
        """First and last bar of every tile of every part: int64 [tiles, 2]."""
        return torch.cat([part.bounds for part in self.parts])

    @property
    def bars(self) -> int:
        """How many bars are played."""
        return int((self.bounds[:, 1] - self.bounds[:, 0]).sum())

    @property
    def config_sha256(self) -> str:
        """Of the configuration, whatever the seed, and of the folds."""
        values = _without(_named(dataclasses.asdict(self.parts[0].trained)))
        plain = json.dumps([values, self.folds], sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()

    @property
    def checkpoint_sha256(self) -> str:
        """Of the one checkpoint, or of all that are judged together, whatever their order."""
        hashes = sorted(p.checkpoint_sha256 for parts in self.seeds.values() for p in parts)
        if len(hashes) == 1:
            return hashes[0]
        return hashlib.sha256(" ".join(hashes).encode()).hexdigest()

    def opening(self, purpose: str = "evaluate") -> Opening:
        """The look at the held-out bars that is to be written down before it happens."""
        times, bounds, meta = self.table.timestamp, self.bounds, self.table.meta
        first, last = bounds[:, 0].min() + 1, bounds[:, 1].max()
        return Opening(
            asset=meta.asset,
            source_sha256=meta.source_sha256,
            first_bar=time_text(int(times[first])),
            last_bar=time_text(int(times[last])),
            split=self.parts[0].split,
            run=self.name,
            config_sha256=self.config_sha256,
            checkpoint_sha256=self.checkpoint_sha256,
            purpose=purpose,
        )


def load_candidate(
    name: str,
    runs: Sequence[Sequence[str | Path]],
    *,
    data_path: str | None = None,
    checkpoint: str = "best",
    device: str = "auto",
    folds: Sequence[dict[str, Any]] = (),
    asset: str | None = None,
) -> Candidate:
    """Load the runs of every seed.

    Args:
        name: of the evaluation.
        runs: folders, of every seed, in the order of time.
        data_path: other bars than those that the runs were trained on.
        checkpoint: ``best`` on the validation split, or ``last``.
        device: where to compute.
        folds: how each part was cut.
        asset: which of the runs' markets, or the name of what `data_path` holds.

    Raises:
        FileNotFoundError: if a run lacks its checkpoint or its bars.
        ValueError: if a checkpoint is damaged or was not judged, the runs are of different
            configurations, naming the keys, or are measured on different bars, or on bars of the
            time that they were trained or chosen on.
    """
    seeds: dict[str, list[Inputs]] = {}
    for own in runs:
        parts = [
            load_inputs(
                path, data_path=data_path, split=SPLIT, episodes=None, device=device,
                checkpoint=checkpoint, asset=asset,
            )
            for path in own
        ]  # fmt: skip
        seed = f"seed {parts[0].trained.seed}"
        for part in parts:
            require_held_out(part)
        if seed in seeds:
            raise ValueError(f"{own[0]}: another run of {seed}; seeds are judged together once")
        seeds[seed] = parts
    _require_one_configuration(seeds)
    _require_several_policies(seeds)
    return Candidate(name, seeds, list(folds))


def require_held_out(part: Inputs) -> None:
    """Refuse to call bars held out in whose time a run was trained or its checkpoint chosen.

    Its weights may come from another run, or from before this one was changed.

    Raises:
        FileNotFoundError: if nobody can tell, since the run's own bars are gone.
        ValueError: naming the run and how many bars.
    """
    if part.seen is None:
        raise FileNotFoundError(f"{part.run.bars}: gone: nobody can tell what it was trained on")
    seen = count_seen(part.seen, part.table, part.bounds)
    found = [f"{count:,} that it was {how} on" for how, count in seen.items() if count]
    if found:
        raise ValueError(
            f"{part.table.meta.source_name}: the {SPLIT} bars are not held out for "
            f"{part.run.path}, they lie in the time of {' and '.join(found)}; later bars are needed"
        )


def _require_one_configuration(seeds: dict[str, list[Inputs]]) -> None:
    first, *others = seeds.values()
    for other in others:
        for a, b in zip(first, other, strict=True):
            found = differing_keys(a.trained, b.trained)
            if found:
                raise ValueError(
                    f"{b.run.path} is not another seed of {a.run.path}; it differs in "
                    f"{'; '.join(found)}"
                )
            if a.table.meta.source_sha256 != b.table.meta.source_sha256:
                raise ValueError(
                    f"{b.run.path} was trained on other bars than {a.run.path}: "
                    f"{b.table.meta.source_name}, {a.table.meta.source_name}"
                )


def _require_several_policies(seeds: dict[str, list[Inputs]]) -> None:
    for one, other in combinations(seeds.values(), 2):
        for a, b in zip(one, other, strict=True):
            if _same_weights(a, b):
                raise ValueError(
                    f"{b.run.path} has the weights of {a.run.path}: one policy is one seed"
                )


def _same_weights(one: Inputs, other: Inputs) -> bool:
    a, b = one.model.state_dict(), other.model.state_dict()
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def differing_keys(first: RunConfig, other: RunConfig) -> list[str]:
    """Keys in which two runs are of different configurations, with both values."""
    a, b = (_named(dataclasses.asdict(cfg)) for cfg in (first, other))
    return differences(a, b, free=SEED_KEYS)


def _named(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a configuration with its markets by their names alone, wherever files lie."""
    assets = values["data"]["assets"]
    if assets is not None:
        names = [asset.name for asset in parse_assets(assets)]
        values["data"] = values["data"] | {"assets": names}
    return values


def _without(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a configuration without those that seeds may differ in."""
    kept = {}
    for key, value in values.items():
        path = prefix + key
        if path in SEED_KEYS or f"{path}." in SEED_KEYS:
            continue
        kept[key] = _without(value, f"{path}.") if isinstance(value, dict) else value
    return kept
