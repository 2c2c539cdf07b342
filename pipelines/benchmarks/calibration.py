"""``suite=verdict full=true``: whole trainings, judged, with an edge to be found and without.

The rule is tried on matrices of returns by the hundred in
`pipelines.benchmarks.benchmark_verdict`. Here a network is
trained, chosen on validation and evaluated as a person would, each on a market of its own, small
enough for a minute on one core.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from pipelines.benchmarks.worker_pool import worker_pool
from pipelines.config import compose_config
from pipelines.evaluate import evaluate
from pipelines.judging.verdict import EDGE, NO_EDGE, NOT_ENOUGH
from pipelines.ppo_transformer import main as train_run

# Markets that nobody can earn on, and one whose next mean is planted as a feature.
DRIFTLESS, PLANTED = ("martingale", "heavy_tails"), "planted"
# At the usual costs a policy learns to stay flat where nothing can be earned. At these it trades
# on, and has to be told from luck.
CHEAP = tuple(
    f"env.{cost}_bps=0.1" for cost in ("taker_fee", "maker_fee", "slippage", "stop_slippage")
)
FRAMES = 65_536
_DRAWS = 200
_WORDS = (
    *("model=mlp", "env.workers=0", "env.window=8", "env.episode_bars=128", "env.paths=64"),
    *("train.steps=64", "train.minibatch=1024", "train.lr=1e-3", "data.synthetic.bars=163840"),
    *("recorder.enabled=false", "replay.enabled=false", "wandb.mode=disabled", "device=cpu"),
)


class Job(NamedTuple):
    """One training and its evaluation.

    Attributes:
        market: that is drawn.
        seed: of the market and of the training.
        words: that change the training, after all others.
    """

    market: str
    seed: int
    words: tuple[str, ...] = (f"total_frames={FRAMES}",)

    @property
    def costs(self) -> str:
        """Cheap or usual."""
        return "cheap" if set(CHEAP) <= set(self.words) else "usual"


def plan(driftless: int, planted: int, words: Sequence[str] = ()) -> list[Job]:
    """So many trainings without an edge, and with one.

    Args:
        driftless: on markets that nobody can earn on, half of them at costs of next to nothing.
        planted: on markets with an edge.
        words: that change all trainings.
    """
    told = (f"total_frames={FRAMES}", *words)
    without = [
        Job(DRIFTLESS[seed % 2], seed, told + CHEAP * (seed % 4 // 2)) for seed in range(driftless)
    ]
    return without + [Job(PLANTED, seed, told) for seed in range(planted)]


def try_trainings(jobs: Sequence[Job], workers: int) -> Iterator[dict[str, Any]]:
    """A row for each training, as soon as it and those before it are done.

    Args:
        jobs: from `plan`.
        workers: processes, of one thread each.
    """
    with worker_pool(workers, fresh=True) as pool:
        yield from tqdm(pool.imap(train_and_judge, jobs), total=len(jobs), unit="training")


def train_and_judge(job: Job) -> dict[str, Any]:
    """Train a policy, choose its checkpoint on validation, and evaluate it on the held-out bars."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        market = [f"data=synthetic/{job.market}", f"data.synthetic.seed={job.seed}"]
        own = [f"seed={job.seed}", f"run.dir={run}"]
        train_run(compose_config("ppo_transformer", [*market, *_WORDS, *own, *job.words]))
        found = evaluate([run], draws=_DRAWS, device="cpu")
    findings = found.verdict.findings
    return {
        "market": job.market,
        "seed": job.seed,
        "costs": job.costs,
        "verdict": found.verdict.word,
        "return, %": round(100.0 * findings.total_return_fraction, 2),
        "Sharpe": round(findings.sharpe, 2),
        "trades": round(findings.trades),
        "days": round(findings.days, 1),
    }


def count_words(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How often each word was said, a row where there was no edge and one where there was."""
    counted = []
    for name, markets in (("without an edge", DRIFTLESS), ("planted", (PLANTED,))):
        words = Counter(row["verdict"] for row in rows if row["market"] in markets)
        shown = {word: words[word] for word in (EDGE, NO_EDGE, NOT_ENOUGH)}
        counted.append({"markets": name, "trainings": words.total(), **shown})
    return counted
