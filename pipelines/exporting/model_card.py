"""The card of a model: what it is, what it did on held-out bars, and what does not follow."""

import json
import shlex
from pathlib import Path

from envs.bar_files import time_text
from pipelines.exporting.card_verdicts import held_out_blocks
from pipelines.exporting.markdown import plain, table
from pipelines.exporting.published_run import Model, without_paths
from pipelines.number_text import duration

_HEAD = """---
library_name: pricetaker
pipeline_tag: reinforcement-learning
tags:
- reinforcement-learning
- trading
- torchrl
- ppo
---
"""
_WARNING = (
    "> **Nothing follows from this for the future.** What a policy earned on past bars, held out "
    "or not, says little about what it will earn on others. This is a result of research, not "
    "advice, and no reason to risk money."
)
_LOAD = """```python
{imports}from pipelines.held_out.replay_inputs import load_inputs

folder = {folder}
inputs = load_inputs(
    folder, data_path="bars.parquet", split="test", episodes=None, device="cpu"{named}
)
policy, table = inputs.policy, inputs.table
```"""
_PLAY = """```bash
python pipelines/replay.py run=policy data.path=bars.parquet{word}
```"""


def make_card(model: Model, repository: str | None = None) -> str:
    """The card as Markdown, with the head that the Hugging Face hub reads.

    Args:
        model: what is published.
        repository: on the hub, USER/NAME; None: a folder.

    Raises:
        ValueError: if an evaluation of the run is damaged.
    """
    blocks = [
        f"# {plain(model.name)}",
        *_what(model),
        _WARNING,
        "## On held-out bars",
        *held_out_blocks(model),
        "## To load it",
        *_loading(model, repository),
        "## What it was trained on",
        *_data(model),
        "## How",
        *_how(model),
    ]
    return _HEAD + "\n" + "\n\n".join(blocks) + "\n"


def _what(model: Model) -> list[str]:
    known, count = model.checkpoint, sum(value.numel() for value in model.checkpoint.model.values())
    interval, cfg = known.manifest["data"]["interval_s"], known.config
    markets = " and ".join(plain(name) for name in model.table.asset_names)
    return [
        f"A trading policy for {markets}, bars of {duration(interval)}. "
        f"{count:,} numbers, trained by proximal policy optimisation in pricetaker, a simulator of "
        f"one account that takes prices. It looks at {cfg.env.window} bars and at its own account, "
        "and decides direction, size, stop and target at the close of each bar."
    ]


def _loading(model: Model, repository: str | None) -> list[str]:
    imports, folder = "", '"policy"  # this one'
    if repository is not None:
        imports = "from huggingface_hub import snapshot_download\n\n"
        folder = f'snapshot_download("{repository}", local_dir="policy")'
    if model.checkpoint.config.data.synthetic.market:
        return [
            "It reads the columns of a market that is made, which no file of bars has. The folder "
            "is a run without bars: `init_from=policy` begins a training on such a market with its "
            "weights."
        ]
    about, named, word = "", "", ""
    if model.checkpoint.config.data.assets is not None:
        market = model.table.asset_names[0]
        about = "; `asset` is your name for the market in it"
        named = f", asset={json.dumps(market, ensure_ascii=False)}"
        word = f" {shlex.quote(f'data.asset={market}')}"
    return [
        f"From a checkout of pricetaker, for any file of bars of this length{about}:",
        _LOAD.format(imports=imports, folder=folder, named=named),
        "`policy` writes actions into the TensorDicts of `envs.factory.make_env`, whose accounts "
        "are on the scale that it knows; those of a bare `envs.market.MarketEnv` are not. The "
        "folder is a run without bars: `init_from=policy` begins a training with its weights, and "
        "this plays it:",
        _PLAY.format(word=word),
    ]


def _data(model: Model) -> list[str]:
    meta, time = model.table.meta, model.table.timestamp
    parts = meta.assets or (meta,)
    rows = [("market", "split", "bars", "from", "to")]
    for part in parts:
        for name, (first, end) in part.splits.items():
            begin, last = (time_text(int(time[row])) for row in (first, end - 1))
            rows.append((plain(part.asset), name, f"{end - first:,}", begin, last))
    sources = [
        f"{plain(part.asset)}: {plain(part.source_name or 'bars')}, sha256 `{part.source_sha256}`."
        for part in parts
    ]
    return [table(rows), "\n".join(f"- {line}" for line in sources), "The bars are not included."]


def _how(model: Model) -> list[str]:
    known = model.checkpoint.manifest
    values = model.checkpoint.values
    versions = ", ".join(f"{plain(k)} {plain(str(v))}" for k, v in known["versions"].items())
    config = json.dumps(without_paths(known["config"]), indent=1, sort_keys=True)
    return [
        f"Checkpoint {model.checkpoint.folder.name}, {values.get('frames', 0):,} frames; "
        f"commit {plain(str(known['git_revision']))}; {versions}.",
        f"Configuration, sha256 `{known['config_sha256']}` before the paths in it were left out:",
        f"<details><summary>all keys</summary>\n\n```json\n{config}\n```\n\n</details>",
    ]


def write_card(model: Model, folder: Path, repository: str | None = None) -> None:
    """Write the card as ``README.md``."""
    (folder / "README.md").write_text(make_card(model, repository), "utf-8")
