"""The sections of a report in words: what stands under its headings, beside the figures."""

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd

from pipelines.number_text import counted, percent, signed_percent
from pipelines.reporting.report_accounts import exits_table, trades_table
from pipelines.reporting.report_series import MAX_TRADES, Bars
from pipelines.reporting.report_table import paragraphs, terms
from pipelines.reporting.report_trades import HEADS, SeedTrades, top_share
from pipelines.reporting.report_verdict import participation_words


def candles_words(seeds: Sequence[SeedTrades], bars: Bars, values: dict[str, Any]) -> str:
    """What is to be said under the candles beside what the page itself says there."""
    words = []
    missing = values["bars"]["bars"] - len(bars.time_ms)
    if missing > 0:
        words.append(
            f"{counted(missing, 'bar')} that no seed played, being ruined, have no candle: the "
            "traces do not hold them."
        )
    most = MAX_TRADES // len(seeds)
    large = [seed.name for seed in seeds if len(seed.trades) > most]
    if large:
        words.append(f"Of {', '.join(large)} the page holds the {most:,} largest trades.")
    return paragraphs(words)


def trades_words(trades: pd.DataFrame, seeds: Sequence[SeedTrades], interval_s: float) -> str:
    """The trades, together and the largest of them, by return, reason and time."""
    if trades.empty:
        return "<p>The policy never traded: there is nothing to show of its trades.</p>"
    share = top_share(trades["profit"])
    together = "" if len(seeds) == 1 else f" of {len(seeds)} seeds together"
    best = (
        "No trade earned anything."
        if share is None
        else f"The five best trades earned {percent(share)} of the gross profit, that is, of all "
        "that the trades that earned did."
    )
    returns = trades["return_fraction"]
    words = [
        f"{counted(len(trades), 'trade')}{together}; median {signed_percent(returns.median())}, "
        f"mean {signed_percent(returns.mean())} of the position's size, after fees and slippage. "
        f"{best}",
        "Money, here and below, is in quote currency and summed over tiles, each of which begins "
        "with a fresh account: a sum may be more than an account ever had.",
    ]
    hours = (
        "Mean return of the trades by the time of their entry, with its 95 % interval "
        "(Student's t). Of 24 hours one lies off zero by chance"
    )
    alike = f"; as {len(seeds)} seeds trade the same bars, the intervals are too narrow"
    hours += "." if len(seeds) == 1 else f"{alike}, by up to {len(seeds) ** 0.5:.2g} times."
    return (
        f"{paragraphs(words)}"
        '<div class="pair"><div class="chart" id="returns" role="img" aria-label="histogram of '
        'the returns of trades"></div><div class="chart" id="holding" role="img" '
        'aria-label="histogram of holding times"></div></div>'
        f"{exits_table(trades)}"
        f"<h3>Best and worst trades</h3>{trades_table(trades, interval_s)}"
        f"<h3>When</h3>{paragraphs([hours])}"
        '<div class="pair"><div class="chart" id="hours" role="img" aria-label="mean return by '
        'hour"></div><div class="chart" id="weekdays" role="img" aria-label="mean return by '
        'weekday"></div></div>'
    )


def mix_words(seeds: Sequence[SeedTrades], bars: int) -> str:
    """How long positions were held, and what was chosen how often.

    Args:
        seeds: what each did.
        bars: that were to be played; an account that was ruined is flat in those that it lacks.
    """
    short, long = (sum(seed.sides[i] for seed in seeds) for i in range(2))
    total = len(seeds) * bars
    flat = total - short - long
    words = paragraphs(
        [
            f"At the close of a bar the account was long in {percent(long / total)}, short in "
            f"{percent(short / total)} and flat in {percent(flat / total)} of the bars.",
            "How often each value was chosen: of the direction in all actions, of the others in "
            "those that opened a position.",
        ]
    )
    charts = (
        f'<div class="chart" id="mix_{head}" role="img" aria-label="how often each value of '
        f'{head} was chosen"></div>'
        for head in HEADS
        if any(len(seed.choices[head]) for seed in seeds)
    )
    return f'{words}<div class="quad">{"".join(charts)}</div>'


def costs_words(values: dict[str, Any]) -> str:
    """What is left under other costs."""
    costs = values["costs"]
    words = [
        f"The recorded actions played again under other fees and slippage; 1 is "
        f"{costs['order_cost_bps']:g} bps an order, one side. Funding stays.",
    ]
    if values["verdict"]["findings"]["moved"]:
        words.append(costs["break_even"]["sentence"])
    return paragraphs(words)


def chance_words(values: dict[str, Any]) -> list[str]:
    """The policy among accounts of chance, and beside one that knows the future."""
    if not values["verdict"]["findings"]["moved"]:
        return []
    random, bound = values["random"], values["foresight"]
    words = [
        f"Matched random: {random['sentence']} 90 % of these accounts returned "
        f"{signed_percent(random['low_return_fraction'])} to "
        f"{signed_percent(random['high_return_fraction'])}, the median "
        f"{signed_percent(random['median_return_fraction'])}; a seed of the policy "
        f"{signed_percent(random['policy_return_fraction'])} in the mean. They made "
        f"{random['trades']:,.0f} trades and held a position in "
        f"{percent(random['exposure_fraction'])} of the bars, the policy "
        f"{random['policy_trades']:,.0f} and {percent(random['policy_exposure_fraction'])}.",
        f"Risk-matched hold: {values['risk_matched_share']:,.3g} of the equity in buy-and-hold "
        "moves as much as the policy.",
    ]
    if bound["share_fraction"] is not None:
        words.append(
            f"Perfect foresight: more than {bound['log_growth']:,.4g} of log growth is not to be "
            f"had from these bars by anybody who knows them all; the policy's is "
            f"{bound['policy_log_growth']:,.4g}, {100 * bound['share_fraction']:,.3g} % of that."
        )
    words.append(f"Participation: {participation_words(values['participation'])}")
    return words


def provenance_words(values: dict[str, Any]) -> str:
    """Data, configuration, looks: what one would need to do it again."""
    bars, about, receipt, looks = (values[k] for k in ("bars", "about", "receipt", "looks"))
    first = "the first" if looks["first"] else f"number {looks['earlier'] + 1:,}"
    pairs = [
        ("Data", str(bars["source_name"])),
        ("sha256 of the data", str(bars["source_sha256"]) or "no file"),
        ("Tiles, gaps", f"{bars['tiles']:,}, {bars['gaps']:,}"),
        ("sha256 of the configuration", str(about["config_sha256"])),
        ("sha256 of the checkpoint", str(about["checkpoint_sha256"]) or "several, see below"),
        ("Commit", str(about["git_revision"])),
        ("Look", f"{first}; {counted(looks['trials'], 'trial')}, "
                 f"{counted(looks['openings'], 'opening')} since {looks['begun']}"),
        ("Registry", f"{receipt['file']}, number {receipt['registry']}"),
        ("Receipt", f"line {receipt['line']:,}, sha256 {receipt['sha256']}"),
    ]  # fmt: skip
    checkpoints = {seed["name"]: dict(zip(seed["runs"], seed["checkpoints"], strict=True))
                   for seed in values["seeds"]}  # fmt: skip
    return terms(pairs) + "".join(
        f"<details><summary>{escape(title)}</summary><pre>{escape(_plain(part))}</pre></details>"
        for title, part in (
            ("Configuration", about["config"]),
            ("Settings of the evaluation", about["settings"]),
            ("Checkpoints", checkpoints),
        )
    )


def _plain(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
