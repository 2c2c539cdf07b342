"""What the card of a model says of held-out bars: every verdict on it, each with its market."""

from pathlib import Path
from typing import Any

from pipelines.exporting.markdown import plain, table
from pipelines.exporting.published_run import Model
from pipelines.held_out.evaluation_files import EVALUATION
from pipelines.judging.recounted import recounted
from pipelines.number_text import counted, days_played, minute, percent, ratio, signed_percent
from pipelines.reporting.report_inputs import ReportInputs
from pipelines.run_folder import RunFolder


def held_out_blocks(model: Model) -> list[str]:
    """Blocks of Markdown: the verdicts of the run's evaluations, or that there is none.

    Args:
        model: what is published; evaluations of another checkpoint say nothing about it.

    Raises:
        ValueError: if an evaluation of the run is damaged.
    """
    folders = RunFolder(model.run).evaluations()
    found = [folder for folder in folders if (folder / EVALUATION).is_file()]
    if not found:
        return ["**No verdict.** This policy was not evaluated on held-out bars. Nobody knows."]
    verdicts = [verdict for folder in found if (verdict := _read(folder, model))]
    if not verdicts:
        return ["**No verdict.** What was evaluated on held-out bars is another checkpoint."]
    markets = {market for market, _ in verdicts}
    missing = [name for name in model.table.asset_names if name not in markets]
    return [block for _, blocks in verdicts for block in blocks] + [
        f"**No verdict on {plain(name)}**, which it was trained on too. Nobody knows."
        for name in missing
    ]


def _read(folder: Path, model: Model) -> tuple[str, list[str]] | None:
    """The market and the blocks of one evaluation; None if it is of another checkpoint."""
    values = ReportInputs.read(folder).values
    try:
        judged = [item["sha256"] for seed in values["seeds"] for item in seed["checkpoints"]]
        if judged != [model.checkpoint.sha256]:
            return None
        blocks, now = _verdict(values, model), recounted(folder, values)
        if now is not None:
            blocks.insert(1, f"**{plain(now.title)}.** {plain(now.sentence)}")
        return values["bars"]["asset"], blocks
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / EVALUATION}: not an evaluation: {error!r}") from error


def _verdict(values: dict[str, Any], model: Model) -> list[str]:
    verdict, bars, looks = values["verdict"], values["bars"], values["looks"]
    looked = (
        f"counted since {plain(minute(looks['begun']))}: {counted(looks['openings'], 'look')} at "
        f"these bars, {looks['earlier']:,} before this one, and {counted(looks['trials'], 'trial')}"
    )
    span = f"{plain(minute(bars['first_bar']))} to {plain(minute(bars['last_bar']))}"
    blocks = [
        f"**Verdict: {plain(verdict['word'])}.** {_where(bars, model)}",
        "\n".join(f"- {plain(reason)}" for reason in verdict["reasons"]),
        f"{bars['bars']:,} test bars, {span} UTC, {days_played(bars['days'])}; {looked}.",
        table(_accounts(values)),
    ]
    if verdict["findings"]["moved"]:  # else there are no trades to speak of
        told = (values["costs"]["break_even"]["sentence"], values["random"]["sentence"])
        blocks.append(" ".join(map(plain, told)))
    return blocks


def _where(bars: dict[str, Any], model: Model) -> str:
    known = [part.source_sha256 for part in model.table.meta.assets or (model.table.meta,)]
    own = bars["source_sha256"] in known
    other = "" if own else ", which is no file that it was trained on"
    return f"On {plain(bars['asset'])}, file {plain(bars['source_name'])}{other}."


def _accounts(values: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("", "return", "Sharpe ratio", "largest drawdown", "trades")]
    for name, account in values["accounts"].items():
        equity, trades = account["equity"], account["trades"]
        rows.append(
            (
                plain(name.replace("_", "-")),
                signed_percent(equity["total_return_fraction"]),
                ratio(account["period_sharpe"]),
                percent(equity["max_drawdown_fraction"]),
                "" if trades is None else f"{trades['trades']:,}",
            )
        )
    return rows
