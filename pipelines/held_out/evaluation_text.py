"""An evaluation for a terminal: the verdict first, then what it rests on."""

import os.path
from pathlib import Path

from pipelines.held_out.evaluation import Evaluation
from pipelines.held_out.result import aligned
from pipelines.judging.performance import EquityFigures, TradeFigures
from pipelines.number_text import a_year, counted, minute, money, signed_percent, wrapped


def as_text(evaluation: Evaluation, folder: Path) -> str:
    """Everything that a person should see before anything else, percentages in per cent.

    Args:
        evaluation: what to tell.
        folder: where it lies, as seen from where the person is.
    """
    blocks = [
        _verdict(evaluation),
        _accounts(evaluation),
        _costs(evaluation),
        _folds(evaluation),
        _looks(evaluation, folder),
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def _verdict(evaluation: Evaluation) -> list[str]:
    lines = [f"VERDICT: {evaluation.verdict.word}"]
    for reason in evaluation.verdict.reasons:
        lines += wrapped(reason, "  - ")
    return lines


def _accounts(evaluation: Evaluation) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("", "return", "a year", "Sharpe", "max drawdown", "trades", "fees")
    ]
    for name, account in evaluation.accounts.items():
        rows.append(_row(name, account.equity, account.trades, evaluation.sharpes[name]))
    if len(evaluation.seeds) > 1:
        for i, seed in enumerate(evaluation.seeds):
            figures = seed.performance
            rows.insert(2 + i, _row(seed.name, figures.equity, figures.trades, seed.sharpe))
    return [*wrapped(evaluation.bars.line), *aligned(rows)]


def _row(
    name: str, equity: EquityFigures, trades: TradeFigures | None, sharpe: float
) -> tuple[str, ...]:
    return (
        name.replace("_", "-"),
        signed_percent(equity.total_return_fraction),
        a_year(equity.cagr_fraction),
        f"{sharpe:.2f}",
        f"{100 * equity.max_drawdown_fraction:.2f} %",
        "" if trades is None else f"{trades.trades:,}",
        "" if trades is None else money(trades.fees),
    )


def _costs(evaluation: Evaluation) -> list[str]:
    costs, bound = evaluation.costs, evaluation.foresight
    found = evaluation.intervals
    curve = ", ".join(f"x{m:g} {signed_percent(total)}" for m, total in costs.returns.items())
    lines = wrapped(f"costs ({costs.order_cost_bps:g} bps an order): {curve}")
    if not evaluation.verdict.findings.moved:
        return lines
    if found:
        sharpe, fall = found["sharpe"], found["max_drawdown_fraction"]
        lines += wrapped(
            f"95 % intervals, stationary bootstrap: Sharpe {sharpe.low:.2f} to {sharpe.high:.2f}, "
            f"max drawdown at the ends of the tested periods, {100 * fall.estimate:.2f} %, "
            f"{100 * fall.low:.2f} % to {100 * fall.high:.2f} %"
        )
    lines += wrapped(evaluation.random.sentence)
    if bound.share_fraction is not None:
        lines.append(
            f"Perfect foresight bounds log growth by {bound.log_growth:,.4g}; the policy's is "
            f"{100 * bound.share_fraction:.3g} % of that."
        )
    return lines


def _folds(evaluation: Evaluation) -> list[str]:
    if not evaluation.folds:
        return []
    names = list(evaluation.folds[0]["returns"])
    rows = [("fold", "test from", "to", *names, "buy-and-hold")]
    for fold in evaluation.folds:
        first, last = map(minute, fold["test"])
        returns = (signed_percent(fold["returns"][name]) for name in names)
        hold = signed_percent(fold["buy_and_hold"])
        rows.append((str(fold["fold"]), first, last, *returns, hold))
    return aligned(rows)


def _looks(evaluation: Evaluation, folder: Path) -> list[str]:
    looks, receipt = evaluation.looks, evaluation.receipt
    which = "first look" if looks.earlier == 0 else f"look number {looks.earlier + 1}"
    return [
        f"{which} at these bars, {counted(looks.trials, 'trial')} in all, counted since "
        f"{minute(looks.begun)} UTC;",
        f"line {receipt.line} of {os.path.normpath(folder / evaluation.registry)}",
    ]
