"""What is to be known beside a verdict: holes, coarse ticks, other markets, where looks count."""

import math

import torch

from envs.assets import parse_assets
from envs.config import BPS
from pipelines.held_out.candidate import Candidate
from pipelines.held_out.cost_curve import order_cost_bps
from pipelines.judging.known_looks import Looks
from pipelines.number_text import counted

WHOLE = 0.9  # share of the time that is played, from which on nothing is said of the rest
COARSE = 0.1  # share of an order's costs, from which on the rounding of its price is told


def run_notes(candidate: Candidate) -> list[str]:
    """What the runs themselves say of these bars, each sentence once."""
    runs = [part for parts in candidate.seeds.values() for part in parts]
    return list(dict.fromkeys(note for part in runs for note in part.notes))


def coverage(candidate: Candidate, sharpe: float) -> list[str]:
    """Whether much of the time was not played: holes, nights, weekends, and warm-ups after each.

    Args:
        candidate: what was played.
        sharpe: for a year of played bars, which is longer than one of the calendar.
    """
    meta, bounds = candidate.table.meta, candidate.bounds
    times = candidate.table.timestamp[torch.stack([bounds[:, 0].min() + 1, bounds[:, 1].max()])]
    span = int(times[1] - times[0]) / 1e9 / meta.interval_s + 1
    played = candidate.bars
    if played >= WHOLE * span:
        return []
    return [
        f"Of the time between the first and the last of these bars {100 * played / span:.0f} % was "
        "played: the rest are holes in the data, and the warm-up after each. Figures of a year are "
        f"of 365 days of played bars, {span / played:.2f} years here; by the calendar the Sharpe "
        f"ratio is {sharpe * math.sqrt(played / span):.2f}."
    ]


def coarse_tick(candidate: Candidate) -> list[str]:
    """Whether prices rounded to the tick cost an order much beside fee and slippage.

    Without slippage a fill is the reference itself, unrounded.
    """
    cfg, bounds = candidate.env, candidate.bounds
    close = candidate.table.ohlcv[bounds[:, 1], 3].median()
    tick_bps, cost_bps = cfg.tick_size / float(close) / BPS, order_cost_bps(cfg)
    if cfg.slippage_bps == 0.0 or tick_bps / 2.0 < COARSE * cost_bps:
        return []
    return [
        f"Prices of fills are rounded to env.tick_size={cfg.tick_size:g} against the account, "
        f"which takes up to {tick_bps:.2g} bps an order at these prices beside the "
        f"{cost_bps:.3g} bps of fee and slippage: no multiple of the costs scales it, and the "
        "break-even does not know it."
    ]


def other_markets(candidate: Candidate) -> list[str]:
    """Of how many markets this is one."""
    assets = candidate.parts[0].trained.data.assets
    names = [] if assets is None else [each.name for each in parse_assets(assets)]
    if len(names) < 2:
        return []
    own = candidate.table.meta.asset
    rest = ", ".join(name for name in names if name != own)
    return [f"This is {own} alone, and says nothing of what it was trained on as well: {rest}."]


def other_bars(looks: Looks) -> list[str]:
    """Which tries were made at other bars, and what looks at others are no tries.

    Args:
        looks: as the registry knows them.
    """
    found, elsewhere = [], looks.trials - looks.candidates
    if elsewhere:
        same = "was the same policy" if elsewhere == 1 else "were the same policies"
        found.append(
            f"Of the {looks.trials:,} tries {elsewhere:,} {same} on other bars: who quotes the "
            "best of several markets, or files, has chosen among all of them."
        )
    if looks.apart:
        # A policy trained anew for each of twenty markets is twenty first looks, each of one try.
        found.append(
            f"The registry knows {counted(looks.apart, 'more candidate')} at other markets or "
            "times, no tries here: who quotes the best of all these results has chosen among them."
        )
    return found


def uncounted(*, at_home: bool, begun: str, beside: int) -> list[str]:
    """Whether all tries can be known.

    Args:
        at_home: whether the registry is one that others who look with these runs find.
        begun: when, ISO 8601.
        beside: more candidates at these bars that registries near it know.
    """
    found = []
    if not at_home:
        found.append(
            f"The registry that counted looks, begun {begun[:10]}, is none that is found "
            "above the runs: of looks that are counted elsewhere it knows nothing."
        )
    if beside:
        found.append(
            f"Registries near the one that counted looks know {counted(beside, 'more candidate')} "
            "at these bars, no tries here: runs whose looks are to be counted together lie under "
            "one registry."
        )
    return found
