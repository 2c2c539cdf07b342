"""A run as one file that a person can carry: ``python pipelines/export.py run=runs/NAME``.

``verify=FILE`` checks every byte, ``unpack=FILE`` makes a run of it, ``fetch=HOST:PATH`` brings one
from another machine. ``run=runs/NAME hub=USER/NAME`` pushes the weights with a card about them to
the Hugging Face hub, ``model=FOLDER`` writes the same to a folder. See ``docs/export.md``.
"""

from pipelines.ending import end_plainly

if __name__ == "__main__":
    end_plainly()

import sys

from pipelines.config import ExportConfig, load_config
from pipelines.refusal import plain_failures, plain_refusals

if __name__ == "__main__":
    # Before what loads for seconds: --help and a mistake are answered at once.
    with plain_failures():
        CONFIG = load_config("export", sys.argv[1:])

import signal
from pathlib import Path
from types import FrameType

from pipelines.exporting.archive_manifest import ArchiveManifest
from pipelines.exporting.fetch import fetch_archive
from pipelines.exporting.hub import push_model, write_model
from pipelines.exporting.pack import pack_run
from pipelines.exporting.published_run import load_published
from pipelines.exporting.run_files import Choice, held_still
from pipelines.exporting.unpack import unpack_archive, verify_archive
from pipelines.number_text import counted
from pipelines.source import short_revision

_SHOWN = 5
# What a person has named; everything else that the system refuses is the disk's.
_REFUSED = (ValueError, FileNotFoundError, FileExistsError, BlockingIOError)


def main(cfg: ExportConfig) -> None:
    """Do the one thing that was asked for, and print what came of it.

    Raises:
        SystemExit: with 2 for what cannot be packed, verified or unpacked.
        OSError: if the disk refuses, or has no room.
        SourceError: if another machine cannot be reached.
    """
    with plain_refusals(_REFUSED):
        if cfg.verify:
            manifest = verify_archive(Path(cfg.verify))
            print(describe(manifest), "every byte is as it was packed", sep="\n")
        elif cfg.unpack:
            _unpack(Path(cfg.unpack), cfg)
        elif cfg.fetch:
            path, manifest = fetch_archive(cfg.fetch, Path(cfg.into), cfg.port)
            print(describe(manifest), path, sep="\n")
        elif cfg.run:
            run = Path(cfg.run)
            if cfg.out or not (cfg.model or cfg.hub):
                _pack(run, cfg)
            if cfg.model or cfg.hub:
                _publish(run, cfg)


def _pack(run: Path, cfg: ExportConfig) -> None:
    choice = Choice(cfg.checkpoints, cfg.traces, cfg.wandb)
    packed = pack_run(run, Path(cfg.out) if cfg.out else None, choice)
    print(describe(packed.manifest))
    if packed.strange:
        more = len(packed.strange) - _SHOWN
        shown = [*packed.strange[:_SHOWN], *([f"{more:,} more"] if more > 0 else [])]
        print(f"left there, no files of a run: {', '.join(shown)}")
    print(f"{packed.path} ({packed.path.stat().st_size / 1e6:,.1f} MB)")


def _unpack(archive: Path, cfg: ExportConfig) -> None:
    got = unpack_archive(archive, Path(cfg.into), limit_gb=cfg.limit_gb)
    if got.looks:
        looks = counted(got.looks, "look")
        print(f"{looks} at held-out bars came along, {got.fresh:,} new in {got.registry}")
    print(got.folder)


def _publish(run: Path, cfg: ExportConfig) -> None:
    with held_still(run):
        model = load_published(run, cfg.checkpoints)
        if cfg.model:
            print(write_model(model, Path(cfg.model)))
        if cfg.hub:
            print(push_model(model, cfg.hub, public=cfg.public))


def describe(manifest: ArchiveManifest) -> str:
    """An archive in a line, for a terminal."""
    about = manifest.about
    known = about.get("git_revision")  # of an archive from elsewhere it may be anything
    commit = short_revision(str(known) if known else None)
    return (
        f"{manifest.run}: {counted(len(manifest.files), 'file')}, {manifest.size / 1e6:,.1f} MB, "
        f"checkpoint {about.get('checkpoint')}, commit {commit}, "
        f"{counted(len(manifest.looks), 'look')} at held-out bars"
    )


def _stop(number: int, _: FrameType | None) -> None:
    """End by way of the blocks that clean up: no half file stays."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    for interruption in (signal.SIGTERM, signal.SIGINT):
        signal.signal(interruption, _stop)
    with plain_failures():
        main(CONFIG)
