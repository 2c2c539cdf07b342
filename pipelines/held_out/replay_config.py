"""What a replay is told."""

import re
from dataclasses import dataclass, field

from envs.checks import require, require_at_least, require_between, require_cell, require_one_of
from envs.data_config import SPLITS

CHECKPOINTS = ("last", "best")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass
class ReplayDataConfig:
    """The bars to replay on."""

    # Parquet or CSV, or a folder that pipelines/download.py has made; null: the bars that the run
    # was trained on.
    path: str | None = None
    # The market: one of those that the run was trained on, or the name of what `path` holds; null:
    # the run's only one.
    asset: str | None = None

    def __post_init__(self) -> None:
        if self.asset is not None:
            require_cell("data.asset", self.asset)


@dataclass
class ReplayConfig:
    """One replay of a trained policy: ``python pipelines/replay.py run=PATH``.

    Raises:
        ValueError: for a value out of range, naming the key, the value and what is allowed.
    """

    # Folder of the run whose policy is replayed.
    run: str = ""
    # Folders of more runs, whose policies are played over the same tiles beside it.
    beside: list[str] = field(default_factory=list)
    # A trace whose actions are played again instead of a policy: its accounts must come out, to the
    # last bit. The bars are those of the run in its folder, or in `run`.
    actions: str | None = None
    # last or best: the newest checkpoint, or the one that did best on the validation split.
    checkpoint: str = "last"
    data: ReplayDataConfig = field(default_factory=ReplayDataConfig)
    # train, val or test.
    split: str = "test"
    # Tiles of env.episode_bars to play, the first ones; null: all of the split.
    episodes: int | None = None
    # Folder for the results; null: that of the run.
    out: str | None = None
    # File in which looks at test bars are counted; null: openings.jsonl above the run's folder.
    registry: str | None = None
    # Encode the windows of all steps before the first one; false: step by step, for comparison.
    bulk: bool = True
    # Show the policy one closed bar at a time, and compare what it does with the bulk replay.
    live_like: bool = False
    # Draw the actions, as in training; false: the most likely index of each head.
    sampled: bool = False
    # Of the random baseline, and of sampled actions.
    seed: int = 0
    # auto (CUDA if there is any), cpu, cuda or cuda:N.
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.actions is None:
            require(bool(self.run), "run", self.run, "the folder of a run, run=PATH")
        else:
            allowed = "null with beside, live_like or sampled: a trace has its actions"
            alone = not (self.beside or self.live_like or self.sampled)
            require(alone, "actions", self.actions, allowed)
        own = "one thing: the most likely actions can be compared, drawn ones differ by chance"
        require(not (self.live_like and self.sampled), "sampled", "true with live_like", own)
        require_one_of("checkpoint", self.checkpoint, CHECKPOINTS)
        require_one_of("split", self.split, SPLITS)
        if self.episodes is not None:
            require_at_least("episodes", self.episodes, 1)
        require_seed_and_device(self.seed, self.device)


def require_seed_and_device(seed: int, device: str) -> None:
    """Refuse a seed or the name of a device that no machine knows.

    Raises:
        ValueError: naming the key, the value and what is allowed.
    """
    require_between("seed", seed, 0, 2**31 - 1)
    require(bool(_DEVICE.fullmatch(device)), "device", device, "auto, cpu, cuda or cuda:N")
