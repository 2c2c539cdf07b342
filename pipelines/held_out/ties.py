"""Where two rollouts of one deterministic policy part, and whether it was a tie.

The same windows encoded in another batch, in one pass or bar by bar have states that differ in the
last digits. Where two actions are as likely as each other to that precision, either may come out
on top, and from there on the accounts differ: nothing after the first difference of a tile says
anything.
"""

from typing import NamedTuple

from envs.ledger import HEADS
from pipelines.held_out.rollout import Rollout

TIE = 1e-4  # of logits


class Parting(NamedTuple):
    """The first step of a tile at which the rollouts chose differently."""

    tile: int
    account: int
    step: int
    head: str
    margin: float  # by how much the logits of the two choices differ, in either rollout at most

    @property
    def is_tie(self) -> bool:
        """Whether either choice was as good as the other."""
        return self.margin < TIE


def describe_partings(found: list[Parting], decisions: int) -> str:
    """What a comparison of a bulk replay with one bar at a time has shown, in a sentence."""
    told = f"Shown one bar at a time, {decisions:,} decisions"
    if not found:
        return f"{told} are those of the bulk replay."
    tiles = len({(parting.tile, parting.account) for parting in found})
    worst = max(parting.margin for parting in found)
    if worst < TIE:
        return (
            f"{told} are those of the bulk replay but for ties: in {tiles:,} tiles two actions "
            f"were as likely as each other to {worst:.1g}."
        )
    return (
        f"NOT the same one bar at a time: in {tiles:,} tiles another action was chosen, by as "
        f"much as {worst:.2g} in logits. The bulk replay knows what it must not."
    )


def partings(one: Rollout, other: Rollout) -> list[Parting]:
    """Every head that differs at the first differing step of each account of each tile.

    Up to that step both accounts were the same, and so were their logits up to rounding.

    Args:
        one: a rollout of a policy that wrote its logits.
        other: of the same tiles and accounts, likewise.
    """
    differs = {
        head: (one.batch["action", head] != other.batch["action", head]) & one.alive
        for head in HEADS
    }
    anywhere = sum(part.long() for part in differs.values()) > 0
    found = []
    for tile, account in anywhere.any(-1).nonzero().tolist():
        step = int(anywhere[tile, account].long().argmax())
        for head, part in differs.items():
            if part[tile, account, step]:
                at = (tile, account, step)
                chosen = [int(rollout.batch["action", head][at]) for rollout in (one, other)]
                margin = max(_margin(rollout, head, at, chosen) for rollout in (one, other))
                found.append(Parting(*at, head, margin))
    return found


def _margin(rollout: Rollout, head: str, at: tuple[int, int, int], chosen: list[int]) -> float:
    """How far apart two choices are in the logits of one rollout: both may be sure of their own."""
    logits = rollout.batch["params", head, "logits"][at][chosen]
    return float((logits[0] - logits[1]).abs())
