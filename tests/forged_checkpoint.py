"""Checkpoints that somebody has changed, with hashes that are right again."""

import hashlib
import json


def write_manifest(checkpoint, text):
    """Put other bytes in the place of the manifest, with their hash beside them."""
    (checkpoint / "manifest.json").write_bytes(text)
    line = f"{hashlib.sha256(text).hexdigest()}  manifest.json\n"
    (checkpoint / "manifest.sha256").write_text(line)


def rehash(checkpoint, change=None):
    """Make every hash right, so that only the contents can be at fault; `change` the manifest."""
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    for name in manifest["files"]:
        if (checkpoint / name).is_file():
            digest = hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()
            manifest["files"][name] = digest
    if change is not None:
        change(manifest)
    write_manifest(checkpoint, json.dumps(manifest).encode())
