"""Reads what W&B's client wrote: a log of blocks (the format of LevelDB) of its own messages."""

import json
import struct
import time
from pathlib import Path

from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 32_768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def payloads(data: bytes):
    """The records of a log, joined where a block's end has cut them."""
    assert data[:4] == b":W&B"
    at, parts = HEADER, b""
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:  # too little for a header: filled up with zeros
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        if kind == 0:
            return
        part = data[at + HEADER : at + HEADER + length]
        if len(part) < length:
            return
        at += HEADER + length
        parts = part if kind in (FULL, FIRST) else parts + part
        if kind in (FULL, LAST):
            yield parts


class WandbFile:
    """What one process has told W&B.

    Args:
        run: the run's folder.
        ended: wait until the run has ended: W&B's own process writes after `finish` returns.
    """

    def __init__(self, run: Path, *, ended: bool = True) -> None:
        # Where it could not be reached, the folder of the attempt holds next to nothing.
        (self.folder,) = (run / "wandb").glob("offline-run-*")
        (path,) = self.folder.glob("*.wandb")
        patience = time.monotonic() + 30
        while True:
            self.records = [
                wandb_internal_pb2.Record.FromString(each) for each in payloads(path.read_bytes())
            ]
            if not ended or self.of("exit"):
                return
            assert time.monotonic() < patience, f"{path}: the run has not ended"
            time.sleep(0.05)

    def of(self, kind: str) -> list:
        """The messages of one kind, in order."""
        found = [r for r in self.records if r.WhichOneof("record_type") == kind]
        return [getattr(record, kind) for record in found]

    @property
    def run(self):
        """How the run was begun."""
        return self.of("run")[0]

    @property
    def config(self) -> dict:
        """The configuration that W&B was given."""
        return {item.key: json.loads(item.value_json) for item in self.run.config.update}

    @property
    def history(self) -> list[dict]:
        """One dictionary for every step."""
        rows = []
        for message in self.of("history"):
            row: dict = {}
            for item in message.item:
                name, *rest = item.nested_key or [item.key]
                value = json.loads(item.value_json)
                if rest:  # a histogram, a table or a chart
                    row.setdefault(name, {})[rest[0]] = value
                else:
                    row[name] = value
            rows.append(row)
        return rows

    @property
    def artifacts(self) -> dict[str, list]:
        """Everything that was logged under a name, in order."""
        found: dict[str, list] = {}
        for message in self.of("artifact"):
            found.setdefault(message.name, []).append(message)
        return found

    def media(self, name: str) -> dict:
        """The contents of a table or chart."""
        (row,) = [row for row in self.history if name in row]
        return json.loads((self.folder / "files" / row[name]["path"]).read_text("utf-8"))
