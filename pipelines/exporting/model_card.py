"""The card of a model: what it is, what it did on held-out bars, and what does not follow."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envs.bar_files import time_text
from pipelines.exporting.published_run import Model, without_paths
from pipelines.held_out.evaluation import EVALUATION
from pipelines.held_out.result import counted
from pipelines.reporting.report_inputs import ReportInputs
from pipelines.reporting.report_numbers import duration, minute, percent, ratio, signed_percent

_FOLDER = "evaluation"  # of a run, where `pipelines.evaluate` leaves it
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
inputs = load_inputs(folder, data_path="bars.parquet", split="test", episodes=None, device="cpu")
policy, table = inputs.policy, inputs.table
```"""
_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>|#"} | {"\n": " "})


def make_card(model: Model, repository: str | None = None) -> str:
    """The card as Markdown, with the head that the Hugging Face hub reads.

    Args:
        model: what is published.
        repository: on the hub, USER/NAME; None: a folder.

    Raises:
        ValueError: if the run's evaluation is damaged.
    """
    blocks = [
        f"# {_plain(model.name)}",
        *_what(model),
        _WARNING,
        "## On held-out bars",
        *_held_out(model),
        "## To load it",
        *_loading(repository),
        "## What it was trained on",
        *_data(model),
        "## How",
        *_how(model),
    ]
    return _HEAD + "\n" + "\n\n".join(blocks) + "\n"


def _what(model: Model) -> list[str]:
    known, count = model.checkpoint, sum(value.numel() for value in model.checkpoint.model.values())
    data, cfg = known.manifest["data"], known.config
    return [
        f"A trading policy for {_plain(data['asset'])}, bars of {duration(data['interval_s'])}. "
        f"{count:,} numbers, trained by proximal policy optimisation in pricetaker, a simulator of "
        f"one account that takes prices. It looks at {cfg.env.window} bars and at its own account, "
        "and decides direction, size, stop and target at the close of each bar."
    ]


def _held_out(model: Model) -> list[str]:
    folder = model.run / _FOLDER
    if not (folder / EVALUATION).is_file():
        return ["**No verdict.** This policy was not evaluated on held-out bars. Nobody knows."]
    values = ReportInputs.read(folder).values
    try:
        judged = [item["sha256"] for seed in values["seeds"] for item in seed["checkpoints"]]
        if judged != [model.checkpoint.sha256]:
            return ["**No verdict.** What was evaluated on held-out bars is another checkpoint."]
        return _verdict(values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / EVALUATION}: not an evaluation: {error!r}") from error


def _verdict(values: dict[str, Any]) -> list[str]:
    verdict, bars, looks = values["verdict"], values["bars"], values["looks"]
    rows = [("", "return", "Sharpe ratio", "largest drawdown", "trades")]
    for name, account in values["accounts"].items():
        equity, trades = account["equity"], account["trades"]
        rows.append(
            (
                _plain(name.replace("_", "-")),
                signed_percent(equity["total_return_fraction"]),
                ratio(account["period_sharpe"]),
                percent(equity["max_drawdown_fraction"]),
                "" if trades is None else f"{trades['trades']:,}",
            )
        )
    looked = (
        f"{counted(looks['openings'], 'look')} at these bars by "
        f"{counted(looks['trials'], 'candidate')} known, {looks['earlier']:,} before this one"
    )
    span = f"{_plain(minute(bars['first_bar']))} to {_plain(minute(bars['last_bar']))}"
    return [
        f"**Verdict: {_plain(verdict['word'])}.**",
        "\n".join(f"- {_plain(reason)}" for reason in verdict["reasons"]),
        f"{bars['bars']:,} test bars, {span}, {duration(86_400 * bars['days'])}; {looked}.",
        _table(rows),
        f"{_plain(values['costs']['break_even']['sentence'])} "
        f"{_plain(values['random']['sentence'])}",
    ]


def _loading(repository: str | None) -> list[str]:
    imports, folder = "", '"policy"  # this one'
    if repository is not None:
        imports = "from huggingface_hub import snapshot_download\n\n"
        folder = f'snapshot_download("{repository}", local_dir="policy")'
    return [
        "From a checkout of pricetaker, for any file of bars of this length:",
        _LOAD.format(imports=imports, folder=folder),
        "`policy` writes actions into the TensorDicts of `envs.market.MarketEnv`. The folder is a "
        "run without bars: `python pipelines/replay.py run=policy data.path=bars.parquet` plays "
        "it, `init_from=policy` begins a training with its weights.",
    ]


def _data(model: Model) -> list[str]:
    table, data = model.table, model.checkpoint.manifest["data"]
    rows = [("split", "bars", "from", "to")]
    for name, (first, end) in table.meta.splits.items():
        begin, last = (time_text(int(table.timestamp[row])) for row in (first, end - 1))
        rows.append((name, f"{end - first:,}", begin, last))
    source = f"{_plain(data['file'] or 'bars')}, sha256 `{data['sha256']}`"
    return [_table(rows), f"{source}. The bars are not included."]


def _how(model: Model) -> list[str]:
    known = model.checkpoint.manifest
    values = model.checkpoint.values
    versions = ", ".join(f"{_plain(k)} {_plain(str(v))}" for k, v in known["versions"].items())
    config = json.dumps(without_paths(known["config"]), indent=1, sort_keys=True)
    return [
        f"Checkpoint {model.checkpoint.folder.name}, {values.get('frames', 0):,} frames; "
        f"commit {_plain(str(known['git_revision']))}; {versions}.",
        f"Configuration, sha256 `{known['config_sha256']}` before the paths in it were left out:",
        f"<details><summary>all keys</summary>\n\n```json\n{config}\n```\n\n</details>",
    ]


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|{'---|' * len(rows[0])}")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that Markdown takes for nothing else."""
    return str(text).translate(_MARKS)


def write_card(model: Model, folder: Path, repository: str | None = None) -> None:
    """Write the card as ``README.md``."""
    (folder / "README.md").write_text(make_card(model, repository), "utf-8")
