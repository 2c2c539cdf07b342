"""``suite=verdict``: how often the verdict calls luck an edge, and how soon it sees a real one."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from pipelines.benchmarks.driftless import BASELINES, World, draw_returns
from pipelines.benchmarks.worker_pool import worker_pool
from pipelines.judging.findings import Evidence, Findings, find, recount
from pipelines.judging.verdict import EDGE, NO_EDGE, NOT_ENOUGH, judge

POWER = "power"
# Worlds without an edge. Of several policies the best is judged, and all are counted.
DRIFTLESS = {
    "one policy, a month": World(days=30),
    "one policy, a year": World(),
    "best of 10": World(policies=10),
    "best of 50, alike": World(policies=50, alike=0.7),
    "carried on, 0.2": World(persistence=0.2),
    "heavy tails, 3 df": World(tail_df=3.0),
    "rare large losses": World(skewed=True),
    "idle nine days of ten": World(idle=0.9),
    "best of 10 on a rising market": World(policies=10, market_sharpe=1.5, exposure=1.0),
    "best of 10 on a market of ratio 4": World(
        days=730, policies=10, market_sharpe=4.0, exposure=1.0, away=0.3
    ),
}
SHARPES = (-2.0, 0.0, 1.0, 2.0, 3.0, 5.0, 10.0)
DAYS = (30, 90, 180, 365, 730, 1460)
TRIALS = (1, 20)
_TRADES_A_DAY = 2.0


class Job(NamedTuple):
    """One matrix of returns to be judged."""

    kind: str
    world: World
    seed: int
    rivals: bool  # whether the returns of those that were not chosen are at hand


def try_verdicts(matrices: int, workers: int) -> list[dict[str, Any]]:
    """Rows on driftless worlds, then rows on edges of known size.

    Args:
        matrices: of each kind without an edge; of each true ratio and length a quarter as many.
        workers: processes.
    """
    jobs = plan(matrices)
    with worker_pool(workers) as pool:
        found = list(tqdm(pool.imap(find_best, jobs), total=len(jobs), unit="verdict"))
    return tabulate(jobs, found)


def plan(matrices: int) -> list[Job]:
    """Everything to be judged, see `try_verdicts`."""
    rng = np.random.Generator(np.random.PCG64(0))
    seeds = range(matrices)
    jobs = [Job("everything mixed", draw_world(rng), seed, bool(seed % 2)) for seed in seeds]
    jobs += [
        Job(kind, world, seed, bool(seed % 2))
        for kind, world in DRIFTLESS.items()
        for seed in seeds
    ]
    return jobs + [
        Job(POWER, World(days=float(days), sharpe=sharpe), seed, rivals=False)
        for sharpe in SHARPES
        for days in DAYS
        for seed in range(max(1, matrices // 4))
    ]


def find_best(job: Job) -> Findings:
    """Findings of the policy with the best Sharpe ratio, all of them counted as trials."""
    returns = draw_returns(job.world, job.seed)
    names = [f"policy_{i}" for i in range(job.world.policies)]
    means, spreads = returns.values[names].mean(), returns.values[names].std()
    best = str((means / spreads).idxmax())
    evidence = Evidence(
        returns=returns,
        seeds=[best],
        baselines=BASELINES,
        trades=_TRADES_A_DAY * job.world.days,
        trials=len(names),
        rivals=[name for name in names if name != best] if job.rivals else (),
    )
    return find(evidence, seed=job.seed)


def draw_world(rng: np.random.Generator) -> World:
    """A world without an edge, out of all that is known to mislead."""
    return World(
        days=float(rng.choice([30, 100, 180, 365, 730])),
        policies=int(rng.choice([1, 5, 20, 50])),
        alike=float(rng.choice([0.0, 0.5, 0.9])),
        tail_df=float(rng.choice([3.0, 4.0, 8.0])),
        persistence=float(rng.choice([-0.1, 0.0, 0.1, 0.2])),
        skewed=bool(rng.random() < 0.25),
        idle=float(rng.choice([0.0, 0.0, 0.9])),
        market_sharpe=float(rng.choice([-1.0, 0.0, 1.5, 4.0])),
        exposure=float(rng.choice([0.0, 1.0])),
    )


def tabulate(jobs: Sequence[Job], found: Sequence[Findings]) -> list[dict[str, Any]]:
    """A row for each kind without an edge, then one for each number of tries and true ratio.

    The latter hold shares of the words in per cent, ``edge / no edge``; the rest: not enough data.
    """
    judged = list(zip(jobs, found, strict=True))
    luck = [pair for pair in judged if pair[0].kind != POWER]
    power = [pair for pair in judged if pair[0].kind == POWER]
    rows: list[dict[str, Any]] = []
    for kind in dict.fromkeys(job.kind for job, _ in luck):
        words = Counter(judge(findings).word for job, findings in luck if job.kind == kind)
        rows.append({"without an edge": kind, "matrices": words.total(), **_counts(words)})
    for trials in TRIALS:
        cells: defaultdict[tuple[float, float], Counter[str]] = defaultdict(Counter)
        for job, findings in power:
            word = judge(recount(findings, trials)).word
            cells[job.world.sharpe, job.world.days][word] += 1
        for sharpe in SHARPES:
            shares = {f"{days} days": _shares(cells[sharpe, float(days)]) for days in DAYS}
            rows.append({"tries": trials, "true Sharpe ratio": sharpe, **shares})
    return rows


def _counts(words: Counter[str]) -> dict[str, int]:
    return {word: words[word] for word in (EDGE, NO_EDGE, NOT_ENOUGH)}


def _shares(words: Counter[str]) -> str:
    return " / ".join(f"{100 * words[word] / words.total():.0f}" for word in (EDGE, NO_EDGE))
