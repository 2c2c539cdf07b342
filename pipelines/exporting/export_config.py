"""What an export is told."""

import re
from dataclasses import dataclass

from envs.checks import require, require_between, require_one_of

CHECKPOINTS = ("all", "best", "last")
_ACTIONS = ("run", "verify", "unpack", "fetch")
# Keys that mean something for one action only.
_BELONGS = {"out": "run", "model": "run", "hub": "run", "port": "fetch"}
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*")
_PORTS = (1, 65_535)


@dataclass
class ExportConfig:
    """A run as one file: ``python pipelines/export.py run=runs/NAME``.

    Raises:
        ValueError: for a value out of range, no or several things to do, or a key that does not
            belong to what is done, naming the key, the value and what is allowed.
    """

    # Folder of a run to pack.
    run: str | None = None
    # The archive to make, FILE.tar.gz; null: beside the run, under its name.
    out: str | None = None
    # Of a run: all of its checkpoints, the best on validation, or the last. Of a model: the best
    # (all, best), or the last.
    checkpoints: str = "all"
    # Take the traces along: without them no run goes on, and no report is made anew.
    traces: bool = True
    # Take the files of Weights & Biases along.
    wandb: bool = False
    # An archive whose every byte is to be checked against its hashes.
    verify: str | None = None
    # An archive to check and unpack.
    unpack: str | None = None
    # An archive on another machine, [USER@]HOST:PATH, to bring here with rsync over ssh and check.
    fetch: str | None = None
    # Folder for what is unpacked or fetched; nothing in it is overwritten.
    into: str = "runs"
    # Of the ssh server; null: as ~/.ssh/config has it.
    port: int | None = None
    # What an archive may hold, in GB; one that holds more is refused before it is unpacked.
    limit_gb: float = 50.0
    # A new folder for the model alone: weights, how to load them, and a card about them.
    model: str | None = None
    # Repository on the Hugging Face hub, USER/NAME, to push the same to: pip install -e '.[hub]'.
    hub: str | None = None
    # A repository that has to be made is open to all; otherwise only you see it.
    public: bool = False

    def __post_init__(self) -> None:
        asked = [key for key in _ACTIONS if getattr(self, key)]
        wanted = "one of run=FOLDER, verify=FILE, unpack=FILE, fetch=HOST:PATH"
        if len(asked) != 1:
            raise ValueError(f"{' and '.join(asked) or 'nothing'} to do: give {wanted}")
        for key, action in _BELONGS.items():
            value = getattr(self, key)
            require(value is None or action in asked, key, value, f"null without {action}=")
        require_one_of("checkpoints", self.checkpoints, CHECKPOINTS)
        require_between("limit_gb", self.limit_gb, 0.001, 1e6)
        if self.port is not None:
            require_between("port", self.port, *_PORTS)
        if self.hub is not None:
            fits = bool(_REPOSITORY.fullmatch(self.hub))
            require(fits, "hub", self.hub, "USER/NAME, in letters, digits and - _ .")
        if self.out is not None:
            require(self.out.endswith(".tar.gz"), "out", self.out, "a name ending in .tar.gz")
